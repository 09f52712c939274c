#include "words.h"

const char *word(void)
{
	return "hello";
}
