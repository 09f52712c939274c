/* flag_parent with|without [user]: has what a child makes the child's own parent, who alone can wait for it? */
#include "sharing.h"

static struct task made;
static unsigned long flags;

static long make(long unused)
{
	(void)unused;
	int report[2];
	must(pipe2(report, O_CLOEXEC), "pipe2");
	long tid = must(raw_clone(flags | SIGCHLD, NULL, NULL, NULL, 0), "clone");
	if (tid == 0) {
		int64_t parent = getppid();
		put(report[1], &parent, sizeof parent);
		_exit(0);
	}
	int64_t parent;
	expect(get(report[0], &parent, sizeof parent), "the parent of what was made");
	made.pid = (pid_t)tid;
	return (long)parent;
}

static long made_number(long unused)
{
	(void)unused;
	return made.pid;
}

static long wait_for_made(long unused)
{
	(void)unused;
	int status;
	return waitpid(made.pid, &status, __WALL) == -1 ? -errno : status;
}

int main(int argc, char **argv)
{
	int with = with_flag(argc, argv);
	prepare(wants_user(argc, argv, 1), 0, 0);
	flags = with ? CLONE_PARENT : 0;
	struct task me = self(), creator = partner(0);
	long parent = tell(&creator, make, 0);
	pid_t pid = (pid_t)tell(&creator, made_number, 0);
	expect(parent == (with ? me.pid : creator.pid), "the parent is the creator's with CLONE_PARENT, the creator without");
	long waited = tell(&creator, wait_for_made, 0);
	expect(waited == (with ? -ECHILD : 0), "a creator that is no parent has no child to wait for");
	if (with)
		expect_exit(pid, 0);
	claim("created", "parent", "getppid", parent == me.pid, with, creator.pid, pid);
	dismiss(&creator);
	say("ok flag=CLONE_PARENT set=%s pid=%d parent=%ld creator=%d child=%d\n", with ? "yes" : "no", (int)me.pid, parent,
	    (int)creator.pid, (int)pid);
	return 0;
}
