/* posix_spawn_one: one posix_spawn of this program as a leaf that ends with 17. */
#include "programs.h"
#include <spawn.h>

int main(int argc, char **argv)
{
	end_if_leaf(argc, argv);
	char *leaf[] = {(char *)"posix_spawn_one", (char *)"leaf", (char *)"17", NULL}, *env[] = {NULL};
	pid_t child;
	if ((errno = posix_spawn(&child, own_path(), NULL, NULL, leaf, env)))
		die("posix_spawn: %s", strerror(errno));
	expect_exit(child, 17);
	say("child pid=%d path=%s\n", (int)child, own_path());
	pid_t missing;
	int error = posix_spawn(&missing, "/nonexistent/program", NULL, NULL, leaf, env);
	expect(error == ENOENT, "posix_spawn of a missing file tells ENOENT");
	say("refused errno=%s\n", errno_name(error));
	say("ok\n");
	return 0;
}
