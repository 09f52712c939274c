/* flag_files with|without [user]: does a child open and close descriptors for its creator? */
#include "sharing.h"

int main(int argc, char **argv)
{
	return flag_program(argc, argv, "CLONE_FILES", CLONE_FILES, 0, 0, EFFECTS(&effect_descriptor));
}
