/* vdso_busy [N=1000000]: N system calls that no tracer of process creation cares about. */
#include "programs.h"

int main(int argc, char **argv)
{
	long times = number(argc, argv, 1, 1000000), parent = (long)getppid();
	for (long i = 0; i < times; i++)
		expect(syscall(SYS_getppid) == parent, "the parent stays the same");
	say("ok calls=%ld\n", times);
	return 0;
}
