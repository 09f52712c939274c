/* wrong WHAT: does one thing that a rule of `forklore check` finds, or what looks like it and is right. */
#include "programs.h"

#include <signal.h>
#include <sys/socket.h>
#include <time.h>

static const char *self;

static void pass_time(long ms)
{
	struct timespec span = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&span, NULL);
}

static void execute(const char *what)
{
	execl(self, "wrong", what, (char *)NULL);
	_exit(127);
}

static pid_t child_that(void (*run)(void))
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0)
		run();
	return child;
}

static int ready[2];

static void told_to_end(int signal)
{
	(void)signal;
	_exit(0);
}

static void ends(void) { _exit(0); }
static void until_it_is_a_zombie(pid_t child)
{
	siginfo_t info;
	if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == -1 && errno != ECHILD)
		die("waitid: %s", strerror(errno));
}
static void runs_ends(void) { execute("end"); }
static void runs_true(void)
{
	execl("/bin/true", "true", (char *)NULL);
	_exit(127);
}
/* Lasts until its creator drops the key, or ends, and a while longer. */
static struct gate after;
static void lasts(void)
{
	drop_key(after);
	wait_at(after);
	pass_time(300);
	_exit(0);
}
static void runs_lasts(void)
{
	drop_key(after);
	must(dup2(after.wait, STDIN_FILENO), "dup2");
	execute("last");
}
static void lasts_long(void)
{
	pass_time(600);
	_exit(0);
}
static void ends_at_once_when_told(void)
{
	signal(SIGTERM, told_to_end);
	char byte = 'x';
	put(ready[1], &byte, 1);
	for (;;)
		pause();
}
static void writes_on(void)
{
	while (write(STDOUT_FILENO, "x", 1) == 1)
		continue;
	_exit(1);
}
static void runs_nothing(void)
{
	execl("/nowhere/tool", "tool", (char *)NULL);
	_exit(0);
}
static void runs_nothing_and_says_so(void)
{
	execl("/nowhere/tool", "tool", (char *)NULL);
	_exit(127);
}

static void leak(int flags)
{
	must(socket(AF_UNIX, SOCK_STREAM | flags, 0), "socket");
	expect_exit(child_that(runs_true), 0);
}
static void leak_file(void)
{
	must(open("/tmp", O_TMPFILE | O_RDWR, 0600), "open");
	expect_exit(child_that(runs_true), 0);
}

/* A child that a signal is sent to once it is ready for it, by each call that can. */
static void kill_by(const char *how, int signal)
{
	must(pipe2(ready, O_CLOEXEC), "pipe2");
	pid_t child = child_that(ends_at_once_when_told);
	char byte;
	expect(get(ready[0], &byte, 1), "the child is ready");
	if (!strcmp(how, "tgkill"))
		must(syscall(SYS_tgkill, child, child, signal), "tgkill");
	else if (!strcmp(how, "pidfd"))
		must(syscall(SYS_pidfd_send_signal, (int)must(syscall(SYS_pidfd_open, child, 0), "pidfd_open"), signal,
			     NULL, 0),
		     "pidfd_send_signal");
	else
		must(kill(child, signal), "kill");
	must(waitpid(child, NULL, 0), "waitpid");
}

/* A writer whose reader has had enough. */
static void stop_reading(void)
{
	int data[2];
	must(pipe2(data, O_CLOEXEC), "pipe2");
	pid_t writer = (pid_t)must(fork(), "fork");
	if (writer == 0) {
		must(dup2(data[1], STDOUT_FILENO), "dup2");
		close(data[0]);
		close(data[1]);
		writes_on();
	}
	close(data[1]);
	char byte;
	expect(get(data[0], &byte, 1), "something to read");
	close(data[0]);
	must(waitpid(writer, NULL, 0), "waitpid");
}

static struct gate until_the_end;
static void ends_with_it(void)
{
	drop_key(until_the_end);
	wait_at(until_the_end);
	_exit(0);
}

static void daemon_of_it(void)
{
	must(setsid(), "setsid");
	lasts();
}

