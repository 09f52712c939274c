/* thread_vfork: a thread, not a process, whose creator is held until it ends (CLONE_THREAD with CLONE_VFORK). */
#include "programs.h"

static int run(void *where)
{
	volatile int *seen = where;
	seen[0] = (int)own_tid();
	seen[1] = (int)getpid();
	return 0;
}

int main(void)
{
	volatile int seen[2] = {0, 0};
	unsigned long flags = THREAD_FLAGS | CLONE_VFORK;
	long tid = clone_on_stack(flags, new_stack(), run, (void *)seen);
	if (tid < 0)
		die("clone: %s", strerror((int)-tid));
	expect(seen[0] == tid, "the thread ran before its creator went on");
	expect(seen[1] == (int)getpid(), "it is a thread of this process");
	say("thread call=clone flags=0x%lx tid=%ld pid=%d\n", flags, tid, seen[1]);

	struct clone3_args args = {.flags = flags};
	tid = clone3_on_stack(&args, sizeof args, new_stack(), run, (void *)seen);
	if (tid < 0)
		die("clone3: %s", strerror((int)-tid));
	expect(seen[0] == tid, "the thread ran before its creator went on");
	say("thread call=clone3 flags=0x%lx tid=%ld pid=%d\n", flags, tid, seen[1]);
	say("ok\n");
	return 0;
}
