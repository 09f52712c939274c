/* flag_newnet with|without [user]: is lo the same interface in both? */
#include "sharing.h"

int main(int argc, char **argv)
{
	need_namespace("net");
	return flag_program(argc, argv, "CLONE_NEWNET", CLONE_NEWNET, 0, CLONE_NEWNET, EFFECTS(&effect_mtu));
}
