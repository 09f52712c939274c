/* exec_nonleader others|leader-alive|leader-gone|leader: an execve in a process of several threads.
 *
 * others        a thread executes while the leader and three more threads live
 * leader-alive  a thread executes while only the leader lives beside it
 * leader-gone   the leader has ended by pthread_exit before a thread executes; three more live
 * leader        the leader itself executes while three threads live
 */
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

static void run_again(void)
{
	char former[16];
	snprintf(former, sizeof former, "%d", (int)own_tid());
	say("exec pid=%d tid=%d\n", (int)getpid(), (int)own_tid());
	execl(own_path(), "exec_nonleader", "after", former, (char *)NULL);
	die("execl: %s", strerror(errno));
}

static void *execute(void *leader_goes)
{
	if (leader_goes)
		until_leader_is_zombie();
	run_again();
	return NULL;
}

int main(int argc, char **argv)
{
	if (chosen(argc, argv, 1, "after")) {
		expect(own_tid() == getpid(), "the one thread left is the leader");
		say("ok pid=%d tid=%d former=%ld\n", (int)getpid(), (int)own_tid(), number(argc, argv, 2, 0));
		return 0;
	}
	int others = chosen(argc, argv, 1, "others"), alive = chosen(argc, argv, 1, "leader-alive");
	int gone = chosen(argc, argv, 1, "leader-gone"), leader = chosen(argc, argv, 1, "leader");
	if (!(others || alive || gone || leader))
		usage("exec_nonleader others|leader-alive|leader-gone|leader");
	pthread_t thread;
	own_path();
	never = make_gate();
	must(pipe2(started, O_CLOEXEC), "pipe2");
	for (int i = 0; !alive && i < 3; i++) {
		pid_t tid;
		if ((errno = pthread_create(&thread, NULL, park, NULL)))
			die("pthread_create: %s", strerror(errno));
		expect(get(started[0], &tid, sizeof tid), "a tid from the thread");
		say("parked tid=%d\n", (int)tid);
	}
	if (leader)
		run_again();
	if ((errno = pthread_create(&thread, NULL, execute, gone ? &never : NULL)))
		die("pthread_create: %s", strerror(errno));
	if (gone)
		pthread_exit(NULL);
	wait_at(never);
	die("the thread did not execute");
}
