/* flag_newuser with|without [user]: has the child a user namespace, with ids of its own and limits of its own? */
#include "sharing.h"

enum { INNER_UID = 4242 };

static long map_own_uid(long outer)
{
	char map[64];
	int length = snprintf(map, sizeof map, "%d %ld 1", INNER_UID, outer);
	int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
	long result = fd == -1 || write(fd, map, (size_t)length) != length ? -errno : 0;
	close(fd);
	return result;
}

static long look_uid(long unused)
{
	(void)unused;
	return (long)getuid();
}

int main(int argc, char **argv)
{
	need_namespace("user");
	int with = with_flag(argc, argv);
	prepare(wants_user(argc, argv, 1), CAPABLE, CLONE_NEWUSER);
	struct task me = self(), child = partner(with ? CLONE_NEWUSER : 0);
	prove("created", &effect_user_limit, !with, &me, &child);
	long mapped = tell(&child, map_own_uid, (long)getuid());
	expect(with ? mapped == 0 : mapped == -EPERM, "a namespace's ids are mapped once, by whoever is new in it");
	long uid = tell(&child, look_uid, 0);
	expect(uid == (with ? INNER_UID : (long)getuid()), "the child has the user id that the map says");
	claim("created", "user_ns", "uid_map", uid == (long)getuid(), !with, me.pid, child.pid);
	dismiss(&child);
	say("ok flag=CLONE_NEWUSER set=%s pid=%d child=%d\n", with ? "yes" : "no", (int)me.pid, (int)child.pid);
	return 0;
}
