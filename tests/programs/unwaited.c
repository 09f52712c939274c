/* unwaited: a process ends without having waited for its child, which has ended: somebody else waits for it then. */
#include "programs.h"

int main(void)
{
	siginfo_t ended;
	pid_t middle = (pid_t)must(fork(), "fork");
	if (middle == 0) {
		pid_t child = (pid_t)must(fork(), "fork");
		if (child == 0)
			_exit(3);
		must(waitid(P_PID, (id_t)child, &ended, WEXITED | WNOWAIT), "waitid");
		_exit(4);
	}
	expect_exit(middle, 4);
	pid_t last = (pid_t)must(fork(), "fork");
	if (last == 0)
		_exit(5);
	expect_exit(last, 5);
	say("ok\n");
	return 0;
}
