/* flag_newcgroup with|without [user]: does /proc/self/cgroup begin at the child's own cgroup? */
#include "sharing.h"

int main(int argc, char **argv)
{
	need_cgroup();
	return flag_program(argc, argv, "CLONE_NEWCGROUP", CLONE_NEWCGROUP, 0, 0, EFFECTS(&effect_cgroup));
}
