/* later_exit files|sysvsem|fs|mm [user]: three tasks share; the creator leaves (where it can) and one partner ends. The
 * last one still has it, and with that one's end it is gone: a pipe is at its end, a semaphore is as it was.
 */
#include "sharing.h"

#include <poll.h>

#define CHOICE "files sysvsem fs mm"

static long hung_up(int fd)
{
	struct pollfd end = {fd, 0, 0};
	must(poll(&end, 1, 0), "poll");
	return (end.revents & POLLHUP) != 0;
}

static void last_of_files(const struct task *me, const struct task *one, const struct task *other)
{
	int ends[2];
	must(pipe2(ends, O_CLOEXEC), "pipe2");
	expect(act_unshare(CLONE_FILES) == 0, "unshare");
	close(ends[1]);
	prove("creator-left", &effect_descriptor, 0, me, one);
	prove("creator-left", &effect_descriptor, 1, one, other);
	dismiss(one);
	expect(!hung_up(ends[0]), "one table still holds the write end");
	dismiss(other);
	expect(hung_up(ends[0]), "the table's end closes the write end");
	say("gone resource=files by=hangup pid=%d child=%d\n", (int)me->pid, (int)other->pid);
}

static void last_of_sysvsem(const struct task *me, const struct task *one, const struct task *other)
{
	int id = new_semaphore();
	tell_must(one, act_raise, id, "semop");
	expect(act_unshare(CLONE_SYSVSEM) == 0, "unshare");
	dismiss(one);
	claim("creator-left", "sysvsem", "SEM_UNDO", semaphore(id) == RAISE, 1, one->pid, other->pid);
	dismiss(other);
	int value = remove_semaphore(id);
	expect(value == 0, "the last holder's end undoes");
	say("gone resource=sysvsem by=SEM_UNDO pid=%d child=%d\n", (int)me->pid, (int)other->pid);
}

int main(int argc, char **argv)
{
	const struct resource *what = resource_asked(argc, argv, CHOICE);
	prepare_for(what, wants_user(argc, argv, 1));
	struct task me = self(), one = partner(what->flag), other = partner(what->flag);
	if (what->effect != NULL) {
		prove("before", what->effect, 1, &me, &one);
		prove("before", what->effect, 1, &me, &other);
		prove("before", what->effect, 1, &one, &other);
	}
	if (what->flag == CLONE_FILES) {
		last_of_files(&me, &one, &other);
	} else if (what->flag == CLONE_SYSVSEM) {
		last_of_sysvsem(&me, &one, &other);
	} else {
		dismiss(&one);
		prove("one-ended", what->effect, 1, &me, &other);
		dismiss(&other);
	}
	say("ok resource=%s pid=%d child=%d\n", what->name, (int)me.pid, (int)one.pid);
	return 0;
}
