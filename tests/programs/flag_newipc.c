/* flag_newipc with|without [user]: does a key find the same semaphore in both? */
#include "sharing.h"

int main(int argc, char **argv)
{
	need_namespace("ipc");
	return flag_program(argc, argv, "CLONE_NEWIPC", CLONE_NEWIPC, 0, CLONE_NEWIPC, EFFECTS(&effect_semaphore));
}
