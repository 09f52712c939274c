/* many_processes [N=1009] [alive]: N children one after the other, or all of them alive at once. */
#include "programs.h"

int main(int argc, char **argv)
{
	long count = number(argc, argv, 1, 1009);
	int alive = chosen(argc, argv, 2, "alive");
	pid_t *children = calloc((size_t)count + 1, sizeof *children);
	struct gate gate = make_gate();
	expect(children != NULL, "memory");
	for (long i = 0; i < count; i++) {
		children[i] = (pid_t)must(raw_fork(), "fork");
		if (children[i] == 0) {
			drop_key(gate);
			if (alive)
				wait_at(gate);
			_exit(0);
		}
		say("process pid=%d\n", (int)children[i]);
		if (!alive)
			expect_exit(children[i], 0);
	}
	drop_key(gate);
	for (long i = 0; alive && i < count; i++)
		expect_exit(children[i], 0);
	say("ok processes=%ld\n", count);
	return 0;
}
