/* setsid_daemon: the double fork of a daemon; the orphan says its parent before and after its own dies. */
#include "programs.h"

int main(void)
{
	int out[2];
	struct gate looked = make_gate(), dead = make_gate();
	must(pipe2(out, O_CLOEXEC), "pipe2");
	pid_t middle = (pid_t)must(fork(), "fork");
	if (middle == 0) {
		must(setsid(), "setsid");
		pid_t daemon = (pid_t)must(fork(), "fork");
		if (daemon != 0) {
			drop_key(looked);
			wait_at(looked);
			_exit(0);
		}
		drop_key(dead);
		pid_t ids[4] = {getpid(), getppid(), 0, getsid(0)};
		drop_key(looked);
		wait_at(dead);
		ids[2] = getppid();
		put(out[1], ids, sizeof ids);
		_exit(0);
	}
	close(out[1]);
	drop_key(looked);
	/* Not before the middle one is reaped: only then is the orphan sure to have its new parent. */
	expect_exit(middle, 0);
	drop_key(dead);
	pid_t ids[4];
	char byte;
	expect(get(out[0], ids, sizeof ids), "a line from the daemon");
	expect(!get(out[0], &byte, 1), "the daemon ended");
	expect(ids[1] == middle && ids[2] != middle, "the middle one was the daemon's parent");
	expect(ids[3] == middle, "the session is the middle one's");
	say("daemon pid=%d middle=%d before=%d after=%d session=%d\n", (int)ids[0], (int)middle, (int)ids[1],
	    (int)ids[2], (int)ids[3]);
	say("ok\n");
	return 0;
}