static struct gate until_closed;
static void runs_lasts_once_closed(void)
{
	drop_key(until_closed);
	wait_at(until_closed);
	runs_lasts();
}
/* Executes nothing, and has a child that does. */
static void lasts_once_closed(void)
{
	drop_key(until_closed);
	wait_at(until_closed);
	expect_exit(child_that(runs_true), 0);
	lasts();
}

/* A writer, and a helper that is started beside it, goes on once its creator has closed its own write end, and lives
 * longer. */
static void hold_pipe(int flags, void (*helper_runs)(void))
{
	int data[2];
	must(pipe2(data, flags), "pipe2");
	after = make_gate();
	pid_t writer = (pid_t)must(fork(), "fork");
	if (writer == 0) {
		dup2(data[1], STDOUT_FILENO);
		if (!flags) {
			close(data[0]);
			close(data[1]);
		}
		execute("say");
	}
	until_closed = make_gate();
	pid_t helper = child_that(helper_runs);
	close(data[1]);
	drop_key(until_closed);
	expect_exit(writer, 0);
	drop_key(after);
	char text[16];
	while (read(data[0], text, sizeof text) > 0)
		continue;
	expect_exit(helper, 0);
}

static void *waits(void *gate)
{
	char text;
	return read(*(int *)gate, &text, 1) < 0 ? gate : NULL;
}

static void fork_beside_threads(void (*run)(void))
{
	int gate[2];
	pthread_t thread;
	must(pipe2(gate, O_CLOEXEC), "pipe2");
	pthread_create(&thread, NULL, waits, &gate[0]);
	expect_exit(child_that(run), 0);
	close(gate[1]);
	pthread_join(thread, NULL);
}

