/* clone_failures: combinations that clone, clone3, fork's relatives and their argument rules refuse.
 *
 * A kernel that accepts one of them (newer or older rules) gets a child that ends at once, and errno 0 is printed.
 */
#include "programs.h"

static void *stack;

static int leave(void *unused)
{
	(void)unused;
	return 0;
}

static void report(const char *call, uint64_t flags, uint64_t signal, long result)
{
	if (result > 0 && !(flags & (CLONE_THREAD | CLONE_PARENT)))
		ended((pid_t)result);
	say("%s flags=0x%llx exit_signal=%llu pid=%ld errno=%s\n", call, (unsigned long long)flags,
	    (unsigned long long)signal, result, errno_name(result < 0 ? (int)-result : 0));
}

static void clone_with(unsigned long flags)
{
	report("clone", flags & ~0xfful, flags & 0xff, clone_on_stack(flags, stack, leave, NULL));
}

static void clone3_with(struct clone3_args args)
{
	report("clone3", args.flags, args.exit_signal, clone3_on_stack(&args, sizeof args, stack, leave, NULL));
}

static void clone3_bare(struct clone3_args args)
{
	long result = raw_clone3(&args, sizeof args);
	if (result == 0)
		_exit(0);
	report("clone3", args.flags, args.exit_signal, result == -1 ? -errno : result);
}

int main(void)
{
	stack = new_stack();
	clone_with(CLONE_SIGHAND | SIGCHLD);
	clone_with(CLONE_THREAD | CLONE_VM | SIGCHLD);
	clone_with(CLONE_THREAD | SIGCHLD);
	clone_with(CLONE_THREAD | CLONE_SIGHAND | SIGCHLD);
	clone_with(CLONE_NEWNS | CLONE_FS | SIGCHLD);
	clone_with(CLONE_NEWUSER | CLONE_FS | SIGCHLD);
	clone_with(THREAD_FLAGS | CLONE_NEWPID);
	clone_with(THREAD_FLAGS | CLONE_NEWUSER);
	clone_with(CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD);
	clone_with(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD);
	clone_with(CLONE_PIDFD | CLONE_DETACHED | SIGCHLD);
	clone_with(CLONE_PIDFD | SIGCHLD); /* parent_tid is NULL: EFAULT */

	clone3_with((struct clone3_args){.flags = CLONE_SIGHAND, .exit_signal = SIGCHLD});
	clone3_with((struct clone3_args){.flags = CLONE_THREAD | CLONE_VM});
	clone3_with((struct clone3_args){.flags = THREAD_FLAGS, .exit_signal = SIGCHLD});
	clone3_with((struct clone3_args){.flags = CLONE_PARENT, .exit_signal = SIGCHLD});
	clone3_with((struct clone3_args){.flags = CLONE_VM | CLONE_SIGHAND | CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD});
	clone3_with((struct clone3_args){.flags = CLONE_DETACHED, .exit_signal = SIGCHLD});
	clone3_with((struct clone3_args){.flags = SIGCHLD});
	clone3_with((struct clone3_args){.flags = 1ULL << 63, .exit_signal = SIGCHLD});
	clone3_with((struct clone3_args){.exit_signal = 65});
	clone3_with((struct clone3_args){.exit_signal = 0x100 | SIGCHLD});
	clone3_with((struct clone3_args){.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = 1ULL << 31});
	clone3_with((struct clone3_args){.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = 1023});
	clone3_with((struct clone3_args){.flags = CLONE_PIDFD, .exit_signal = SIGCHLD});
	clone3_with((struct clone3_args){.exit_signal = SIGCHLD, .set_tid_size = 1});
	clone3_with((struct clone3_args){.exit_signal = SIGCHLD, .set_tid = ADDRESS(stack), .set_tid_size = 33});
	clone3_with((struct clone3_args){.exit_signal = SIGCHLD, .set_tid = ADDRESS(stack)});
	clone3_with((struct clone3_args){.exit_signal = SIGCHLD, .set_tid = 8, .set_tid_size = 1});
	clone3_bare((struct clone3_args){.exit_signal = SIGCHLD, .stack = ADDRESS(stack)});
	clone3_bare((struct clone3_args){.exit_signal = SIGCHLD, .stack_size = STACK_BYTES});
	clone3_bare((struct clone3_args){.exit_signal = SIGCHLD, .stack = ~0ULL - 4095, .stack_size = 4096});
	say("ok\n");
	return 0;
}
