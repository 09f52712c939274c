/* later_exec RESOURCE [user]: a child that shares the resource executes this program again. Memory, descriptors and
 * signal handlers are its own then; cwd and umask, SEM_UNDO list, io_context and namespaces still shared. A time
 * namespace that the child made is entered.
 */
#include "sharing.h"

#define CHOICE "mm files sighand fs sysvsem io uts ipc mnt net user cgroup time"

static void exec_sysvsem(const struct task *me, const struct task *child)
{
	int id = new_semaphore();
	tell_must(child, act_exec, 0, "execve");
	tell_must(child, act_raise, id, "semop");
	dismiss(child);
	int value = remove_semaphore(id);
	say("semaphore when=child-ended value=%d\n", value);
	claim("after", "sysvsem", "SEM_UNDO", value == RAISE, 1, me->pid, child->pid);
}

int main(int argc, char **argv)
{
	end_if_image(argc, argv);
	const struct resource *what = resource_asked(argc, argv, CHOICE);
	int ends = what->flag & (CLONE_VM | CLONE_FILES | CLONE_SIGHAND | CLONE_NEWTIME) ? 1 : 0;
	prepare_for(what, wants_user(argc, argv, 1));
	if (what->flag == CLONE_IO)
		allowed(set_ioprio(1) == 0 ? 0 : -1, "ioprio_set");
	struct task me = self(), child = partner(what->link == NULL ? what->flag : 0);
	if (what->flag == CLONE_NEWTIME) {
		tell_must(&child, act_unshare, CLONE_NEWTIME, "unshare");
		expect(tell(&child, act_set_offset, 0) == 0, "the clocks of a namespace without processes can be set");
	}
	if (what->flag == CLONE_SYSVSEM) {
		exec_sysvsem(&me, &child);
	} else {
		prove("before", what->effect, 1, &me, &child);
		tell_must(&child, act_exec, 0, "execve");
		if (what->flag == CLONE_NEWTIME)
			need_entered_by_execve(&child);
		prove("after", what->effect, !ends, &me, &child);
		dismiss(&child);
	}
	say("ok resource=%s ends=%s pid=%d child=%d\n", what->name, ends ? "yes" : "no", (int)me.pid, (int)child.pid);
	return 0;
}
