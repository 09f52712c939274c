/* guest_filters ACTION [CALL=fork]: a process installs a seccomp filter for the call that a tracer wants to see, makes
 * the call, and says what came of it.
 *
 * ACTION is kill, thread, trap, errno, trace, notify, log, tsync or strict; CALL fork, clone3, execve or unshare.
 */
#include "programs.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#elif defined(__i386__)
#define NATIVE AUDIT_ARCH_I386
#else
#define NATIVE AUDIT_ARCH_RISCV64
#endif

static long number_of(const char *call)
{
	if (strcmp(call, "fork") == 0)
#ifdef SYS_fork
		return SYS_fork;
#else
		return SYS_clone;
#endif
	return strcmp(call, "clone3") == 0 ? SYS_clone3 : strcmp(call, "execve") == 0 ? SYS_execve : SYS_unshare;
}

static long filtered(long call, uint32_t action, unsigned flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof code / sizeof *code, code};
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	return must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program), "seccomp");
}

static void trapped(int number, siginfo_t *info, void *context)
{
	(void)context;
	say("sigsys number=%d code=%d call-is-right=%d\n", number, info->si_code, info->si_syscall != 0);
}

static void make(long call)
{
	char *const words[] = {(char *)own_path(), "leaf", "5", NULL}, *const none[] = {NULL};
	struct clone3_args args = {.exit_signal = SIGCHLD};
	long result = call == SYS_execve    ? syscall(call, own_path(), words, none)
		      : call == SYS_clone3  ? raw_clone3(&args, sizeof args)
		      : call == SYS_unshare ? syscall(call, CLONE_FS)
					    : raw_fork();
	int error = result < 0 ? errno : 0;
	if (result == 0 && call != SYS_unshare && call != SYS_execve)
		_exit(7);
	if (result > 0 && call != SYS_unshare)
		say("child status=0x%x\n", ended((pid_t)result));
	say("result sign=%d errno=%s\n", result > 0 ? 1 : result < 0 ? -1 : 0, errno_name(error));
}

struct late {
	struct gate gate;
	long call;
};

static void *makes_later(void *argument)
{
	struct late *late = argument;
	wait_at(late->gate);
	make(late->call);
	return NULL;
}

/* A filter of one thread put upon all: another one, which was there before, makes the call. */
static void synchronised(long call)
{
	struct late late = {make_gate(), call};
	pthread_t thread;
	expect(pthread_create(&thread, NULL, makes_later, &late) == 0, "a thread");
	say("tsync result=%ld\n", filtered(call, SECCOMP_RET_ERRNO | ENOANO, SECCOMP_FILTER_FLAG_TSYNC));
	drop_key(late.gate);
	expect(pthread_join(thread, NULL) == 0, "the thread ends");
}

/* Another process answers for the kernel. */
static void answered(long call)
{
	int ends[2];
	must(pipe2(ends, O_CLOEXEC), "pipe2");
	pid_t asking = (pid_t)must(fork(), "fork");
	if (asking == 0) {
		int listener = (int)filtered(call, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);
		put(ends[1], &listener, sizeof listener);
		make(call);
		_exit(0);
	}
	int listener;
	expect(get(ends[0], &listener, sizeof listener), "the listener's number");
	int pidfd = (int)must(syscall(SYS_pidfd_open, asking, 0), "pidfd_open");
	int own = (int)must(syscall(SYS_pidfd_getfd, pidfd, listener, 0), "pidfd_getfd");
	struct seccomp_notif asked;
	memset(&asked, 0, sizeof asked);
	must(ioctl(own, SECCOMP_IOCTL_NOTIF_RECV, &asked), "SECCOMP_IOCTL_NOTIF_RECV");
	say("asked by-child=%d call-is-right=%d\n", (pid_t)asked.pid == asking, asked.data.nr == (int)call);
	struct seccomp_notif_resp answer = {.id = asked.id, .error = -EDOM};
	must(ioctl(own, SECCOMP_IOCTL_NOTIF_SEND, &answer), "SECCOMP_IOCTL_NOTIF_SEND");
	expect_exit(asking, 0);
}

static void in_child(const char *action, long call)
{
	static const struct { const char *name; uint32_t action; } actions[] = {
		{"kill", SECCOMP_RET_KILL_PROCESS}, {"thread", SECCOMP_RET_KILL_THREAD}, {"trap", SECCOMP_RET_TRAP},
		{"errno", SECCOMP_RET_ERRNO | ENOANO}, {"trace", SECCOMP_RET_TRACE | 9}, {"log", SECCOMP_RET_LOG},
	};
	pid_t child = (pid_t)must(fork(), "fork");
	if (child != 0) {
		say("child ended status=0x%x\n", ended(child));
		return;
	}
	if (strcmp(action, "strict") == 0) {
		int error = prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == -1 ? errno : 0;
		say("strict errno=%s\n", errno_name(error));
		syscall(SYS_exit, 0);
	}
	struct sigaction handler = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
	must(sigaction(SIGSYS, &handler, NULL), "sigaction");
	for (size_t i = 0; i < sizeof actions / sizeof *actions; i++)
		if (strcmp(action, actions[i].name) == 0) {
			filtered(call, actions[i].action, 0);
			make(call);
			_exit(0);
		}
	die("no such action: %s", action);
}

int main(int argc, char **argv)
{
	end_if_leaf(argc, argv);
	if (argc < 2)
		usage("guest_filters ACTION [CALL=fork]");
	own_path();
	long call = number_of(argc > 2 ? argv[2] : "fork");
	if (chosen(argc, argv, 1, "tsync"))
		synchronised(call);
	else if (chosen(argc, argv, 1, "notify"))
		answered(call);
	else
		in_child(argv[1], call);
	say("ok\n");
	return 0;
}
