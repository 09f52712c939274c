/* self_stop [N=5]: a child stops itself, by SIGSTOP and by SIGTSTP, and is continued by its parent, N times each. */
#include "programs.h"

static siginfo_t next_change(pid_t child)
{
	siginfo_t info;
	memset(&info, 0, sizeof info);
	must(waitid(P_PID, (id_t)child, &info, WEXITED | WSTOPPED | WCONTINUED), "waitid");
	return info;
}

int main(int argc, char **argv)
{
	long times = number(argc, argv, 1, 5);
	int next[2];
	char byte = 0;
	must(pipe2(next, O_CLOEXEC), "pipe2");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		/* Its own process group, with a parent outside: in an orphaned one SIGTSTP would stop nothing. */
		must(setpgid(0, 0), "setpgid");
		for (long i = 0; i < 2 * times; i++) {
			must(kill(getpid(), i % 2 ? SIGTSTP : SIGSTOP), "kill");
			/* A stop before the parent saw this one's end would take its place. */
			expect(get(next[0], &byte, 1), "the parent's word");
		}
		_exit(6);
	}
	int stops[2] = {0, 0}, continues = 0;
	for (;;) {
		siginfo_t info = next_change(child);
		if (info.si_code == CLD_EXITED) {
			expect(info.si_status == 6, "the child's exit code");
			break;
		}
		expect(info.si_code == CLD_STOPPED, "the child stops or ends");
		stops[info.si_status == SIGTSTP]++;
		must(kill(child, SIGCONT), "kill SIGCONT");
		info = next_change(child);
		expect(info.si_code == CLD_CONTINUED, "the child goes on");
		continues++;
		put(next[1], &byte, 1);
	}
	expect(stops[0] == times && stops[1] == times, "as many stops as signals");
	say("ok pid=%d sigstop=%d sigtstp=%d continued=%d\n", (int)child, stops[0], stops[1], continues);
	return 0;
}
