/* What the test programs share: raw system calls, gates made of pipes, and lines of output that a test can read.
 *
 * A line is a word and then key=value pairs. Every line is one write(2), so lines of several processes never mix and
 * nothing waits in a buffer for a fork to copy. The last line of a run that went as meant is "ok".
 */
#ifndef PROGRAMS_H
#define PROGRAMS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

/* musl-gcc sees no kernel headers, and old C libraries lack the newer names. */
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND (1ULL << 32)
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP (1ULL << 33)
#endif
#ifndef __WALL
#define __WALL 0x40000000
#endif

/* include/uapi/linux/sched.h: struct clone_args */
struct clone3_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	uint64_t set_tid, set_tid_size; /* 5.5: 80 bytes */
	uint64_t cgroup;                /* 5.7: 88 bytes */
} __attribute__((aligned(8)));

#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)
#define ADDRESS(pointer) ((uint64_t)(uintptr_t)(pointer))
#define STACK_BYTES (64 * 1024)

__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	vdprintf(STDOUT_FILENO, format, values);
	va_end(values);
}

__attribute__((format(printf, 1, 2), noreturn)) static inline void die(const char *format, ...)
{
	char text[512];
	va_list values;
	va_start(values, format);
	vsnprintf(text, sizeof text, format, values);
	va_end(values);
	dprintf(STDERR_FILENO, "%s\n", text);
	_exit(1);
}

/* The value of a system call that has to succeed here. */
static inline long must(long result, const char *what)
{
	if (result == -1)
		die("%s: %s", what, strerror(errno));
	return result;
}

static inline void expect(int holds, const char *what)
{
	if (!holds)
		die("not as expected: %s", what);
}

static inline void usage(const char *arguments)
{
	dprintf(STDERR_FILENO, "usage: %s\n", arguments);
	_exit(2);
}

/* Argument number `index` as a number, or `otherwise` if it is not there. */
static inline long number(int argc, char **argv, int index, long otherwise)
{
	if (index >= argc)
		return otherwise;
	char *end;
	long value = strtol(argv[index], &end, 0);
	if (*argv[index] == '\0' || *end != '\0' || value < 0)
		die("%s: argument %d has to be a number, not \"%s\"", argv[0], index, argv[index]);
	return value;
}

static inline int chosen(int argc, char **argv, int index, const char *word)
{
	return index < argc && strcmp(argv[index], word) == 0;
}

static inline pid_t own_tid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

/* The path of the running program, for execs whose comm is to be the program's own name. The first call has to come
 * while the leader lives: the kernel forgets the link with it.
 */
static inline const char *own_path(void)
{
	static char path[PATH_MAX];
	if (*path)
		return path;
	ssize_t length = must(readlink("/proc/self/exe", path, sizeof path - 1), "readlink /proc/self/exe");
	path[length] = '\0';
	return path;
}

static inline const char *errno_name(int error)
{
	static const struct { int error; const char *name; } names[] = {
		{0, "0"}, {EPERM, "EPERM"}, {ENOENT, "ENOENT"}, {ESRCH, "ESRCH"}, {EINTR, "EINTR"}, {E2BIG, "E2BIG"},
		{ENOEXEC, "ENOEXEC"}, {EBADF, "EBADF"}, {ECHILD, "ECHILD"}, {EAGAIN, "EAGAIN"}, {ENOMEM, "ENOMEM"},
		{EACCES, "EACCES"}, {EFAULT, "EFAULT"}, {EBUSY, "EBUSY"}, {EEXIST, "EEXIST"}, {ENODEV, "ENODEV"},
		{ENOTDIR, "ENOTDIR"}, {EISDIR, "EISDIR"}, {EINVAL, "EINVAL"}, {ENFILE, "ENFILE"}, {EMFILE, "EMFILE"},
		{ETXTBSY, "ETXTBSY"}, {ENOSPC, "ENOSPC"}, {ENAMETOOLONG, "ENAMETOOLONG"}, {ENOSYS, "ENOSYS"},
		{ELOOP, "ELOOP"}, {EUSERS, "EUSERS"}, {EOPNOTSUPP, "EOPNOTSUPP"},
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i].error == error)
			return names[i].name;
	static char unknown[16];
	snprintf(unknown, sizeof unknown, "%d", error);
	return unknown;
}

