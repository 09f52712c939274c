/* attach_births [N=8] [STAY=8]: N threads each make a next one and end, on and on, each STAY-th of them stays.
 *
 * At a byte or the end of standard input they rest: the program says "resting" when no thread will be made any more.
 * After a byte it ends by SIGTERM, else at once.
 */
#include "programs.h"
#include <sys/eventfd.h>

static long stay;
static int rest, resting;
static pthread_attr_t small;
static sigset_t term;

static void *next(void *left)
{
	long steps = (long)(intptr_t)left;
	pthread_t thread;
	if (__atomic_load_n(&rest, __ATOMIC_ACQUIRE)) {
		uint64_t one = 1;
		put(resting, &one, sizeof one);
		for (;;)
			pause();
	}
	if ((errno = pthread_create(&thread, &small, next, (void *)(intptr_t)(steps + 1))))
		die("pthread_create: %s", strerror(errno));
	if (steps % stay == 0 && steps < 64 * stay)
		for (;;)
			pause();
	return NULL;
}

int main(int argc, char **argv)
{
	long count = number(argc, argv, 1, 8);
	char byte;
	stay = number(argc, argv, 2, 8);
	resting = (int)must(eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE), "eventfd");
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &term, NULL);
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 * 1024);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	for (long i = 0; i < count; i++) {
		pthread_t thread;
		if ((errno = pthread_create(&thread, &small, next, (void *)1)))
			die("pthread_create: %s", strerror(errno));
	}
	say("ready pid=%d\n", (int)getpid());
	int held = get(STDIN_FILENO, &byte, 1);
	__atomic_store_n(&rest, 1, __ATOMIC_RELEASE);
	for (long i = 0; i < count; i++) {
		uint64_t one;
		must(read(resting, &one, sizeof one), "read");
	}
	say("resting\n");
	if (held) {
		int signal;
		sigwait(&term, &signal);
	}
	say("ok\n");
	return 0;
}
