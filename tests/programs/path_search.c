/* path_search: execvp finds this program in the fourth directory of PATH; the three before do not exist. */
#include "programs.h"

int main(int argc, char **argv)
{
	end_if_leaf(argc, argv);
	char path[PATH_MAX + 64];
	const char *self = own_path(), *slash = strrchr(self, '/');
	snprintf(path, sizeof path, "/nonexistent/a:/nonexistent/b:/nonexistent/c:%.*s", (int)(slash - self), self);
	must(setenv("PATH", path, 1), "setenv");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		execlp(slash + 1, slash + 1, "leaf", "13", (char *)NULL);
		_exit(127);
	}
	expect_exit(child, 13);
	say("child pid=%d path=%s\n", (int)child, self);
	say("ok\n");
	return 0;
}
