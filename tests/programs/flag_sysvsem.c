/* flag_sysvsem with|without [user]: is what the child did with SEM_UNDO undone when it ends, or does the list of
 * undoings live on with its creator?
 */
#include "sharing.h"

int main(int argc, char **argv)
{
	int with = with_flag(argc, argv);
	prepare(wants_user(argc, argv, 1), 0, 0);
	int id = new_semaphore();
	struct task me = self(), child = partner(with ? CLONE_SYSVSEM : 0);
	expect(tell(&child, act_raise, id) == 0, "semop with SEM_UNDO");
	expect(semaphore(id) == RAISE, "the semaphore is raised");
	say("semaphore when=child-lives value=%d\n", semaphore(id));
	dismiss(&child);
	int value = remove_semaphore(id);
	say("semaphore when=child-ended value=%d\n", value);
	expect(value == 0 || value == RAISE, "all of it or nothing is undone");
	claim("created", "sysvsem", "SEM_UNDO", value == RAISE, with, me.pid, child.pid);
	say("ok flag=CLONE_SYSVSEM set=%s pid=%d child=%d\n", with ? "yes" : "no", (int)me.pid, (int)child.pid);
	return 0;
}
