/* stack_inlines [N=1]: N forks, each below functions that the compiler is told to inline into each other. */
#include "programs.h"

#define APART __attribute__((noinline, noclone))
#define INTO static inline __attribute__((always_inline))

static volatile long made;

INTO void innermost(void)
{
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	expect_exit(child, 0);
	made++;
}

INTO void between(void)
{
	made++;
	innermost();
	made--;
}

APART static void holds_both(void)
{
	between();
	made += 0;
}

INTO void into_main(void)
{
	holds_both();
	made += 0;
}

int main(int argc, char **argv)
{
	for (long left = number(argc, argv, 1, 1); left > 0; left--)
		into_main();
	say("ok made=%ld\n", made);
	return 0;
}
