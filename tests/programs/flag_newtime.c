/* flag_newtime with|without [user]: clone3 with CLONE_NEWTIME. A child with its own memory is in the new namespace at
 * once, and with it the clocks are fixed; one that borrows its creator's memory enters at its execve, and until then
 * may set them (kernel/time/namespace.c: timens_on_fork, kernel/nsproxy.c: copy_namespaces).
 */
#include "sharing.h"

static int same(const struct task *a, const char *a_name, const struct task *b, const char *b_name)
{
	return namespace_of(a, a_name) == namespace_of(b, b_name);
}

int main(int argc, char **argv)
{
	end_if_image(argc, argv);
	need_namespace("time");
	int with = with_flag(argc, argv);
	prepare(wants_user(argc, argv, 1), CAPABLE, 0);
	uint64_t flag = with ? CLONE_NEWTIME : 0;
	struct task me = self(), child = partner_with(flag, 1);
	claim("created", "time_ns", "inode", same(&me, "time", &child, "time"), !with, me.pid, child.pid);
	long fixed = tell(&child, act_set_offset, 0);
	expect(fixed == -EACCES || (!with && fixed == -EPERM), "the clocks of a namespace are fixed for who is in it");
	dismiss(&child);

	struct task borrower = partner_with(CLONE_VM | flag, 1);
	if (with && !same(&me, "time", &borrower, "time")) {
		dismiss(&borrower);
		skip("this kernel moves a CLONE_VM child into its new time namespace at once");
	}
	claim("created", "time_ns", "inode", same(&me, "time", &borrower, "time"), 1, me.pid, borrower.pid);
	claim("created", "time_for_children", "inode", same(&me, "time_for_children", &borrower, "time_for_children"),
	      !with, me.pid, borrower.pid);
	long set = tell(&borrower, act_set_offset, 0);
	expect(with ? set == 0 : set == -EACCES || set == -EPERM, "clocks can be set before somebody is in the namespace");
	prove("created", &effect_clock, 1, &me, &borrower);
	expect(tell(&borrower, act_exec, 0) == 0, "execve");
	prove("after-execve", &effect_clock, !with, &me, &borrower);
	claim("after-execve", "time_ns", "inode", same(&me, "time", &borrower, "time"), !with, me.pid, borrower.pid);
	dismiss(&borrower);
	say("ok flag=CLONE_NEWTIME set=%s pid=%d child=%d\n", with ? "yes" : "no", (int)me.pid, (int)child.pid);
	return 0;
}
