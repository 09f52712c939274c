/* measure FILE COMMAND...: runs COMMAND and writes its wall time, its wait status and the peak memory of its largest
 * process to FILE: wait4 gives the largest peak of the command and of all that it waited for (kernel/sys.c: getrusage),
 * which for a tracer are the programs that it runs.
 *
 * It is small, so that this is not its own: a process made by fork starts with its parent's peak (fs/exec.c: exec_mmap
 * keeps it over the exec), and a Python interpreter's is larger than most tracers'.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: measure FILE COMMAND...\n");
		return 125;
	}
	FILE *file = fopen(argv[1], "we");
	if (!file) {
		fprintf(stderr, "measure: %s: %s\n", argv[1], strerror(errno));
		return 125;
	}
	long long start = now();
	pid_t child = fork();
	if (child == 0) {
		execvp(argv[2], argv + 2);
		fprintf(stderr, "measure: %s: %s\n", argv[2], strerror(errno));
		_exit(127);
	}
	int status = 0;
	struct rusage usage;
	if (child == -1 || wait4(child, &status, 0, &usage) != child) {
		fprintf(stderr, "measure: %s\n", strerror(errno));
		return 125;
	}
	long long wall = now() - start;
	fprintf(file, "{\"wall_ns\": %lld, \"largest_kib\": %ld, \"status\": %d}\n", wall, usage.ru_maxrss, status);
	return 0;
}
