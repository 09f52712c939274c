/* stack_calls: every call of the C library that makes tasks, each in a function of its own, which says its line first.
 *
 * `made`, the call, the function that calls it, and the line that the call is on. `daemon` is called by the child of
 * a fork that has such a line too.
 */
#include "programs.h"
#include <aio.h>
#include <netdb.h>
#include <pty.h>
#include <spawn.h>
#include <threads.h>
#include <time.h>
#include <wordexp.h>

#define APART __attribute__((noinline, noclone))
#define STAY __asm__ volatile("" ::: "memory") /* something to do after a call */
#define NEXT(call) say("made call=" call " by=%s line=%d\n", __func__, __LINE__ + 1)

static struct gate timer_gate;
static char *true_words[] = {"true", NULL};
extern char **environ;

static void *thread_routine(void *nothing)
{
	return nothing;
}

static int c11_routine(void *nothing)
{
	return nothing != NULL;
}

static void timer_routine(union sigval value)
{
	(void)value;
	drop_key(timer_gate);
}

APART static void calls_fork(void)
{
	NEXT("fork");
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	expect_exit(child, 0);
	STAY;
}

APART static void calls_vfork(void)
{
	NEXT("vfork");
	pid_t child = vfork();
	if (child == 0)
		_exit(0);
	expect_exit(child, 0);
	STAY;
}

APART static void calls_system(void)
{
	NEXT("system");
	expect(system("exit 0") == 0, "system");
	STAY;
}

APART static void calls_popen(void)
{
	NEXT("popen");
	FILE *stream = popen("exit 0", "r");
	expect(stream != NULL && pclose(stream) == 0, "popen");
	STAY;
}

APART static void calls_posix_spawn(void)
{
	pid_t child;
	NEXT("posix_spawn");
	expect(posix_spawn(&child, "/bin/true", NULL, NULL, true_words, environ) == 0, "posix_spawn");
	expect_exit(child, 0);
}

APART static void calls_posix_spawnp(void)
{
	pid_t child;
	NEXT("posix_spawnp");
	expect(posix_spawnp(&child, "true", NULL, NULL, true_words, environ) == 0, "posix_spawnp");
	expect_exit(child, 0);
}

APART static void calls_pthread_create(void)
{
	pthread_t thread;
	NEXT("pthread_create");
	expect(pthread_create(&thread, NULL, thread_routine, NULL) == 0, "pthread_create");
	expect(pthread_join(thread, NULL) == 0, "pthread_join");
}

APART static void calls_thrd_create(void)
{
	thrd_t thread;
	NEXT("thrd_create");
	expect(thrd_create(&thread, c11_routine, NULL) == thrd_success, "thrd_create");
	expect(thrd_join(thread, NULL) == thrd_success, "thrd_join");
}

APART static void calls_timer_create(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = timer_routine};
	struct itimerspec soon = {.it_value.tv_nsec = 1};
	timer_t timer;
	timer_gate = make_gate();
	NEXT("timer_create");
	must(timer_create(CLOCK_MONOTONIC, &event, &timer), "timer_create");
	must(timer_settime(timer, 0, &soon, NULL), "timer_settime");
	wait_at(timer_gate);
}

APART static void calls_forkpty(void)
{
	int terminal;
	NEXT("forkpty");
	pid_t child = forkpty(&terminal, NULL, NULL, NULL);
	if (child == 0)
		_exit(0);
	expect_exit(child, 0);
	STAY;
}

APART static void calls_daemon(void)
{
	NEXT("daemon");
	expect(daemon(1, 1) == 0, "daemon");
	STAY;
}

APART static void calls_wordexp(void)
{
	wordexp_t words;
	NEXT("wordexp");
	expect(wordexp("$(echo a)", &words, 0) == 0 && words.we_wordc == 1, "wordexp");
	wordfree(&words);
}

APART static void calls_aio_read(void)
{
	static char byte;
	int fd = (int)must(open("/dev/zero", O_RDONLY | O_CLOEXEC), "open /dev/zero");
	struct aiocb block = {.aio_fildes = fd, .aio_buf = &byte, .aio_nbytes = 1};
	const struct aiocb *wait[] = {&block};
	NEXT("aio_read");
	must(aio_read(&block), "aio_read");
	while (aio_error(&block) == EINPROGRESS)
		aio_suspend(wait, 1, NULL);
	expect(aio_return(&block) == 1, "aio_return");
}

#ifdef __GLIBC__
APART static void calls_getaddrinfo_a(void)
{
	static struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST};
	struct gaicb lookup = {.ar_name = "127.0.0.1", .ar_request = &numeric};
	struct gaicb *lookups[] = {&lookup};
	NEXT("getaddrinfo_a");
	expect(getaddrinfo_a(GAI_WAIT, lookups, 1, NULL) == 0, "getaddrinfo_a");
	freeaddrinfo(lookup.ar_result);
}
#endif

APART static void becomes_daemon(void)
{
	struct gate gone = make_gate();
	NEXT("fork");
	pid_t child = fork();
	if (child == 0) {
		calls_daemon();
		_exit(0);
	}
	expect_exit(child, 0);
	drop_key(gone); /* the daemon has the other key */
	wait_at(gone);
}

int main(void)
{
	calls_fork();
	calls_vfork();
	calls_system();
	calls_popen();
	calls_posix_spawn();
	calls_posix_spawnp();
	calls_pthread_create();
	calls_thrd_create();
	calls_timer_create();
	calls_forkpty();
	calls_wordexp();
	calls_aio_read();
#ifdef __GLIBC__
	calls_getaddrinfo_a();
#endif
	becomes_daemon();
	say("ok\n");
	_exit(0);
}
