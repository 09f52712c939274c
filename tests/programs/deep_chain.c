/* deep_chain [N=100]: each process forks one child, N generations deep; all are alive when the last is made. */
#include "programs.h"

int main(int argc, char **argv)
{
	long depth = number(argc, argv, 1, 100), level = 0;
	pid_t child = 0;
	for (; level < depth && (child = (pid_t)must(raw_fork(), "fork")) == 0; level++)
		say("process level=%ld pid=%d parent=%d\n", level + 1, (int)getpid(), (int)getppid());
	if (level < depth)
		expect_exit(child, 0);
	if (level == 0)
		say("ok depth=%ld\n", depth);
	return 0;
}
