/* detailed_floor FILE COMMAND...: the least that a ptrace tracer with forklore's default detail can do, in C.
 *
 * It stops at the creation and exec calls alone, by a seccomp filter. Of a creation it reads the call's arguments,
 * registers, the top of the caller's stack, holds creator and child together, compares them in six resources by
 * kcmp(2), and writes a line. Of an exec it reads the path, and after it the descriptors. A failed call's result is
 * read at its exit. Nothing is decoded and no stack is walked. The exit status is COMMAND's.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <linux/kcmp.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/uio.h>

long ptrace(int request, ...); /* <sys/ptrace.h> and <linux/ptrace.h> declare the same structs */

#include "launch.h"

static const long options = PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
			    PTRACE_O_TRACEEXEC | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACESECCOMP |
			    PTRACE_O_TRACESYSGOOD;

static FILE *file;

#define STOP_AT(call) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE)

static void filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef SYS_fork
		STOP_AT(SYS_fork),
		STOP_AT(SYS_vfork),
#endif
		STOP_AT(SYS_clone),
		STOP_AT(SYS_clone3),
		STOP_AT(SYS_execve),
		STOP_AT(SYS_execveat),
		STOP_AT(SYS_unshare),
		STOP_AT(SYS_setns),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	install(code, sizeof(code) / sizeof(*code));
}

static size_t peek(pid_t tid, unsigned long address, void *to, size_t size)
{
	struct iovec here = {to, size}, there = {(void *)address, size};
	ssize_t got = process_vm_readv(tid, &here, 1, &there, 1, 0);
	return got > 0 ? (size_t)got : 0;
}

/* The call that a task is about to make, or the result of the one that it leaves. */
static void call(pid_t tid)
{
	static char stack[8192];
	char registers[512];
	struct iovec block = {registers, sizeof(registers)};
	struct ptrace_syscall_info info = {0};
	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) == -1)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
		fprintf(file, "result %d %lld\n", tid, (long long)info.exit.rval);
		return;
	}
	fprintf(file, "call %d %llu %#llx %#llx\n", tid, (unsigned long long)info.seccomp.nr,
		(unsigned long long)info.seccomp.args[0], (unsigned long long)info.seccomp.args[1]);
	if (info.seccomp.nr == SYS_execve) {
		size_t size = peek(tid, info.seccomp.args[0], stack, 4096);
		fprintf(file, "exec %d %.*s\n", tid, (int)strnlen(stack, size), stack);
		return;
	}
	ptrace(PTRACE_GETREGSET, tid, 1 /* NT_PRSTATUS */, &block);
	peek(tid, info.stack_pointer, stack, sizeof(stack));
}

static void compare(pid_t creator, pid_t child)
{
	static const int kinds[] = {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_SYSVSEM, KCMP_IO};
	fprintf(file, "child %d of %d:", child, creator);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		fprintf(file, " %ld", syscall(SYS_kcmp, creator, child, kinds[i], 0, 0));
	fputc('\n', file);
}

static void descriptors(pid_t tid)
{
	char path[64], target[512];
	snprintf(path, sizeof(path), "/proc/%d/fd", tid);
	DIR *all = opendir(path);
	if (!all)
		return;
	for (struct dirent *one; (one = readdir(all));) {
		ssize_t length = readlinkat(dirfd(all), one->d_name, target, sizeof(target));
		if (length > 0)
			fprintf(file, "open %d %s %.*s\n", tid, one->d_name, (int)length, target);
	}
	closedir(all);
}

/* Children that stopped, or were told of, before the other had happened: few at any time. */
enum { MOST = 4096 };
static struct {
	pid_t child, creator;
} waiting[MOST];
static int many;

/* The one that is kept under ``child`` and removed, or none. */
static int taken(pid_t child, pid_t *creator)
{
	for (int i = 0; i < many; i++)
		if (waiting[i].child == child) {
			*creator = waiting[i].creator;
			waiting[i] = waiting[--many];
			return 1;
		}
	return 0;
}

static void keep(pid_t child, pid_t creator)
{
	if (many == MOST) {
		fprintf(stderr, "detailed_floor: more than %d creations at once\n", MOST);
		exit(125);
	}
	waiting[many].child = child;
	waiting[many++].creator = creator;
}

static void both(pid_t creator, pid_t child)
{
	compare(creator, child);
	ptrace(PTRACE_CONT, creator, 0, 0);
	ptrace(PTRACE_CONT, child, 0, 0);
}

/* A creator told of its child, or a child stopped for the first time; ``child`` is not the creator where it is told. */
static void stopped(pid_t tid, int event)
{
	unsigned long child = 0;
	pid_t other = 0;
	if (event == PTRACE_EVENT_STOP) {
		if (taken(tid, &other))
			both(other, tid);
		else
			keep(tid, 0);
		return;
	}
	ptrace(PTRACE_GETEVENTMSG, tid, 0, &child);
	if (taken((pid_t)child, &other))
		both(tid, (pid_t)child);
	else
		keep((pid_t)child, tid);
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: detailed_floor FILE COMMAND...\n");
		return 125;
	}
	file = fopen(argv[1], "we");
	check(file ? 0 : -1, argv[1]);
	pid_t root = launch(argv + 2, options, filter), tid;
	int status, last = 0;
	while ((tid = waitpid(-1, &status, __WALL)) > 0) {
		int event = status >> 16, signal = WSTOPSIG(status);
		if (!WIFSTOPPED(status)) {
			fprintf(file, "end %d %#x\n", tid, status);
			if (tid == root)
				last = status;
		} else if (event == PTRACE_EVENT_SECCOMP) {
			call(tid);
			ptrace(PTRACE_SYSCALL, tid, 0, 0);
		} else if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE ||
			   (event == PTRACE_EVENT_STOP && signal == SIGTRAP)) {
			stopped(tid, event);
		} else if (event == PTRACE_EVENT_STOP) {
			ptrace(PTRACE_LISTEN, tid, 0, 0);
		} else {
			if (signal == (SIGTRAP | 0x80))
				call(tid);
			if (event == PTRACE_EVENT_EXEC)
				descriptors(tid);
			ptrace(PTRACE_CONT, tid, 0, event || signal == (SIGTRAP | 0x80) ? 0 : signal);
		}
	}
	fclose(file);
	return WIFEXITED(last) ? WEXITSTATUS(last) : 128 + WTERMSIG(last);
}
