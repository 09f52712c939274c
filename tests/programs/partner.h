/* Tasks that take turns: a partner does what it is told through a pipe and answers through another, so that only one of
 * the tasks runs at any time.
 */
#ifndef PARTNER_H
#define PARTNER_H

#include "programs.h"

enum { SKIPPED = 77 };

/* What the machine forbids is no mistake of the program: exit status 77, and the reason. */
__attribute__((format(printf, 1, 2), noreturn)) static inline void skip(const char *format, ...)
{
	char text[256];
	va_list values;
	va_start(values, format);
	vsnprintf(text, sizeof text, format, values);
	va_end(values);
	for (char *at = text; *at; at++)
		if (*at == ' ')
			*at = '_';
	say("skip reason=%s\n", text);
	_exit(SKIPPED);
}

/* A call that privileges, limits, a security module or an old kernel may refuse. */
static inline long allowed(long result, const char *what)
{
	if (result != -1)
		return result;
	if (errno == EPERM || errno == EACCES || errno == EROFS || errno == ENOSYS || errno == ENOSPC || errno == EUSERS)
		skip("%s: %s", what, errno_name(errno));
	die("%s: %s", what, strerror(errno));
}

static inline void write_file(const char *path, const char *text)
{
	int fd = (int)allowed(open(path, O_WRONLY | O_CLOEXEC), path);
	allowed(write(fd, text, strlen(text)), path);
	close(fd);
}

/* Something that a task does: a value of at least 0, or -errno. */
typedef long act(long argument);

struct channel {
	int in, out;
};

struct task {
	pid_t pid;
	int tell, hear; /* -1: the caller itself */
	int is_thread;
};

static struct channel own_channel; /* of whoever's turn it is: partners may share their memory */

/* Functions go through the pipes relative to this one: an executed image lies elsewhere. */
static int obey(void *argument)
{
	struct channel channel = *(struct channel *)argument;
	int64_t order[2], answer;
	if (own_tid() == getpid())
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (get(channel.in, order, sizeof order)) {
		if (order[0] == 0)
			return (int)order[1];
		act *run = (act *)((intptr_t)obey + (intptr_t)order[0]);
		own_channel = channel;
		answer = run((long)order[1]);
		put(channel.out, &answer, sizeof answer);
	}
	return 1;
}

static inline void give_order(const struct task *task, intptr_t run, long argument)
{
	int64_t order[2] = {run ? run - (intptr_t)obey : 0, argument};
	put(task->tell, order, sizeof order);
}

static inline long tell(const struct task *task, act *run, long argument)
{
	if (task->tell == -1)
		return run(argument);
	int64_t answer;
	give_order(task, (intptr_t)run, argument);
	if (!get(task->hear, &answer, sizeof answer))
		die("task %d ended without an answer", (int)task->pid);
	return (long)answer;
}

/* As tell, of what has to succeed. */
static inline long tell_must(const struct task *task, act *run, long argument, const char *what)
{
	long answer = tell(task, run, argument);
	if (answer < 0) {
		errno = (int)-answer;
		allowed(-1, what);
	}
	return answer;
}

static inline struct task self(void)
{
	return (struct task){getpid(), -1, -1, 0};
}

static inline struct task partner_with(uint64_t flags, int use_clone3)
{
	int tell[2], hear[2];
	must(pipe2(tell, O_CLOEXEC), "pipe2");
	must(pipe2(hear, O_CLOEXEC), "pipe2");
	struct channel *channel = malloc(sizeof *channel);
	expect(channel != NULL, "memory for a channel");
	*channel = (struct channel){tell[0], hear[1]};
	uint64_t signal = flags & CLONE_THREAD ? 0 : SIGCHLD;
	struct clone3_args args = {.flags = flags, .exit_signal = signal};
	long tid = use_clone3 ? clone3_on_stack(&args, sizeof args, new_stack(), obey, channel)
			      : clone_on_stack((unsigned long)(flags | signal), new_stack(), obey, channel);
	if (tid < 0) {
		errno = (int)-tid;
		allowed(-1, use_clone3 ? "clone3" : "clone");
	}
	if (!(flags & CLONE_FILES)) { /* so that the end of the partner ends the wait for its answer */
		close(tell[0]);
		close(hear[1]);
	}
	return (struct task){(pid_t)tid, tell[1], hear[0], (flags & CLONE_THREAD) != 0};
}

/* A new task that does what it is told, made by clone(2). */
static inline struct task partner(uint64_t flags)
{
	return partner_with(flags, 0);
}

/* Ends it, and is back when it is gone. */
static inline void dismiss(const struct task *task)
{
	give_order(task, 0, 0);
	if (!task->is_thread)
		expect_exit(task->pid, 0);
	else /* nothing waits for a thread but a word in memory, and that would take another flag */
		while (syscall(SYS_tgkill, getpid(), task->pid, 0) == 0)
			sched_yield();
}

static inline long act_unshare(long flags)
{
	return syscall(SYS_unshare, flags) == -1 ? -errno : 0;
}

/* The answer to this one comes from the new image: see end_if_image. */
static inline long act_exec(long unused)
{
	(void)unused;
	char in[16], out[16];
	fcntl(own_channel.in, F_SETFD, 0);
	fcntl(own_channel.out, F_SETFD, 0);
	snprintf(in, sizeof in, "%d", own_channel.in);
	snprintf(out, sizeof out, "%d", own_channel.out);
	const char *path = own_path();
	execl(path, path, "image", in, out, (char *)NULL);
	return -errno;
}

/* First in main: what a partner's execve started obeys as the partner did. */
static inline void end_if_image(int argc, char **argv)
{
	if (!chosen(argc, argv, 1, "image"))
		return;
	struct channel channel = {(int)number(argc, argv, 2, 0), (int)number(argc, argv, 3, 1)};
	int64_t here = 0;
	put(channel.out, &here, sizeof here);
	_exit(obey(&channel));
}

#endif
