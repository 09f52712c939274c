/* refused WHAT [N]: what filters, limits and the kernel's want of memory do to a program that makes tasks, and what
 * looks like it and is right.
 */
#include "programs.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>


/* As container runtimes have it: one call fails with an error. */
static void refuse(long call, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program), "seccomp");
}

static pid_t by_clone3(uint64_t flags)
{
	struct clone3_args args = {.flags = flags, .exit_signal = SIGCHLD};
	pid_t child = (pid_t)raw_clone3(&args, sizeof args);
	if (child == 0)
		_exit(0);
	return child;
}

static pid_t by_fork(void)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0)
		_exit(0);
	return child;
}

/* A user who has no other task. */
static void become_another(void)
{
	if (getuid() != 0)
		return;
	uid_t other = 60000 + (uid_t)getpid() % 5000;
	must(setresgid(other, other, other), "setresgid");
	must(setresuid(other, other, other), "setresuid");
}

/* Children that live at once, or one after the other. */
static void children(long count, int at_once)
{
	struct gate gate = make_gate();
	for (long i = 0; i < count; i++) {
		pid_t child = (pid_t)must(fork(), "fork");
		if (child == 0) {
			drop_key(gate);
			if (at_once)
				wait_at(gate);
			_exit(0);
		}
		if (!at_once)
			expect_exit(child, 0);
	}
	drop_key(gate);
	for (long i = 0; at_once && i < count; i++)
		must(wait(NULL), "wait");
}

/* As many as there may be at once, and one more. */
static void until_refused(long count)
{
	struct gate gate = make_gate();
	long made = 0;
	pid_t child = 0;
	while (made < count && (child = fork()) > 0)
		made++;
	if (child == 0) {
		drop_key(gate);
		wait_at(gate);
		_exit(0);
	}
	expect(child == -1 && errno == EAGAIN, "one is refused");
	drop_key(gate);
	while (made--)
		must(wait(NULL), "wait");
}

/* A child that takes so many MiB of memory. */
static void hungry(long mebibytes)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		for (long i = 0; i < mebibytes; i++) {
			char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
			expect(memory != MAP_FAILED, "memory");
			memset(memory, 1, 1 << 20);
		}
		_exit(0);
	}
	say("child pid=%d status=0x%x\n", (int)child, ended(child));
}

int main(int argc, char **argv)
{
	if (argc < 2)
		usage("WHAT [N]");
	const char *what = argv[1];
	own_path();
	if (!strcmp(what, "clone3-enosys") || !strcmp(what, "clone3-eperm")) {
		int error = strcmp(what, "clone3-eperm") ? ENOSYS : EPERM;
		refuse(SYS_clone3, error);
		expect(by_clone3(0) == -1 && errno == error, "clone3 is refused");
		if (error == ENOSYS)
			expect_exit(by_fork(), 0);
	} else if (!strcmp(what, "clone3-earned")) {
		become_another();
		expect(by_clone3(CLONE_NEWNS) == -1 && errno == EPERM, "clone3 lacks a privilege");
		expect_exit(by_fork(), 0);
	} else if (!strcmp(what, "one-by-one-as-a-user")) {
		struct rlimit few = {7, 7};
		become_another();
		must(setrlimit(RLIMIT_NPROC, &few), "setrlimit");
		children(number(argc, argv, 2, 29), 0);
	} else if (!strcmp(what, "too-many"))
		until_refused(number(argc, argv, 2, 29));
	else if (!strcmp(what, "at-once"))
		children(number(argc, argv, 2, 29), 1);
	else if (!strcmp(what, "one-by-one"))
		children(number(argc, argv, 2, 29), 0);
	else if (!strcmp(what, "hungry"))
		hungry(number(argc, argv, 2, 64));
	else
		usage("WHAT [N]");
	say("ok pid=%d\n", (int)getpid());
	return 0;
}
