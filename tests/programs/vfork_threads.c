/* vfork_threads exit|exec|kill: a thread that calls vfork(2) is held until its child lets go, and the others run on: the
 * child, in the memory of all, lets go only once both bystanders have done something since it was made.
 * `vfork tid=.. child=.. ends=..`, `ran tid=..` for each bystander and `later tid=..` for a thread of afterwards.
 */
#include "programs.h"

enum { BYSTANDERS = 2 };

static int started[2], done[2];
static volatile pid_t bystanders[BYSTANDERS];

static void *bystander(void *number)
{
	char byte;
	bystanders[(intptr_t)number] = own_tid();
	expect(get(started[0], &byte, 1), "a byte from the child");
	put(done[1], &byte, 1);
	return NULL;
}

static void *later(void *unused)
{
	(void)unused;
	say("later tid=%d\n", (int)own_tid());
	return NULL;
}

static pthread_t thread_of(void *(*run)(void *), intptr_t argument)
{
	pthread_t thread;
	errno = pthread_create(&thread, NULL, run, (void *)argument);
	expect(errno == 0, "pthread_create");
	return thread;
}

static void *caller(void *ends)
{
	char bytes[BYSTANDERS] = {0};
	char *const again[] = {(char *)own_path(), "leaf", "0", NULL};
	pid_t child = vfork();
	if (child == 0) {
		put(started[1], bytes, BYSTANDERS);
		if (!get(done[0], bytes, BYSTANDERS))
			_exit(1);
		if (strcmp(ends, "exec") == 0)
			execv(own_path(), again);
		else if (strcmp(ends, "kill") == 0)
			kill(getpid(), SIGKILL);
		_exit(0);
	}
	must(child, "vfork");
	say("vfork tid=%d child=%d ends=%s\n", (int)own_tid(), (int)child, (char *)ends);
	int status = ended(child), killed = strcmp(ends, "kill") == 0;
	expect(killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : status == 0, "the child's end");
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[BYSTANDERS];
	end_if_leaf(argc, argv);
	if (!chosen(argc, argv, 1, "exit") && !chosen(argc, argv, 1, "exec") && !chosen(argc, argv, 1, "kill"))
		usage("vfork_threads exit|exec|kill");
	own_path();
	must(pipe2(started, O_CLOEXEC), "pipe2");
	must(pipe2(done, O_CLOEXEC), "pipe2");
	for (intptr_t i = 0; i < BYSTANDERS; i++)
		threads[i] = thread_of(bystander, i);
	pthread_join(thread_of(caller, (intptr_t)argv[1]), NULL);
	for (int i = 0; i < BYSTANDERS; i++) {
		pthread_join(threads[i], NULL);
		say("ran tid=%d\n", (int)bystanders[i]);
	}
	pthread_join(thread_of(later, 0), NULL);
	say("ok\n");
	return 0;
}
