/* fork_tree [DEPTH=2] [WIDTH=3]: each process forks WIDTH children, down to DEPTH. */
#include "programs.h"

static long grow(long depth, long width)
{
	pid_t children[width ? width : 1];
	int counts[2];
	long processes = 1;
	must(pipe2(counts, O_CLOEXEC), "pipe2");
	for (long i = 0; depth > 0 && i < width; i++) {
		pid_t parent = getpid();
		children[i] = (pid_t)must(fork(), "fork");
		if (children[i] == 0) {
			close(counts[0]);
			say("process pid=%d parent=%d left=%ld\n", (int)getpid(), (int)parent, depth - 1);
			long below = grow(depth - 1, width);
			put(counts[1], &below, sizeof below);
			_exit(0);
		}
	}
	close(counts[1]);
	for (long i = 0; depth > 0 && i < width; i++) {
		long below;
		expect_exit(children[i], 0);
		expect(get(counts[0], &below, sizeof below), "a count from each child");
		processes += below;
	}
	close(counts[0]);
	return processes;
}

int main(int argc, char **argv)
{
	long depth = number(argc, argv, 1, 2), width = number(argc, argv, 2, 3);
	say("process pid=%d parent=%d left=%ld\n", (int)getpid(), (int)getppid(), depth);
	say("ok processes=%ld\n", grow(depth, width));
	return 0;
}
