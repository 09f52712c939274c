/* untraced [clone|clone3|rodata|vfork|vfork3|ptrace]: CLONE_UNTRACED children that fork and execute in their turn.
 *
 * Whatever a tracer does about the flag, the program must find its own registers and memory as it left them.
 * rodata keeps the clone3 struct in read-only memory, vfork adds CLONE_VFORK, ptrace adds CLONE_PTRACE.
 */
#include "programs.h"

static const struct clone3_args in_rodata = {.flags = CLONE_UNTRACED, .exit_signal = SIGCHLD};

/* clone(2) by which the caller and the child also learn what the first argument's register holds afterwards. */
static long clone_and_look(unsigned long flags, unsigned long *after)
{
#if defined(__x86_64__)
	register unsigned long r10 __asm__("r10") = 0;
	register unsigned long r8 __asm__("r8") = 0;
	long result = SYS_clone;
	__asm__ volatile("syscall" : "+a"(result), "+D"(flags) : "S"(0), "d"(0), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	*after = flags;
	return result;
#elif defined(__i386__)
	long result = SYS_clone;
	__asm__ volatile("int $0x80" : "+a"(result), "+b"(flags) : "c"(0), "d"(0), "S"(0), "D"(0) : "memory");
	*after = flags;
	return result;
#else /* the result takes the register of the first argument */
	long result = raw_clone(flags, NULL, NULL, NULL, 0);
	*after = flags;
	return result == -1 ? -errno : result;
#endif
}

static void child(void)
{
	pid_t grandchild = raw_fork();
	if (grandchild == 0)
		_exit(7);
	int status;
	if (grandchild < 0 || waitpid(grandchild, &status, 0) != grandchild || status != 7 << 8)
		_exit(30);
	say("grandchild pid=%d parent=%d\n", (int)grandchild, (int)getpid());
	execl(own_path(), "untraced", "leaf", "11", (char *)NULL);
	_exit(31);
}

static void by_clone(const char *name, unsigned long flags)
{
	unsigned long after;
	long pid = clone_and_look(flags | SIGCHLD, &after);
	if (pid == 0) {
		if (after != (flags | SIGCHLD))
			_exit(32);
		child();
	}
	if (pid < 0)
		die("clone: %s", strerror((int)-pid));
	expect(after == (flags | SIGCHLD), "the creator's register is as it was");
	expect_exit((pid_t)pid, 11);
	say("child case=%s call=clone flags=0x%lx pid=%ld\n", name, flags | SIGCHLD, pid);
}

static void by_clone3(const char *name, const struct clone3_args *args)
{
	struct clone3_args before = *args;
	long pid = must(raw_clone3(args, sizeof *args), "clone3");
	int unchanged = memcmp(&before, args, sizeof before) == 0;
	if (pid == 0) {
		if (!unchanged)
			_exit(33);
		child();
	}
	expect(unchanged, "the creator's struct is as it was");
	expect_exit((pid_t)pid, 11);
	say("child case=%s call=clone3 flags=0x%llx pid=%ld\n", name, (unsigned long long)args->flags, pid);
}

int main(int argc, char **argv)
{
	end_if_leaf(argc, argv);
	const char *only = argc > 1 ? argv[1] : NULL;
	struct clone3_args plain = {.flags = CLONE_UNTRACED, .exit_signal = SIGCHLD};
	struct clone3_args vfork3 = {.flags = CLONE_UNTRACED | CLONE_VFORK, .exit_signal = SIGCHLD};
	int cases = 0;
#define CASE(name, statement) do { if (!only || !strcmp(only, name)) { cases++; statement; } } while (0)
	CASE("clone", by_clone("clone", CLONE_UNTRACED));
	CASE("clone3", by_clone3("clone3", &plain));
	CASE("rodata", by_clone3("rodata", &in_rodata));
	CASE("vfork", by_clone("vfork", CLONE_UNTRACED | CLONE_VFORK));
	CASE("vfork3", by_clone3("vfork3", &vfork3));
	CASE("ptrace", by_clone("ptrace", CLONE_UNTRACED | CLONE_PTRACE));
	if (cases == 0)
		usage("untraced [clone|clone3|rodata|vfork|vfork3|ptrace]");
	say("ok cases=%d\n", cases);
	return 0;
}
