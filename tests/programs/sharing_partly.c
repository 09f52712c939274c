/* sharing_partly: tasks that share only part of what a thread or a fork child does, all alive until standard input
 * ends. Each says what it is and which task made it: for `vfork` that is the thread that it holds.
 */
#include "programs.h"

/* include/uapi/linux/ioprio.h, which musl-gcc does not find */
#define WHO_PROCESS 1
#define BEST_EFFORT_5 (2 << 13 | 5)

static struct gate gate;
static int ready[2];

static void tell(void)
{
	pid_t tid = own_tid();
	put(ready[1], &tid, sizeof tid);
}

static pid_t told(void)
{
	pid_t tid;
	expect(get(ready[0], &tid, sizeof tid), "a tid from a new task");
	return tid;
}

static int wait_there(void *unused)
{
	(void)unused;
	tell();
	wait_at(gate);
	return 0;
}

static void *thread_of_its_own(void *flags)
{
	must(unshare((int)(intptr_t)flags), "unshare");
	tell();
	wait_at(gate);
	return NULL;
}

static void *vfork_and_wait(void *unused)
{
	(void)unused;
	pid_t tid = own_tid();
	put(ready[1], &tid, sizeof tid);
	/* The child uses the parent's stack: it does no more than one read before it ends. */
	pid_t child = vfork();
	if (child == 0) {
		pid_t me = own_tid();
		char byte;
		put(ready[1], &me, sizeof me);
		while (read(gate.wait, &byte, 1) == -1 && errno == EINTR)
			;
		_exit(0);
	}
	must(child, "vfork");
	expect_exit(child, 0);
	return NULL;
}

struct kind {
	const char *name;
	unsigned long flags;
};

static const struct kind kinds[] = {
	{"fork", 0},
	{"files", CLONE_FILES},
	{"fs", CLONE_FS},
	{"vm", CLONE_VM},
	{"sighand", CLONE_VM | CLONE_SIGHAND},
	{"sysvsem", CLONE_SYSVSEM},
	{"io", CLONE_IO},
};
#define KINDS (sizeof kinds / sizeof *kinds)

int main(void)
{
	pthread_t threads[4];
	pid_t children[KINDS];
	pid_t me = getpid();
	gate = make_gate();
	must(pipe2(ready, O_CLOEXEC), "pipe2");
	/* Makes an I/O context, which CLONE_IO can share. */
	must(syscall(SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT_5), "ioprio_set");
	for (size_t i = 0; i < KINDS; i++) {
		children[i] = (pid_t)clone_on_stack(kinds[i].flags | SIGCHLD, new_stack(), wait_there, NULL);
		expect(children[i] > 0, kinds[i].name);
		say("process kind=%s pid=%d creator=%d\n", kinds[i].name, told(), me);
	}
	pthread_create(&threads[0], NULL, thread_of_its_own, (void *)(intptr_t)0);
	say("thread kind=plain tid=%d creator=%d\n", told(), me);
	pthread_create(&threads[1], NULL, thread_of_its_own, (void *)(intptr_t)CLONE_FS);
	say("thread kind=fs tid=%d creator=%d\n", told(), me);
	pthread_create(&threads[2], NULL, thread_of_its_own, (void *)(intptr_t)CLONE_FILES);
	say("thread kind=files tid=%d creator=%d\n", told(), me);
	pthread_create(&threads[3], NULL, vfork_and_wait, NULL);
	pid_t holder = told();
	say("process kind=vfork pid=%d creator=%d\n", told(), holder);
	say("ready pid=%d\n", me);

	char byte;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	/* Those with a file table of their own hold a key of their own too: a byte for each, then. */
	for (size_t i = 0; i < KINDS + 4; i++)
		put(gate.key, "", 1);
	for (size_t i = 0; i < KINDS; i++)
		expect_exit(children[i], 0);
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	say("ok tasks=%zu\n", KINDS + 6);
	return 0;
}
