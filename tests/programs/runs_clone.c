/* runs_clone: children that start in a function, by clone() of the C library and by hand; each line has its addresses. */
#include "programs.h"

static int one(void *argument)
{
	return *(int *)argument;
}

static int two(void *argument)
{
	return *(int *)argument + 1;
}

static void by_library(const char *what, int (*function)(void *), int flags, int code)
{
	static int argument = 21;
	char *stack = new_stack();
	pid_t child = (pid_t)must(clone(function, stack + STACK_BYTES, flags | SIGCHLD, &argument), "clone");
	expect_exit(child, code);
	say("runs what=%s tid=%d function=0x%llx argument=0x%llx\n", what, (int)child,
	    (unsigned long long)ADDRESS(function), (unsigned long long)ADDRESS(&argument));
}

static void by_hand(const char *what, long call)
{
	static int argument = 30;
	struct clone3_args args = {.flags = CLONE_VM, .exit_signal = SIGCHLD};
	long child = call == SYS_clone ? clone_on_stack(CLONE_VM | SIGCHLD, new_stack(), one, &argument)
				       : clone3_on_stack(&args, sizeof args, new_stack(), one, &argument);
	expect(child > 0, what);
	expect_exit((pid_t)child, 30);
	say("hand what=%s tid=%d\n", what, (int)child);
}

static void returning(const char *what, pid_t (*make)(void))
{
	pid_t child = make();
	if (child == 0)
		_exit(3);
	must(child, what);
	expect_exit(child, 3);
	say("returns what=%s tid=%d\n", what, (int)child);
}

static void by_vfork(void)
{
	pid_t child = vfork();
	if (child == 0)
		_exit(3);
	must(child, "vfork");
	expect_exit(child, 3);
	say("returns what=vfork tid=%d\n", (int)child);
}

int main(void)
{
	by_library("copy", one, 0, 21);
	by_library("vm", two, CLONE_VM, 22);
	by_library("vm-vfork", one, CLONE_VM | CLONE_VFORK, 21);
	by_hand("clone", SYS_clone);
	if (syscall(SYS_clone3, NULL, 0) == -1 && errno != ENOSYS)
		by_hand("clone3", SYS_clone3);
	returning("fork", fork);
	returning("raw-fork", raw_fork);
	by_vfork();
	say("ok\n");
	return 0;
}
