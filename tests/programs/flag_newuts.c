/* flag_newuts with|without [user]: does the child rename its creator's host? */
#include "sharing.h"

int main(int argc, char **argv)
{
	need_namespace("uts");
	return flag_program(argc, argv, "CLONE_NEWUTS", CLONE_NEWUTS, 0, CLONE_NEWUTS, EFFECTS(&effect_hostname));
}
