#include "words.h"

int puts(const char *);

int main(void)
{
	return puts(word()) < 0;
}
