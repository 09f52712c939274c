/* later_unshare RESOURCE [user]: a child that shares the resource takes its own by unshare(2), and that is seen by its
 * effect, before and after. Of a new pid or time namespace, it is the child's children that are in it.
 */
#include "sharing.h"

#define CHOICE "fs files sysvsem uts ipc mnt net user cgroup pid time"

enum { CHILD_IN_OWN_NAMESPACE = 1, CHILD_IN_OTHER = 2 };

/* Whether a child of the caller knows itself by the number that the caller knows. */
static long number_of_child(long unused)
{
	(void)unused;
	int report[2];
	must(pipe2(report, O_CLOEXEC), "pipe2");
	pid_t seen, child = (pid_t)must(raw_fork(), "fork");
	if (child == 0) {
		seen = (pid_t)syscall(SYS_getpid);
		put(report[1], &seen, sizeof seen);
		_exit(0);
	}
	expect(get(report[0], &seen, sizeof seen), "the child's number");
	expect_exit(child, 0);
	return seen == child ? CHILD_IN_OWN_NAMESPACE : CHILD_IN_OTHER;
}

/* The clock of a child of the caller. */
static long clock_of_child(long unused)
{
	int report[2];
	must(pipe2(report, O_CLOEXEC), "pipe2");
	pid_t child = (pid_t)must(raw_fork(), "fork");
	int64_t seen;
	if (child == 0) {
		seen = look_clock(unused);
		put(report[1], &seen, sizeof seen);
		_exit(0);
	}
	expect(get(report[0], &seen, sizeof seen), "the child's clock");
	expect_exit(child, 0);
	return (long)seen;
}

static const struct effect clock_of_children = {"time_for_children", "clock", NULL, clock_of_child};

static long own_number(long unused)
{
	(void)unused;
	return getpid();
}

static void unshare_sysvsem(const struct task *me, const struct task *child)
{
	int id = new_semaphore();
	tell_must(child, act_raise, id, "semop");
	claim("before", "sysvsem", "SEM_UNDO", semaphore(id) == RAISE, 1, me->pid, child->pid);
	tell_must(child, act_unshare, CLONE_SYSVSEM, "unshare");
	expect(semaphore(id) == RAISE, "what the list undoes is not undone while one task holds it");
	tell_must(child, act_raise, id, "semop");
	expect(semaphore(id) == 2 * RAISE, "the semaphore is raised twice");
	dismiss(child);
	say("semaphore when=child-ended value=%d\n", semaphore(id));
	claim("after", "sysvsem", "SEM_UNDO", semaphore(id) != RAISE, 0, me->pid, child->pid);
	expect(act_unshare(CLONE_SYSVSEM) == 0, "unshare");
	int value = remove_semaphore(id);
	say("semaphore when=last-holder-left value=%d\n", value);
	expect(value == 0, "the list ends with its last holder");
}

static void unshare_pid(const struct task *me, const struct task *child)
{
	claim("before", "pid_for_children", "getpid", tell(child, number_of_child, 0) == CHILD_IN_OWN_NAMESPACE, 1,
	      me->pid, child->pid);
	tell_must(child, act_unshare, CLONE_NEWPID, "unshare");
	claim("after", "pid_ns", "getpid", tell(child, own_number, 0) == child->pid, 1, me->pid, child->pid);
	claim("after", "pid_for_children", "getpid", tell(child, number_of_child, 0) == CHILD_IN_OWN_NAMESPACE, 0,
	      me->pid, child->pid);
	dismiss(child);
}

static void unshare_time(const struct task *me, const struct task *child)
{
	prove("before", &effect_clock, 1, me, child);
	tell_must(child, act_unshare, CLONE_NEWTIME, "unshare");
	expect(tell(child, act_set_offset, 0) == 0, "the clocks of a namespace without processes can be set");
	prove("after", &effect_clock, 1, me, child);
	prove("after", &clock_of_children, 0, me, child);
	dismiss(child);
}

int main(int argc, char **argv)
{
	const struct resource *what = resource_asked(argc, argv, CHOICE);
	prepare_for(what, wants_user(argc, argv, 1));
	struct task me = self(), child = partner(what->link == NULL ? what->flag : 0);
	if (what->flag == CLONE_SYSVSEM) {
		unshare_sysvsem(&me, &child);
	} else if (what->flag == CLONE_NEWPID) {
		unshare_pid(&me, &child);
	} else if (what->flag == CLONE_NEWTIME) {
		unshare_time(&me, &child);
	} else {
		prove("before", what->effect, 1, &me, &child);
		tell_must(&child, act_unshare, (long)what->flag, "unshare");
		prove("after", what->effect, 0, &me, &child);
		dismiss(&child);
	}
	say("ok resource=%s pid=%d child=%d\n", what->name, (int)me.pid, (int)child.pid);
	return 0;
}
