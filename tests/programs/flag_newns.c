/* flag_newns with|without [user]: does what one mounts show in the other? */
#include "sharing.h"

int main(int argc, char **argv)
{
	need_namespace("mnt");
	return flag_program(argc, argv, "CLONE_NEWNS", CLONE_NEWNS, 0, CLONE_NEWNS, EFFECTS(&effect_mount));
}
