/* Makes children where a caller is hard to tell: by inlined functions, callbacks of the C library, handlers, jumps. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define INTO static inline __attribute__((always_inline))
#define APART __attribute__((noinline, noclone))

static volatile int made;

static void reap(pid_t child)
{
	if (child == 0)
		_exit(0);
	if (child < 0 || waitpid(child, NULL, 0) != child)
		exit(1);
	made++;
}

INTO void innermost(void)
{
	reap(fork());
}

INTO void between(void)
{
	innermost();
	made += 0;
}

static void once(void) /* one caller: the compiler inlines it by itself */
{
	reap(fork());
}

APART static void spawns(void)
{
	char *words[] = {"true", NULL};
	pid_t child;
	if (posix_spawnp(&child, words[0], NULL, NULL, words, environ) != 0)
		exit(1);
	reap(child);
}

APART static void opens(void)
{
	FILE *pipe = popen("true", "r");
	if (pipe == NULL || pclose(pipe) != 0)
		exit(1);
	made++;
}

APART static void runs(void)
{
	if (system("true") != 0)
		exit(1);
	made++;
}

static void *routine(void *nothing)
{
	innermost();
	return nothing;
}

INTO void starts(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, routine, NULL) != 0 || pthread_join(thread, NULL) != 0)
		exit(1);
	made++;
}

static int compare(const void *one, const void *other)
{
	reap(fork());
	return *(const int *)one - *(const int *)other;
}

APART static void sorts(void)
{
	int numbers[] = {2, 1};
	qsort(numbers, 2, sizeof numbers[0], compare);
}

static void handler(int number)
{
	(void)number;
	innermost();
}

APART static pid_t jumps(void)
{
	return fork(); /* by a jump, with -O2 */
}

static void at_end(void)
{
	made += 2; /* not the same code as that of once */
	reap(fork());
}

int main(void)
{
	between();
	once();
	spawns();
	opens();
	runs();
	starts();
	sorts();
	if (signal(SIGUSR1, handler) == SIG_ERR || raise(SIGUSR1) != 0)
		return 1;
	reap(jumps());
	if (atexit(at_end) != 0)
		return 1;
	printf("ok made=%d\n", made);
	return 0;
}
