/* die_early [N=101] [child|parent]: SIGKILL at the moment of a fork.
 *
 * child   a new child is killed by its parent at once, N times
 * parent  a process that does nothing but fork is killed by its sibling, N times
 */
#include "programs.h"

static void kill_child(void)
{
	pid_t child = (pid_t)must(raw_fork(), "fork");
	if (child == 0)
		for (;;)
			pause();
	must(kill(child, SIGKILL), "kill");
	int status = ended(child);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the child was killed");
}

static void fork_for_ever(int first)
{
	for (;;) {
		pid_t child = (pid_t)must(raw_fork(), "fork");
		if (child == 0)
			_exit(0);
		if (first >= 0)
			put(first, "", 1);
		first = -1;
		expect_exit(child, 0);
	}
}

static void kill_parent(void)
{
	int first[2];
	must(pipe2(first, O_CLOEXEC), "pipe2");
	pid_t forker = (pid_t)must(raw_fork(), "fork");
	if (forker == 0)
		fork_for_ever(first[1]);
	pid_t killer = (pid_t)must(raw_fork(), "fork");
	if (killer == 0) {
		char byte;
		expect(get(first[0], &byte, 1), "the forker began");
		must(kill(forker, SIGKILL), "kill");
		_exit(0);
	}
	expect_exit(killer, 0);
	int status = ended(forker);
	expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "the forker was killed");
	while (waitpid(-1, &status, __WALL) > 0)
		expect(status == 0, "an orphan ended by itself");
	expect(errno == ECHILD, "all orphans were waited for");
	close(first[0]);
	close(first[1]);
}

int main(int argc, char **argv)
{
	long rounds = number(argc, argv, 1, 101);
	int parent = chosen(argc, argv, 2, "parent");
	if (argc > 2 && !parent && !chosen(argc, argv, 2, "child"))
		usage("die_early [N] [child|parent]");
	must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER");
	for (long i = 0; i < rounds; i++)
		parent ? kill_parent() : kill_child();
	say("ok killed=%ld\n", rounds);
	return 0;
}
