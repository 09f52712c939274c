/* many_births: 21 tasks made in every common way, each with an end of its own (its exit code, or a signal), so that a log
 * which takes one for another can be told from one that does not. Threads that fork and vfork, posix_spawn, an execve in a
 * thread, a pid namespace whose children show in any order, CLONE_PARENT, a stop, and calls that are refused. Without
 * privilege the pid namespace comes with a user namespace.
 */
#include "programs.h"
#include <spawn.h>

extern char **environ;


/* Nothing but the execve happens in the memory that a vfork child borrows. */
static void vfork_leaf(char *text, int code)
{
	char *words[] = {(char *)own_path(), "leaf", text, NULL};
	pid_t child = vfork();
	if (child == 0) {
		execve(words[0], words, environ);
		_exit(127);
	}
	expect_exit((pid_t)must(child, "vfork"), code);
}

static void fork_leaf(int code)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0)
		_exit(code);
	expect_exit(child, code);
}

static void spawn_leaf(char *text, int code)
{
	char *words[] = {(char *)own_path(), "leaf", text, NULL};
	pid_t child;
	if ((errno = posix_spawn(&child, words[0], NULL, NULL, words, environ)))
		die("posix_spawn: %s", strerror(errno));
	expect_exit(child, code);
}

static struct gate together;

static void *thread_that_forks(void *unused)
{
	wait_at(together);
	fork_leaf(34);
	return unused;
}

static void *thread_that_vforks(void *unused)
{
	wait_at(together);
	vfork_leaf("35", 35);
	return unused;
}

static void *thread_that_waits(void *unused)
{
	wait_at(together);
	return unused;
}

static void threads(void)
{
	void *(*const runs[])(void *) = {thread_that_forks, thread_that_vforks, thread_that_waits};
	pthread_t made[3];
	together = make_gate();
	for (int i = 0; i < 3; i++)
		if ((errno = pthread_create(&made[i], NULL, runs[i], NULL)))
			die("pthread_create: %s", strerror(errno));
	drop_key(together);
	for (int i = 0; i < 3; i++)
		pthread_join(made[i], NULL);
	close(together.wait);
}

static void *thread_that_executes(void *go)
{
	char *words[] = {(char *)own_path(), "leaf", "36", NULL};
	wait_at(*(struct gate *)go);
	execve(words[0], words, environ);
	die("execve: %s", strerror(errno));
}

static void *parked(void *gate)
{
	wait_at(*(struct gate *)gate);
	return NULL;
}

static void thread_exec(void)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		/* The execve ends the caller: until its clone has returned, no log could tell what it had made. */
		struct gate never = make_gate(), go = make_gate();
		pthread_t thread;
		if ((errno = pthread_create(&thread, NULL, parked, &never)) ||
		    (errno = pthread_create(&thread, NULL, thread_that_executes, &go)))
			die("pthread_create: %s", strerror(errno));
		drop_key(go);
		wait_at(never);
	}
	expect_exit(child, 36);
}

static void pid_namespace(void)
{
	unsigned long flags = CLONE_NEWPID | (geteuid() ? CLONE_NEWUSER : 0) | SIGCHLD;
	pid_t child = (pid_t)must(raw_clone(flags, NULL, NULL, NULL, 0), "clone(CLONE_NEWPID)");
	if (child == 0) {
		struct gate gate = make_gate();
		pid_t made[3];
		for (int i = 0; i < 3; i++) {
			made[i] = (pid_t)must(raw_clone(SIGCHLD, NULL, NULL, NULL, 0), "clone");
			if (made[i] == 0) {
				drop_key(gate);
				wait_at(gate);
				_exit(41 + i);
			}
			expect(made[i] == 2 + i, "the pids of a new namespace");
		}
		drop_key(gate);
		for (int i = 2; i >= 0; i--)
			expect_exit(made[i], 41 + i);
		vfork_leaf("44", 44);
		_exit(40);
	}
	expect_exit(child, 40);
}

static void sibling(void)
{
	int told[2];
	must(pipe2(told, O_CLOEXEC), "pipe2");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		pid_t made = (pid_t)must(raw_clone(CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0), "clone(CLONE_PARENT)");
		if (made == 0)
			_exit(51);
		put(told[1], &made, sizeof made);
		_exit(50);
	}
	pid_t made;
	expect(get(told[0], &made, sizeof made), "the pid of a sibling");
	expect_exit(child, 50);
	expect_exit(made, 51);
}

static void stopped(void)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		raise(SIGSTOP);
		_exit(52);
	}
	int status;
	must(waitpid(child, &status, WUNTRACED), "waitpid");
	expect(WIFSTOPPED(status), "a stopped child");
	must(kill(child, SIGCONT), "kill");
	expect_exit(child, 52);
}

static void killed(void)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0)
		raise(SIGUSR1);
	expect(WTERMSIG(ended(child)) == SIGUSR1, "a child that SIGUSR1 ended");
}

static void refused(void)
{
	struct clone3_args args = {.flags = CLONE_SIGHAND, .exit_signal = SIGCHLD};
	char *words[] = {"nowhere", NULL};
	expect(raw_clone(CLONE_THREAD, NULL, NULL, NULL, 0) == -1 && errno == EINVAL, "clone(CLONE_THREAD)");
	expect(raw_clone3(&args, sizeof args) == -1 && errno == EINVAL, "clone3(CLONE_SIGHAND)");
	expect(syscall(SYS_setns, -1, 0) == -1 && errno == EBADF, "setns");
	expect(unshare(CLONE_FILES) == 0, "unshare(CLONE_FILES)");
	expect(execve("/nowhere", words, environ) == -1 && errno == ENOENT, "execve");
}

int main(int argc, char **argv)
{
	end_if_leaf(argc, argv);
	own_path();
	fork_leaf(31);
	vfork_leaf("32", 32);
	spawn_leaf("33", 33);
	threads();
	thread_exec();
	pid_namespace();
	sibling();
	stopped();
	killed();
	refused();
	say("ok tasks=21\n");
	return 0;
}
