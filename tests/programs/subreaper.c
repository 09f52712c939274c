/* subreaper: an orphan gets this process, which asked for it by PR_SET_CHILD_SUBREAPER, as its new parent. */
#include "programs.h"

int main(void)
{
	struct gate dead = make_gate();
	int born[2];
	must(pipe2(born, O_CLOEXEC), "pipe2");
	must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER");
	pid_t reaper = getpid(), middle = (pid_t)must(fork(), "fork");
	if (middle == 0) {
		pid_t orphan = (pid_t)must(fork(), "fork");
		if (orphan == 0) {
			drop_key(dead);
			wait_at(dead);
			_exit(getppid() == reaper ? 4 : 5);
		}
		put(born[1], &orphan, sizeof orphan);
		_exit(0);
	}
	pid_t orphan;
	expect(get(born[0], &orphan, sizeof orphan), "the orphan's pid");
	expect_exit(middle, 0);
	drop_key(dead);
	expect_exit(orphan, 4);
	say("orphan pid=%d creator=%d reaper=%d\n", (int)orphan, (int)middle, (int)reaper);
	say("ok\n");
	return 0;
}
