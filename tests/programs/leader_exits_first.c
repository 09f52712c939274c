/* leader_exits_first [STATUS=0]: the leader ends; of the two threads that live on, one forks, then ends the process. */
#include "programs.h"

static struct gate gate;
static int status;

static void *live_on(void *forks)
{
	until_leader_is_zombie();
	if (!forks) {
		wait_at(gate);
		say("thread tid=%d\n", (int)own_tid());
		return NULL;
	}
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0)
		_exit(3);
	expect_exit(child, 3);
	say("child pid=%d parent=%d creator=%d\n", (int)child, (int)getpid(), (int)own_tid());
	drop_key(gate);
	pthread_join(*(pthread_t *)forks, NULL);
	say("ok\n");
	exit(status);
}

int main(int argc, char **argv)
{
	static pthread_t waiting, forking;
	status = (int)number(argc, argv, 1, 0);
	gate = make_gate();
	if ((errno = pthread_create(&waiting, NULL, live_on, NULL)) ||
	    (errno = pthread_create(&forking, NULL, live_on, &waiting)))
		die("pthread_create: %s", strerror(errno));
	say("leader pid=%d\n", (int)getpid());
	pthread_exit(NULL);
}
