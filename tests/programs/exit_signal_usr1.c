/* exit_signal_usr1: processes that send SIGUSR1 to their parent when they end, by clone and by clone3. */
#include "programs.h"

int main(void)
{
	sigset_t both;
	sigemptyset(&both);
	sigaddset(&both, SIGUSR1);
	sigaddset(&both, SIGCHLD);
	must(sigprocmask(SIG_BLOCK, &both, NULL), "sigprocmask");
	for (int use_clone3 = 0; use_clone3 < 2; use_clone3++) {
		struct clone3_args args = {.exit_signal = SIGUSR1};
		pid_t child = (pid_t)must(use_clone3 ? raw_clone3(&args, sizeof args)
						     : raw_clone(SIGUSR1, NULL, NULL, NULL, 0), "clone");
		if (child == 0)
			_exit(5);
		siginfo_t info;
		must(sigwaitinfo(&both, &info), "sigwaitinfo");
		expect(info.si_signo == SIGUSR1 && info.si_pid == child, "SIGUSR1 from the child");
		/* si_status is not looked at: a 32-bit program gets it with SIGCHLD only (siginfo_layout). */
		expect(info.si_code == CLD_EXITED, "the signal says that the child ended by itself");
		expect_exit(child, 5);
		say("process call=%s pid=%d signal=%d\n", use_clone3 ? "clone3" : "clone", (int)child, info.si_signo);
	}
	sigset_t pending;
	must(sigpending(&pending), "sigpending");
	expect(!sigismember(&pending, SIGUSR1) && !sigismember(&pending, SIGCHLD), "one signal a child");
	say("ok\n");
	return 0;
}
