/* workload threads|forks|spawns|refusals|calls COUNT [HELPER]: what the benchmark traces.
 *
 * threads  COUNT threads, created and joined one after the other
 * forks    COUNT children by fork, each of which ends at once, waited for one after the other
 * spawns   COUNT times posix_spawn of HELPER, waited for one after the other
 * refusals COUNT times clone3 with a struct of no size, which fails with EINVAL
 * calls    COUNT times getppid, a call that no tracer of process creation needs to see
 *
 * Prints the nanoseconds that it took inside, without its own start and that of a tracer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void check(int error, const char *what)
{
	if (error) {
		fprintf(stderr, "workload: %s: %s\n", what, strerror(error));
		exit(1);
	}
}

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void *no_work(void *unused)
{
	return unused;
}

static void wait_for(pid_t child)
{
	int status;
	while (waitpid(child, &status, 0) == -1)
		check(errno == EINTR ? 0 : errno, "waitpid");
	if (status != 0) {
		fprintf(stderr, "workload: child %d ended with wait status 0x%x\n", (int)child, status);
		exit(1);
	}
}

static void threads(long count)
{
	pthread_t thread;
	for (long i = 0; i < count; i++) {
		check(pthread_create(&thread, NULL, no_work, NULL), "pthread_create");
		check(pthread_join(thread, NULL), "pthread_join");
	}
}

static void forks(long count)
{
	for (long i = 0; i < count; i++) {
		pid_t child = fork();
		check(child == -1 ? errno : 0, "fork");
		if (child == 0)
			_exit(0);
		wait_for(child);
	}
}

static void spawns(long count, char *helper)
{
	char *argv[] = {helper, NULL}, *env[] = {NULL};
	for (long i = 0; i < count; i++) {
		pid_t child;
		check(posix_spawn(&child, helper, NULL, NULL, argv, env), helper);
		wait_for(child);
	}
}

static void refusals(long count)
{
	for (long i = 0; i < count; i++)
		check(syscall(SYS_clone3, 0, 0) == -1 && errno == EINVAL ? 0 : EPROTO, "clone3");
}

static void calls(long count)
{
	for (long i = 0; i < count; i++)
		syscall(SYS_getppid);
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	long count = argc > 2 ? atol(argv[2]) : 0;
	long long start = now();
	if (strcmp(kind, "threads") == 0)
		threads(count);
	else if (strcmp(kind, "forks") == 0)
		forks(count);
	else if (strcmp(kind, "spawns") == 0 && argc > 3)
		spawns(count, argv[3]);
	else if (strcmp(kind, "refusals") == 0)
		refusals(count);
	else if (strcmp(kind, "calls") == 0)
		calls(count);
	else {
		fprintf(stderr, "usage: workload threads|forks|spawns|refusals|calls COUNT [HELPER]\n");
		return 2;
	}
	printf("inside_ns=%lld\n", now() - start);
	return 0;
}
