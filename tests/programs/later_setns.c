/* later_setns NAMESPACE [user]: a child leaves its creator's namespace for that of a sibling by setns(2), and both
 * are seen by their effect, before and after. A pid namespace is entered by the child's children.
 */
#include "sharing.h"

#define CHOICE "uts ipc mnt net user cgroup pid time"

static const struct resource *what;

static long enter_that_of(long pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%ld/ns/%s", pid, what->link);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long result = fd == -1 || syscall(SYS_setns, fd, what->flag) == -1 ? -errno : 0;
	close(fd);
	return result;
}

static pid_t held;
static struct gate gate;

/* A child of the caller that stays; its own number. */
static long hold_child(long unused)
{
	(void)unused;
	int report[2];
	pid_t seen;
	must(pipe2(report, O_CLOEXEC), "pipe2");
	gate = make_gate();
	held = (pid_t)must(raw_fork(), "fork");
	if (held == 0) {
		drop_key(gate);
		seen = (pid_t)syscall(SYS_getpid);
		put(report[1], &seen, sizeof seen);
		wait_at(gate);
		_exit(0);
	}
	expect(get(report[0], &seen, sizeof seen), "the child's number");
	return seen;
}

static long held_child(long unused)
{
	(void)unused;
	return held;
}

static long release_child(long unused)
{
	(void)unused;
	drop_key(gate);
	expect_exit(held, 0);
	close(gate.wait);
	return 0;
}

static long knows(long number)
{
	return kill((pid_t)number, 0) == 0;
}

/* Whether children of `child` are in the pid namespace of `creator` or of `sibling`, each of which finds them by their
 * own number, or by none.
 */
static void prove_children(const char *when, int own, const struct task *me, const struct task *child,
			   const struct task *sibling)
{
	long number = tell(child, hold_child, 0);
	long inner = tell(sibling, knows, number);
	claim(when, "pid_for_children", "getpid", tell(child, held_child, 0) == number, own, me->pid, child->pid);
	claim(when, "pid_for_children", "kill", (int)inner, !own, sibling->pid, child->pid);
	tell(child, release_child, 0);
}

static long own_number(long unused)
{
	(void)unused;
	return getpid();
}

static struct task sibling_elsewhere(void)
{
	if (what->flag != CLONE_NEWTIME)
		return partner(what->flag);
	struct task sibling = partner(0); /* with clocks that are not everybody's, which takes an execve */
	tell_must(&sibling, act_unshare, CLONE_NEWTIME, "unshare");
	expect(tell(&sibling, act_set_offset, 0) == 0, "the clocks of a namespace without processes can be set");
	tell_must(&sibling, act_exec, 0, "execve");
	need_entered_by_execve(&sibling);
	return sibling;
}

int main(int argc, char **argv)
{
	end_if_image(argc, argv);
	what = resource_asked(argc, argv, CHOICE);
	prepare_for(what, wants_user(argc, argv, 1));
	struct task me = self(), sibling = sibling_elsewhere(), child = partner(0);
	if (what->flag == CLONE_NEWPID) {
		prove_children("before", 1, &me, &child, &sibling);
		tell_must(&child, enter_that_of, sibling.pid, "setns");
		claim("after", "pid_ns", "getpid", tell(&child, own_number, 0) == child.pid, 1, me.pid, child.pid);
		prove_children("after", 0, &me, &child, &sibling);
	} else {
		prove("before", what->effect, 1, &me, &child);
		prove("before", what->effect, 0, &sibling, &child);
		tell_must(&child, enter_that_of, sibling.pid, "setns");
		prove("after", what->effect, 0, &me, &child);
		prove("after", what->effect, 1, &sibling, &child);
	}
	dismiss(&child);
	dismiss(&sibling);
	say("ok resource=%s pid=%d child=%d\n", what->name, (int)me.pid, (int)child.pid);
	return 0;
}
