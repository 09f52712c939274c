/* atonce threads|processes|deep COUNT: COUNT tasks that are all alive at the same moment.
 *
 * threads    COUNT threads of one process
 * processes  COUNT children of one process
 * deep       a chain of COUNT processes, each the child of the one before
 *
 * Each waits until the last one is there: nobody ends before the end of a pipe is closed that all of them read.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int gate[2];

static void check(int error, const char *what)
{
	if (error) {
		fprintf(stderr, "atonce: %s: %s\n", what, strerror(error));
		_exit(1);
	}
}

static void await(void)
{
	char byte;
	while (read(gate[0], &byte, 1) == -1)
		check(errno == EINTR ? 0 : errno, "read");
}

static void *held(void *unused)
{
	await();
	return unused;
}

static void threads(long count)
{
	pthread_t *made = calloc(count, sizeof *made);
	pthread_attr_t small;
	check(made ? 0 : ENOMEM, "calloc");
	check(pthread_attr_init(&small), "pthread_attr_init");
	check(pthread_attr_setstacksize(&small, 1 << 16), "pthread_attr_setstacksize");
	for (long i = 0; i < count; i++)
		check(pthread_create(&made[i], &small, held, NULL), "pthread_create");
	close(gate[1]);
	for (long i = 0; i < count; i++)
		check(pthread_join(made[i], NULL), "pthread_join");
}

static pid_t child(void)
{
	pid_t made = fork();
	check(made == -1 ? errno : 0, "fork");
	return made;
}

static void processes(long count)
{
	for (long i = 0; i < count; i++)
		if (child() == 0) {
			close(gate[1]);
			await();
			_exit(0);
		}
	close(gate[1]);
	while (wait(NULL) > 0)
		;
	check(errno == ECHILD ? 0 : errno, "wait");
}

static void deep(long count)
{
	for (long i = 0; i < count; i++)
		if (child() != 0) {
			close(gate[1]);
			await();
			check(wait(NULL) == -1 ? errno : 0, "wait");
			_exit(0);
		}
	close(gate[1]);
}

int main(int argc, char **argv)
{
	long count = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
	if (count < 1) {
		fprintf(stderr, "usage: atonce threads|processes|deep COUNT\n");
		return 2;
	}
	check(pipe(gate) == -1 ? errno : 0, "pipe");
	if (!strcmp(argv[1], "threads"))
		threads(count);
	else if (!strcmp(argv[1], "processes"))
		processes(count);
	else
		deep(count);
	return 0;
}