/* The wait status of a child of any kind, once it has ended. */
static inline int ended(pid_t child)
{
	int status;
	pid_t seen;
	do
		seen = waitpid(child, &status, __WALL);
	while (seen == -1 && errno == EINTR);
	must(seen, "waitpid");
	return status;
}

static inline void expect_exit(pid_t child, int code)
{
	int status = ended(child);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != code)
		die("child %d ended with wait status 0x%x, not with exit code %d", (int)child, status, code);
}

/* A gate that tasks wait at until every holder of its key let go of it: a pipe whose write end is the key. */
struct gate {
	int wait, key;
};

static inline struct gate make_gate(void)
{
	int ends[2];
	must(pipe2(ends, O_CLOEXEC), "pipe2");
	return (struct gate){ends[0], ends[1]};
}

static inline void drop_key(struct gate gate)
{
	must(close(gate.key), "close");
}

static inline void wait_at(struct gate gate)
{
	char byte;
	ssize_t got;
	do
		got = read(gate.wait, &byte, 1);
	while (got == -1 && errno == EINTR);
	must(got, "read from a gate");
}

static inline void put(int fd, const void *data, size_t size)
{
	if (write(fd, data, size) != (ssize_t)size)
		die("write of %zu bytes to descriptor %d: %s", size, fd, strerror(errno));
}

/* Whether all of it came; false at the end of the pipe. */
static inline int get(int fd, void *data, size_t size)
{
	size_t have = 0;
	while (have < size) {
		ssize_t got = read(fd, (char *)data + have, size - have);
		if (got == -1 && errno == EINTR)
			continue;
		must(got, "read");
		if (got == 0)
			return 0;
		have += (size_t)got;
	}
	return 1;
}

/* The state letter of a task of this process, from /proc. */
static inline char task_state(pid_t pid, pid_t tid)
{
	char path[64], text[512];
	snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	int fd = (int)must(open(path, O_RDONLY | O_CLOEXEC), path);
	ssize_t length = must(read(fd, text, sizeof text - 1), path);
	close(fd);
	text[length] = '\0';
	const char *name_end = strrchr(text, ')');
	expect(name_end != NULL, "a state in /proc/PID/task/TID/stat");
	return name_end[2];
}

/* pthread_exit in the leader is over only when the kernel has made a zombie of it, and no call waits for that. */
static inline void until_leader_is_zombie(void)
{
	while (task_state(getpid(), getpid()) != 'Z')
		sched_yield();
}

/* clone(2) as the kernel has it, in the argument order of this arch. Without CLONE_VM it returns twice, as fork does. */
static inline long raw_clone(unsigned long flags, void *stack, void *parent_tid, void *child_tid, unsigned long tls)
{
#if defined(__x86_64__)
	return syscall(SYS_clone, flags, stack, parent_tid, child_tid, tls);
#else /* CONFIG_CLONE_BACKWARDS: i386, arm, aarch64, riscv */
	return syscall(SYS_clone, flags, stack, parent_tid, tls, child_tid);
#endif
}

static inline long raw_clone3(const void *args, size_t size)
{
	return syscall(SYS_clone3, args, size);
}

/* fork(2) without the C library's handlers and locks, by the call of that name where the arch has one. */
static inline pid_t raw_fork(void)
{
#ifdef SYS_fork
	return (pid_t)syscall(SYS_fork);
#else
	return (pid_t)raw_clone(SIGCHLD, NULL, NULL, NULL, 0);
#endif
}

static inline void *new_stack(void)
{
	void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		die("mmap of a stack: %s", strerror(errno));
	return stack;
}

struct on_stack {
	int (*run)(void *);
	void *argument;
};

/* The top of a stack, holding what the child of start_on_stack takes from there. */
static inline void *prepare_stack(void *stack, int (*run)(void *), void *argument)
{
	struct on_stack *top = (struct on_stack *)((char *)stack + STACK_BYTES - 64);
	*top = (struct on_stack){run, argument};
	return top;
}

