/* textbook_vfork: a vfork child adds to the variables of its parent, which waits until the child is done. */
#include "programs.h"

static int data = 7;

/* The child runs on its parent's stack and so only adds and ends. */
int main(void)
{
	volatile int stack = 5;
	volatile int *heap = malloc(sizeof *heap);
	expect(heap != NULL, "memory");
	*heap = 11;
	int was_stack = stack, was_data = data, was_heap = *heap;
	pid_t child = vfork();
	if (child == 0) {
		stack += 5;
		data += 5;
		*heap += 5;
		_exit(0);
	}
	must(child, "vfork");
	say("main: stack %d -> %d\n", was_stack, stack);
	say("main: data %d -> %d\n", was_data, data);
	say("main: heap %d -> %d\n", was_heap, *heap);
	expect_exit(child, 0);
	expect(stack == 10 && data == 12 && *heap == 16, "the child wrote into its parent's memory");
	say("shared resource=mm answer=yes by=variables when=created pid=%d child=%d\n", (int)getpid(), (int)child);
	say("ok\n");
	return 0;
}
