/* vfork_exec: the child of a vfork executes this program again, as a leaf that ends with 9. */
#include "programs.h"

int main(int argc, char **argv)
{
	end_if_leaf(argc, argv);
	const char *path = own_path();
	pid_t child = vfork();
	if (child == 0) {
		execl(path, "vfork_exec", "leaf", "9", (char *)NULL);
		_exit(127);
	}
	must(child, "vfork");
	expect_exit(child, 9);
	say("child pid=%d path=%s\n", (int)child, path);
	say("ok\n");
	return 0;
}
