/* orphan_unannounced [N=50]: a forker is killed while it forks; those of its children that were made live on.
 *
 * The kill can come between the making of a child and the creator's report of it to a tracer. Each child says its own
 * pid as its first act, so the list is complete whatever a tracer was told.
 */
#include "programs.h"

enum { AT_MOST = 32 };

static void round_of(long round)
{
	int born[2];
	struct gate gate = make_gate();
	must(pipe2(born, O_CLOEXEC), "pipe2");
	pid_t forker = (pid_t)must(raw_fork(), "fork");
	if (forker == 0) {
		for (int i = 0; i < AT_MOST; i++)
			if (must(raw_fork(), "fork") == 0) {
				pid_t self = getpid();
				drop_key(gate);
				put(born[1], &self, sizeof self);
				close(born[1]);
				wait_at(gate);
				_exit(0);
			}
		for (;;)
			pause();
	}
	pid_t pid;
	close(born[1]);
	expect(get(born[0], &pid, sizeof pid), "a first child");
	must(kill(forker, SIGKILL), "kill");
	int status = ended(forker);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the forker was killed");
	do
		say("orphan round=%ld pid=%d forker=%d\n", round, (int)pid, (int)forker);
	while (get(born[0], &pid, sizeof pid));
	drop_key(gate);
	while (waitpid(-1, &status, __WALL) > 0)
		expect(status == 0, "an orphan ended by itself");
	expect(errno == ECHILD, "all orphans were waited for");
	close(gate.wait);
	close(born[0]);
}

int main(int argc, char **argv)
{
	long rounds = number(argc, argv, 1, 50);
	must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER");
	for (long i = 0; i < rounds; i++)
		round_of(i);
	say("ok rounds=%ld\n", rounds);
	return 0;
}
