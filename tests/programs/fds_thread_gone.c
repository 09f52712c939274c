/* fds_thread_gone thread|leader: a process is made by a thread that ends before the process executes; its descriptor
 * table lives on with the other threads. `made child=.. creator=.. fd=.. tid=..`: what it
 * inherited from whom, and a thread that is there still.
 */
#include "programs.h"

static struct gate gate;
static int inherited;
static pid_t child, creator;

static void make_child(void)
{
	char code[] = "0";
	creator = own_tid();
	child = (pid_t)must(raw_fork(), "fork");
	if (child != 0)
		return;
	drop_key(gate);
	wait_at(gate);
	execl(own_path(), own_path(), "leaf", code, (char *)NULL);
	_exit(127);
}

/* pthread_join returns while the thread is still on its way through exit(2). */
static void until_thread_is_gone(pid_t tid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/task/%d", (int)tid);
	while (access(path, F_OK) == 0)
		sched_yield();
}

static void *as_creator(void *unused)
{
	make_child();
	return unused;
}

static void *as_witness(void *leader_too)
{
	if (leader_too)
		until_leader_is_zombie();
	say("made child=%d creator=%d fd=%d tid=%d\n", (int)child, (int)creator, inherited, (int)own_tid());
	drop_key(gate);
	expect_exit(child, 0);
	say("ok\n");
	_exit(0);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	end_if_leaf(argc, argv);
	int leader = chosen(argc, argv, 1, "leader");
	if (!leader && !chosen(argc, argv, 1, "thread"))
		usage("fds_thread_gone thread|leader");
	own_path();
	gate = make_gate();
	inherited = (int)must(open("/dev/null", O_RDONLY), "open /dev/null"); /* without O_CLOEXEC */
	if (leader) {
		make_child();
		errno = pthread_create(&thread, NULL, as_witness, &gate);
		expect(errno == 0, "pthread_create");
		pthread_exit(NULL);
	}
	errno = pthread_create(&thread, NULL, as_creator, NULL);
	expect(errno == 0, "pthread_create");
	pthread_join(thread, NULL);
	until_thread_is_gone(creator);
	as_witness(NULL);
}
