/* threads_exit_group [STATUS=0]: one of six threads ends the process by exit_group while the others live. */
#include "programs.h"

static struct gate never;
static int started[2];

static void *park(void *unused)
{
	pid_t tid = own_tid();
	put(started[1], &tid, sizeof tid);
	wait_at(never);
	return unused;
}

static void *leave(void *status)
{
	say("ok pid=%d tid=%d status=%d\n", (int)getpid(), (int)own_tid(), *(int *)status);
	syscall(SYS_exit_group, *(int *)status);
	return NULL;
}

int main(int argc, char **argv)
{
	int status = (int)number(argc, argv, 1, 0);
	pthread_t thread;
	never = make_gate();
	must(pipe2(started, O_CLOEXEC), "pipe2");
	for (int i = 0; i < 5; i++) {
		pid_t tid;
		if ((errno = pthread_create(&thread, NULL, park, NULL)))
			die("pthread_create: %s", strerror(errno));
		expect(get(started[0], &tid, sizeof tid), "a tid from the thread");
		say("parked tid=%d\n", (int)tid);
	}
	if ((errno = pthread_create(&thread, NULL, leave, &status)))
		die("pthread_create: %s", strerror(errno));
	wait_at(never);
	die("the thread did not end the process");
}
