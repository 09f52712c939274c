/* clone_fn: the C library's clone(), whose child starts in a function; prints where function and argument are. */
#include "programs.h"

static int run(void *argument)
{
	*(volatile int *)argument += 1;
	return 21;
}

static void start(const char *what, int flags, int seen)
{
	static int argument;
	argument = 0;
	char *stack = new_stack();
	pid_t child = (pid_t)must(clone(run, stack + STACK_BYTES, flags | SIGCHLD, &argument), "clone");
	expect_exit(child, 21);
	expect(argument == seen, "the child wrote into its creator's memory just where it shares it");
	say("clone what=%s pid=%d flags=0x%x function=0x%llx argument=0x%llx stack=0x%llx\n", what, (int)child,
	    flags | SIGCHLD, (unsigned long long)ADDRESS(run), (unsigned long long)ADDRESS(&argument),
	    (unsigned long long)ADDRESS(stack + STACK_BYTES));
}

int main(void)
{
	start("copy", 0, 0);
	start("vm", CLONE_VM, 1);
	start("vm-vfork", CLONE_VM | CLONE_VFORK, 1);
	start("vm-all", CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_SYSVSEM | CLONE_IO, 1);
	say("ok\n");
	return 0;
}
