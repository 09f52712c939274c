/* reaping: what becomes of a process that ended, by what its parent does then.
 * waits: it takes the status at once. later: it computes for so many ms before that. leaves: it ends, and never did.
 * blocked: the same with SIGCHLD blocked. killed: the same, by SIGKILL. threads: the same with threads that go on.
 * ignores, autoreaps: it has SIGCHLD ignored, or SA_NOCLDWAIT. inherited: it leaves it to a subreaper, which waits.
 * Says: child pid=N parent=N, and for "later" how long the zombie stood at least and at most: least=NS most=NS
 */
#include "programs.h"
#include <time.h>

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *stays(void *gate)
{
	wait_at(*(struct gate *)gate);
	return NULL;
}

static pid_t child_that_ended(const char *how)
{
	pid_t child = (pid_t)must(fork(), "fork");
	siginfo_t end;
	if (child == 0)
		_exit(3);
	must(waitid(P_PID, (id_t)child, &end, WEXITED | WNOWAIT), how);
	return child;
}

static int waits(void)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0)
		_exit(3);
	expect_exit(child, 3);
	say("child pid=%d parent=%d\n", (int)child, (int)getpid());
	return 0;
}

static int waits_later(long long ms)
{
	long long first = now();
	pid_t child = child_that_ended("later");
	long long seen = now();
	while (now() < seen + ms * 1000000)
		;
	long long asked = now();
	expect_exit(child, 3);
	say("child pid=%d parent=%d least=%lld most=%lld\n", (int)child, (int)getpid(), asked - seen, now() - first);
	return 0;
}

static int takes_no_status(int flags, void (*handler)(int))
{
	struct sigaction action = {.sa_flags = flags};
	action.sa_handler = handler;
	must(sigaction(SIGCHLD, &action, NULL), "sigaction");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0)
		_exit(3);
	if (waitpid(child, NULL, 0) != -1 || errno != ECHILD)
		die("there was a status to wait for");
	say("child pid=%d parent=%d\n", (int)child, (int)getpid());
	return 0;
}

static int inherits(void)
{
	int born[2];
	must(pipe2(born, O_CLOEXEC), "pipe2");
	must(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl PR_SET_CHILD_SUBREAPER");
	pid_t middle = (pid_t)must(fork(), "fork");
	if (middle == 0) {
		pid_t child = child_that_ended("inherited");
		put(born[1], &child, sizeof child);
		_exit(4);
	}
	pid_t child;
	expect(get(born[0], &child, sizeof child), "the child's pid");
	expect_exit(middle, 4);
	expect_exit(child, 3);
	say("child pid=%d parent=%d reaper=%d\n", (int)child, (int)middle, (int)getpid());
	return 0;
}

static int leaves(const char *how)
{
	sigset_t blocked;
	pthread_t thread;
	struct gate gate = make_gate();
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	if (strcmp(how, "blocked") == 0)
		must(sigprocmask(SIG_BLOCK, &blocked, NULL), "sigprocmask");
	for (int i = 0; i < 2 && strcmp(how, "threads") == 0; i++)
		if (pthread_create(&thread, NULL, stays, &gate) != 0)
			die("no thread");
	pid_t child = child_that_ended(how);
	say("child pid=%d parent=%d\n", (int)child, (int)getpid());
	if (strcmp(how, "killed") == 0)
		kill(getpid(), SIGKILL);
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "waits";
	if (strcmp(how, "waits") == 0)
		return waits();
	if (strcmp(how, "later") == 0)
		return waits_later(argc > 2 ? atoll(argv[2]) : 60);
	if (strcmp(how, "ignores") == 0)
		return takes_no_status(0, SIG_IGN);
	if (strcmp(how, "autoreaps") == 0)
		return takes_no_status(SA_NOCLDWAIT, SIG_DFL);
	if (strcmp(how, "inherited") == 0)
		return inherits();
	return leaves(how);
}
