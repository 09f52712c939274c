/* flag_io with|without set|unset [user]: does ioprio_set in the child change its creator's priority? CLONE_IO shares
 * what is there: a creator that never set a priority has no io_context, and so both have none and get one each
 * (block/blk-ioc.c: __copy_io).
 */
#include "sharing.h"

int main(int argc, char **argv)
{
	int with = with_flag(argc, argv), set = chosen(argc, argv, 2, "set");
	if (!set && !chosen(argc, argv, 2, "unset"))
		usage("flag_io with|without set|unset [user]");
	prepare(wants_user(argc, argv, 2), 0, 0);
	if (allowed(syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS_, 0), "ioprio_get") >> 13 != 0)
		skip("started with an io priority: there is an io_context already");
	if (set)
		expect(set_ioprio(VALUES) == 0, "ioprio_set");
	struct task me = self(), child = partner(with ? CLONE_IO : 0);
	long inherited = tell(&child, effect_ioprio.look, 0);
	expect(inherited == (set ? VALUES : 0), "the child starts with its creator's priority");
	prove(set ? "created" : "both-unset", &effect_ioprio, with && set, &me, &child);
	dismiss(&child);
	say("ok flag=CLONE_IO set=%s context=%s pid=%d child=%d\n", with ? "yes" : "no", set ? "yes" : "no", (int)me.pid,
	    (int)child.pid);
	return 0;
}
