/* spawner vfork|clone RATE SECONDS: makes RATE processes a second (0: as many as it can), each of which ends at once.
 *
 * vfork  by vfork, with a memory that is borrowed, waited for one after the other
 * clone  by clone with CLONE_VM, not waited for (SIGCHLD is ignored): the least that a process takes; on x86-64 alone
 *
 * Prints how many it made, in how many nanoseconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void must(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "spawner: %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void one_by_vfork(void)
{
	pid_t child = vfork();
	must(child != -1, "vfork");
	if (child == 0)
		_exit(0);
	must(waitpid(child, NULL, 0) == child, "waitpid");
}

/* The child has the same stack and touches none of it. */
static void one_by_clone(void)
{
#if defined(__x86_64__)
	register long child __asm__("rax");
	register long tls __asm__("r8") = 0, child_tid __asm__("r10") = 0;
	do {
		child = SYS_clone;
		__asm__ volatile("syscall\n\ttest %%rax, %%rax\n\tjnz 1f\n\txor %%edi, %%edi\n\tmov %[exit], %%eax\n\t"
				 "syscall\n1:"
				 : "+r"(child)
				 : [exit] "i"(SYS_exit), "D"((long)(CLONE_VM | SIGCHLD)), "S"(0l), "d"(0l), "r"(tls), "r"(child_tid)
				 : "rcx", "r11", "memory");
		if (child == -EAGAIN) /* so many are there that have not ended */
			sched_yield();
	} while (child == -EAGAIN);
	errno = (int)-child;
	must(child > 0, "clone");
#else
	errno = ENOSYS;
	must(0, "clone on this machine");
#endif
}

int main(int argc, char **argv)
{
	if (argc != 4 || (strcmp(argv[1], "vfork") && strcmp(argv[1], "clone"))) {
		fprintf(stderr, "spawner: vfork|clone RATE SECONDS\n");
		return 2;
	}
	void (*one)(void) = strcmp(argv[1], "vfork") ? one_by_clone : one_by_vfork;
	long rate = atol(argv[2]), made = 0;
	long long begun = now(), until = begun + atol(argv[3]) * 1000000000ll, time = begun;
	/* Nobody waits for those of clone. */
	signal(SIGCHLD, one == one_by_clone ? SIG_IGN : SIG_DFL);
	while (time < until) {
		long due = rate ? (time - begun) * rate / 1000000000ll - made : 100;
		for (long i = 0; i < due; i++, made++)
			one();
		if (due == 0) {
			struct timespec pause = {0, 1000000};
			nanosleep(&pause, NULL);
		}
		time = now();
	}
	printf("made=%ld ns=%lld\n", made, time - begun);
	return 0;
}
