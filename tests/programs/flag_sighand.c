/* flag_sighand with|without [user]: does sigaction in the child change its creator's handlers? */
#include "sharing.h"

int main(int argc, char **argv)
{
	return flag_program(argc, argv, "CLONE_SIGHAND", CLONE_SIGHAND, CLONE_VM, 0, EFFECTS(&effect_handler));
}
