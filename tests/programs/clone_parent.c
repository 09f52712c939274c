/* clone_parent: a child makes siblings of itself by CLONE_PARENT, through clone and through clone3. */
#include "programs.h"

static void sibling(pid_t creator, const char *call)
{
	expect(getppid() != creator, "the creator is not the parent");
	say("sibling call=%s pid=%d parent=%d creator=%d\n", call, (int)getpid(), (int)getppid(), (int)creator);
	_exit(3);
}

int main(void)
{
	int made[2];
	must(pipe2(made, O_CLOEXEC), "pipe2");
	pid_t creator = (pid_t)must(fork(), "fork");
	if (creator == 0) {
		pid_t self = getpid(), siblings[2];
		struct clone3_args args = {.flags = CLONE_PARENT};
		siblings[0] = (pid_t)must(raw_clone(CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0), "clone");
		if (siblings[0] == 0)
			sibling(self, "clone");
		siblings[1] = (pid_t)must(raw_clone3(&args, sizeof args), "clone3");
		if (siblings[1] == 0)
			sibling(self, "clone3");
		put(made[1], siblings, sizeof siblings);
		int status;
		expect(waitpid(-1, &status, __WALL) == -1 && errno == ECHILD, "the creator has no child to wait for");
		_exit(0);
	}
	pid_t siblings[2];
	expect(get(made[0], siblings, sizeof siblings), "the siblings' pids");
	expect_exit(siblings[0], 3);
	expect_exit(siblings[1], 3);
	expect_exit(creator, 0);
	say("ok pid=%d creator=%d\n", (int)getpid(), (int)creator);
	return 0;
}
