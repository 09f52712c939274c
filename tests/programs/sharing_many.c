/* sharing_many [N=1009] [threads|processes]: N tasks, the first among them, alive until standard input ends. */
#include "programs.h"

static struct gate gate;

static void *wait_there(void *unused)
{
	(void)unused;
	wait_at(gate);
	return NULL;
}

int main(int argc, char **argv)
{
	long count = number(argc, argv, 1, 1009) - 1;
	int processes = chosen(argc, argv, 2, "processes");
	pthread_t *threads = calloc((size_t)count + 1, sizeof *threads);
	pid_t *children = calloc((size_t)count + 1, sizeof *children);
	pthread_attr_t small;
	char byte;
	expect(threads != NULL && children != NULL, "memory");
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 * 1024);
	gate = make_gate();
	for (long i = 0; i < count; i++) {
		if (!processes) {
			if ((errno = pthread_create(&threads[i], &small, wait_there, NULL)))
				die("pthread_create of thread %ld: %s", i, strerror(errno));
		} else if ((children[i] = (pid_t)must(fork(), "fork")) == 0) {
			drop_key(gate);
			wait_at(gate);
			_exit(0);
		}
	}
	say("ready pid=%d\n", (int)getpid());
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	drop_key(gate);
	for (long i = 0; i < count; i++) {
		if (processes)
			expect_exit(children[i], 0);
		else
			pthread_join(threads[i], NULL);
	}
	say("ok tasks=%ld\n", count + 1);
	return 0;
}
