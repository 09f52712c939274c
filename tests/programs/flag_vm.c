/* flag_vm with|without [user]: does a child that writes a variable write its creator's? */
#include "sharing.h"

int main(int argc, char **argv)
{
	return flag_program(argc, argv, "CLONE_VM", CLONE_VM, 0, 0, EFFECTS(&effect_memory));
}