/* The call `nr` of the clone family; the child, on its own stack, takes `run` and `argument` from there, calls, and
 * ends its own task by exit(2) with the result. Returns the child's tid or -errno: the C library is not involved, so
 * the child may share everything, its errno included.
 */
static inline long start_on_stack(long nr, unsigned long a, unsigned long b, unsigned long c, unsigned long d,
				  unsigned long e)
{
#if defined(__x86_64__)
	register unsigned long r10 __asm__("r10") = d;
	register unsigned long r8 __asm__("r8") = e;
	long result;
	__asm__ volatile("syscall\n\t"
			 "test %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "xor %%ebp, %%ebp\n\t"
			 "pop %%rax\n\t"
			 "pop %%rdi\n\t"
			 "and $-16, %%rsp\n\t"
			 "call *%%rax\n\t"
			 "mov %%eax, %%edi\n\t"
			 "mov $60, %%eax\n\t"
			 "syscall\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(result)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__i386__)
	long result;
	__asm__ volatile("int $0x80\n\t"
			 "test %%eax, %%eax\n\t"
			 "jnz 1f\n\t"
			 "pop %%eax\n\t"
			 "pop %%ecx\n\t"
			 "and $-16, %%esp\n\t"
			 "sub $12, %%esp\n\t"
			 "push %%ecx\n\t"
			 "call *%%eax\n\t"
			 "mov %%eax, %%ebx\n\t"
			 "mov $1, %%eax\n\t"
			 "int $0x80\n\t"
			 "hlt\n"
			 "1:"
			 : "=a"(result)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e)
			 : "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register unsigned long x0 __asm__("x0") = a;
	register unsigned long x1 __asm__("x1") = b;
	register unsigned long x2 __asm__("x2") = c;
	register unsigned long x3 __asm__("x3") = d;
	register unsigned long x4 __asm__("x4") = e;
	__asm__ volatile("svc #0\n\t"
			 "cbnz x0, 1f\n\t"
			 "ldp x9, x0, [sp], #16\n\t"
			 "blr x9\n\t"
			 "mov x8, #93\n\t"
			 "svc #0\n\t"
			 "brk #0\n"
			 "1:"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory", "cc");
	return (long)x0;
#elif defined(__riscv) && __riscv_xlen == 64
	register long a7 __asm__("a7") = nr;
	register unsigned long a0 __asm__("a0") = a;
	register unsigned long a1 __asm__("a1") = b;
	register unsigned long a2 __asm__("a2") = c;
	register unsigned long a3 __asm__("a3") = d;
	register unsigned long a4 __asm__("a4") = e;
	__asm__ volatile("ecall\n\t"
			 "bnez a0, 1f\n\t"
			 "ld t0, 0(sp)\n\t"
			 "ld a0, 8(sp)\n\t"
			 "addi sp, sp, 16\n\t"
			 "jalr t0\n\t"
			 "li a7, 93\n\t"
			 "ecall\n\t"
			 "unimp\n"
			 "1:"
			 : "+r"(a0)
			 : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4)
			 : "memory");
	return (long)a0;
#else
#error "start_on_stack has no assembly for this arch yet"
#endif
}

/* clone(2) with a stack of its own: see start_on_stack. */
static inline long clone_on_stack(unsigned long flags, void *stack, int (*run)(void *), void *argument)
{
	unsigned long top = (unsigned long)prepare_stack(stack, run, argument);
	return start_on_stack(SYS_clone, flags, top, 0, 0, 0);
}

/* clone3(2) with a stack of its own, which this writes into `args`: see start_on_stack. */
static inline long clone3_on_stack(struct clone3_args *args, size_t size, void *stack, int (*run)(void *),
				   void *argument)
{
	args->stack = ADDRESS(stack);
	args->stack_size = (uint64_t)((char *)prepare_stack(stack, run, argument) - (char *)stack);
	return start_on_stack(SYS_clone3, (unsigned long)args, size, 0, 0, 0);
}

/* A program that runs itself again as its own leaf ends here with the exit code that it was given. */
static inline void end_if_leaf(int argc, char **argv)
{
	if (chosen(argc, argv, 1, "leaf"))
		_exit((int)number(argc, argv, 2, 0));
}

#endif
