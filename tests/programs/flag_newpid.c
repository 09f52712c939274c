/* flag_newpid with|without [user]: does the child know itself by the number that its creator knows? */
#include "sharing.h"

static long own_number(long unused)
{
	(void)unused;
	return getpid();
}

static long parent_number(long unused)
{
	(void)unused;
	return getppid();
}

int main(int argc, char **argv)
{
	need_namespace("pid");
	int with = with_flag(argc, argv);
	prepare(wants_user(argc, argv, 1), CAPABLE, 0);
	struct task me = self(), child = partner(with ? CLONE_NEWPID : 0);
	long number = tell(&child, own_number, 0), parent = tell(&child, parent_number, 0);
	expect(number == (with ? 1 : child.pid), "the first process of a pid namespace is 1 there");
	expect(parent == (with ? 0 : me.pid), "a parent outside of the pid namespace is 0");
	claim("created", "pid_ns", "getpid", number == child.pid, !with, me.pid, child.pid);
	dismiss(&child);
	say("ok flag=CLONE_NEWPID set=%s pid=%d child=%d\n", with ? "yes" : "no", (int)me.pid, (int)child.pid);
	return 0;
}
