/* exit_signal_zero: processes that send nothing to their parent when they end, by clone and by clone3. */
#include "programs.h"

int main(void)
{
	sigset_t chld;
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	must(sigprocmask(SIG_BLOCK, &chld, NULL), "sigprocmask");
	for (int use_clone3 = 0; use_clone3 < 2; use_clone3++) {
		struct clone3_args args = {.flags = 0};
		pid_t child = (pid_t)must(use_clone3 ? raw_clone3(&args, sizeof args)
						     : raw_clone(0, NULL, NULL, NULL, 0), "clone");
		if (child == 0)
			_exit(getpid() == own_tid() ? 5 : 6);
		int status;
		expect(waitpid(child, &status, 0) == -1 && errno == ECHILD, "wait without __WALL does not see it");
		expect_exit(child, 5);
		say("process call=%s pid=%d\n", use_clone3 ? "clone3" : "clone", (int)child);
	}
	sigset_t pending;
	must(sigpending(&pending), "sigpending");
	expect(!sigismember(&pending, SIGCHLD), "no SIGCHLD came");
	say("ok\n");
	return 0;
}
