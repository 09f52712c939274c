/* later_close_range [user]: a child that opens and closes for its creator takes a table of its own by
 * CLOSE_RANGE_UNSHARE, in which the range is closed and after which neither changes the other's.
 */
#include "sharing.h"

enum { CLOSE_RANGE_UNSHARE_FLAG = 2 };

static long close_all_but_low(long flags)
{
	return syscall(SYS_close_range, FIRST_DESCRIPTOR, ~0u, flags) == -1 ? -errno : 0;
}

int main(int argc, char **argv)
{
	prepare(wants_user(argc, argv, 0), 0, 0);
	struct task me = self(), child = partner(CLONE_FILES);
	prove("before", &effect_descriptor, 1, &me, &child);
	expect(set_descriptor(VALUES) == 0 && tell(&child, look_descriptor, 0) == VALUES, "a descriptor that both have");
	tell_must(&child, close_all_but_low, 0, "close_range");
	expect(look_descriptor(0) == 0, "a plain close_range closes in both");
	expect(set_descriptor(VALUES) == 0 && tell(&child, look_descriptor, 0) == VALUES, "a descriptor that both have");
	tell_must(&child, close_all_but_low, CLOSE_RANGE_UNSHARE_FLAG, "close_range");
	expect(tell(&child, look_descriptor, 0) == 0, "it is closed in the child's new table");
	expect(look_descriptor(0) == VALUES, "it is open in the table that was shared");
	prove("after", &effect_descriptor, 0, &me, &child);
	dismiss(&child);
	say("ok resource=files pid=%d child=%d\n", (int)me.pid, (int)child.pid);
	return 0;
}