__attribute__((noinline)) static pid_t bare_clone(unsigned long flags)
{
	return (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
}

static void clone_with(unsigned long flags, void (*run)(void))
{
	pid_t child = bare_clone(flags);
	must(child, "clone");
	if (child == 0)
		run();
	must(waitpid(child, NULL, __WALL), "waitpid");
}

static void without_its_creators(void)
{
	must(unshare(CLONE_FS), "unshare");
	execute("end");
}

static int shared;

static int alone(void *stack)
{
	(void)stack;
	pass_time(600);
	_exit(0);
}

static int executes(void *stack)
{
	(void)stack;
	execute("end");
	return 1;
}

static void share_handlers(int (*run)(void *))
{
	static char stack[STACK_BYTES] __attribute__((aligned(16)));
	pid_t child = (pid_t)must(clone(run, stack + sizeof stack, CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL), "clone");
	expect_exit(child, 0);
}

__attribute__((noinline)) static void vfork_that(const char *what)
{
	pid_t child = vfork();
	if (child == 0) {
		if (strcmp(what, "vfork-exit") == 0)
			exit(0);
		if (strcmp(what, "vfork-write") == 0)
			*(volatile int *)&shared = 7;
		if (strcmp(what, "vfork-long") == 0)
			pass_time(600);
		_exit(0);
	}
	must(child, "vfork");
	expect_exit(child, 0);
}

__attribute__((noinline)) static pid_t returns_twice(void) { return vfork(); }

static void vfork_returns(void)
{
	pid_t child = returns_twice();
	if (child == 0)
		_exit(0);
	must(child, "vfork");
	expect_exit(child, 0);
}

__attribute__((noinline)) static void fall(void)
{
	*(volatile int *)16 = 1;
}

static void handled(int signal)
{
	(void)signal;
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		usage("WHAT");
	const char *what = argv[1];
	self = own_path();
	unsigned long fork_flags = CLONE_CHILD_SETTID | SIGCHLD;
	if (!strcmp(what, "end"))
		return 0;
	if (!strcmp(what, "last")) {
		wait_at((struct gate){STDIN_FILENO, -1});
		pass_time(300);
		_exit(0);
	}
	if (!strcmp(what, "say"))
		return write(STDOUT_FILENO, "x", 1) != 1;
	if (!strcmp(what, "leak"))
		leak(0);
	if (!strcmp(what, "leak-cloexec"))
		leak(SOCK_CLOEXEC);
	if (!strcmp(what, "leak-file"))
		leak_file();
	if (!strcmp(what, "pipe"))
		hold_pipe(0, runs_lasts_once_closed);
	if (!strcmp(what, "pipe-cloexec"))
		hold_pipe(O_CLOEXEC, runs_lasts_once_closed);
	if (!strcmp(what, "pipe-forked"))
		hold_pipe(O_CLOEXEC, lasts_once_closed);
	if (!strcmp(what, "threads-fork"))
		fork_beside_threads(ends);
	if (!strcmp(what, "threads-exec"))
		fork_beside_threads(runs_ends);
	if (!strcmp(what, "raw"))
		clone_with(SIGCHLD, lasts_long);
	if (!strcmp(what, "raw-exec"))
		clone_with(SIGCHLD, runs_ends);
	if (!strncmp(what, "vfork-", 6) && strcmp(what, "vfork-return"))
		vfork_that(what);
	if (!strcmp(what, "vfork-return"))
		vfork_returns();
	signal(SIGUSR1, SIG_IGN);
	if (!strcmp(what, "signal"))
		clone_with(SIGUSR1 | CLONE_CHILD_SETTID, ends);
	if (!strcmp(what, "signal-none"))
		clone_with(CLONE_CHILD_SETTID, ends);
	if (!strcmp(what, "signal-exec"))
		clone_with(SIGUSR1 | CLONE_CHILD_SETTID, runs_ends);
	if (!strcmp(what, "newtime"))
		clone_with(fork_flags | CLONE_NEWTIME, ends);
	if (!strcmp(what, "newtime-clone3")) {
		struct clone3_args args = {.flags = CLONE_NEWTIME | CLONE_NEWUSER, .exit_signal = SIGCHLD};
		pid_t child = (pid_t)must(raw_clone3(&args, sizeof args), "clone3");
		if (child == 0)
			ends();
		expect_exit(child, 0);
	}
	if (!strcmp(what, "fs"))
		clone_with(fork_flags | CLONE_FS, runs_ends);
	if (!strcmp(what, "fs-end"))
		clone_with(fork_flags | CLONE_FS, ends);
	if (!strcmp(what, "fs-unshare"))
		clone_with(fork_flags | CLONE_FS, without_its_creators);
	if (!strcmp(what, "handlers"))
		share_handlers(alone);
	if (!strcmp(what, "handlers-exec"))
		share_handlers(executes);
	if (!strcmp(what, "crash"))
		fall();
	if (!strcmp(what, "crash-handled")) {
		signal(SIGSEGV, handled);
		fall();
	}
	if (!strcmp(what, "kill") || !strcmp(what, "tgkill") || !strcmp(what, "pidfd"))
		kill_by(what, SIGKILL);
	if (!strcmp(what, "kill-handled"))
		kill_by("kill", SIGTERM);
	if (!strcmp(what, "kill-pipe"))
		stop_reading();
	if (!strcmp(what, "unwaited") || !strcmp(what, "ignored")) {
		if (!strcmp(what, "ignored"))
			signal(SIGCHLD, SIG_IGN);
		until_it_is_a_zombie(child_that(ends));
		pass_time(1200);
	}
	if (!strcmp(what, "ignored-no-more")) {
		signal(SIGCHLD, SIG_IGN);
		signal(SIGCHLD, SIG_DFL);
		expect_exit(child_that(ends), 0);
	}
	if (!strcmp(what, "late")) {
		pid_t child = child_that(ends);
		until_it_is_a_zombie(child);
		pass_time(2000);
		expect_exit(child, 0);
	}
	if (!strcmp(what, "left-right-after")) {
		until_the_end = make_gate();
		child_that(ends_with_it);
	}
	if (!strcmp(what, "left-daemon")) {
		after = make_gate();
		child_that(daemon_of_it);
	}
	if (!strcmp(what, "fork-long"))
		expect_exit(child_that(lasts_long), 0);
	if (!strcmp(what, "left")) {
		after = make_gate();
		child_that(runs_lasts);
	}
	if (!strcmp(what, "waited")) {
		after = make_gate();
		pid_t child = child_that(runs_lasts);
		drop_key(after);
		expect_exit(child, 0);
	}
	if (!strcmp(what, "unnoticed"))
		expect_exit(child_that(runs_nothing), 0);
	if (!strcmp(what, "noticed"))
		expect_exit(child_that(runs_nothing_and_says_so), 127);
	say("ok pid=%d\n", (int)getpid());
	return 0;
}
