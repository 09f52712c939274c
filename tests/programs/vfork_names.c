/* vfork_names: a vfork child changes a local variable of main, a global number and a member of a global struct. */
#include "programs.h"

volatile long total;
volatile struct {
	int m, n;
} state = {3, 1};

int main(void)
{
	volatile int a = 5;
	pid_t child = vfork();
	if (child == 0) {
		a = 10;
		total = 42;
		state.n = 9;
		_exit(0);
	}
	expect_exit(child, 0);
	expect(a == 10 && total == 42 && state.m == 3 && state.n == 9, "what the child wrote");
	say("ok a=%d\n", a);
	return 0;
}
