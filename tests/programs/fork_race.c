/* fork_race [N=300] [fork|vfork|thread]: a grandchild makes N children one after the other.
 *
 * A tracer's waitpid looks at its own children first, so only for tasks further down does a new child's first stop
 * race with the event of its creator.
 */
#include "programs.h"

static void *no_work(void *unused)
{
	return unused;
}

static void make_one(const char *kind)
{
	if (strcmp(kind, "thread") == 0) {
		pthread_t thread;
		if ((errno = pthread_create(&thread, NULL, no_work, NULL)))
			die("pthread_create: %s", strerror(errno));
		pthread_join(thread, NULL);
		return;
	}
	pid_t child = strcmp(kind, "vfork") == 0 ? vfork() : raw_fork();
	if (child == 0)
		_exit(0);
	must(child, kind);
	expect_exit(child, 0);
}

int main(int argc, char **argv)
{
	long count = number(argc, argv, 1, 300);
	const char *kind = argc > 2 ? argv[2] : "fork";
	if (strcmp(kind, "fork") && strcmp(kind, "vfork") && strcmp(kind, "thread"))
		usage("fork_race [N] [fork|vfork|thread]");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		pid_t grandchild = (pid_t)must(fork(), "fork");
		if (grandchild == 0) {
			say("forker pid=%d\n", (int)getpid());
			for (long i = 0; i < count; i++)
				make_one(kind);
			_exit(0);
		}
		expect_exit(grandchild, 0);
		_exit(0);
	}
	expect_exit(child, 0);
	say("ok made=%ld kind=%s\n", count, kind);
	return 0;
}
