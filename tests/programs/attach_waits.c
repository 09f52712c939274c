/* attach_waits: threads that wait, each in another call and without a limit, until standard input ends.
 *
 * The leader does what the bytes of standard input say: `c` makes a thread and a process, `f` makes calls that fail or
 * create nothing. At the end all waits are ended, and each thread says how its call returned.
 */
#include "programs.h"
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <time.h>

/* include/uapi/linux/futex.h, which musl-gcc does not find */
#define FUTEX_WAIT 0
#define FUTEX_WAKE 1

enum { EPOLL, SEMOP, FUTEX, SLEEP, READ, WAITS };
static const char *const names[WAITS] = {"epoll", "semop", "futex", "sleep", "read"};
static int word, over, semaphores, set, ends[2], tids[2];

static long waits(long call)
{
	struct epoll_event event;
	struct timespec soon = {0, 200 * 1000 * 1000};
	long result = 0;
	char byte;
	switch (call) {
	case EPOLL:
		return epoll_wait(set, &event, 1, -1);
	case SEMOP:
		return semop(semaphores, &(struct sembuf){.sem_op = -1}, 1);
	case FUTEX:
		return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
	case SLEEP:
		while (result == 0 && !__atomic_load_n(&over, __ATOMIC_ACQUIRE))
			result = nanosleep(&soon, NULL);
		return result;
	default:
		return read(ends[0], &byte, 1);
	}
}

static void *run(void *call)
{
	pid_t tid = own_tid();
	put(tids[1], &tid, sizeof tid);
	long result = waits((long)(intptr_t)call);
	say("waited call=%s result=%ld errno=%s\n", names[(intptr_t)call], result, result < 0 ? errno_name(errno) : "0");
	return NULL;
}

static void *leaf(void *unused)
{
	pid_t tid = own_tid();
	put(tids[1], &tid, sizeof tid);
	return unused;
}

static void create(void)
{
	pthread_t thread;
	pid_t tid, child = (pid_t)must(fork(), "fork");
	if (child == 0)
		_exit(3);
	expect_exit(child, 3);
	errno = pthread_create(&thread, NULL, leaf, NULL);
	expect(errno == 0, "a thread");
	expect(get(tids[0], &tid, sizeof tid), "its tid");
	pthread_join(thread, NULL);
	say("created process=%d thread=%d\n", (int)child, (int)tid);
}

static void fail(void)
{
	expect(raw_clone(CLONE_THREAD, NULL, NULL, NULL, 0) == -1 && errno == EINVAL, "EINVAL from clone");
	must(unshare(CLONE_FS), "unshare");
	must(prctl(PR_SET_NAME, "renamed"), "prctl");
	say("failed errno=EINVAL\n");
}

int main(void)
{
	pthread_t threads[WAITS];
	struct epoll_event event = {.events = EPOLLIN};
	int more[2];
	char command;
	must(pipe2(ends, O_CLOEXEC), "pipe2");
	must(pipe2(more, O_CLOEXEC), "pipe2");
	must(pipe2(tids, O_CLOEXEC), "pipe2");
	semaphores = (int)must(semget(IPC_PRIVATE, 1, 0600), "semget");
	set = (int)must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
	must(epoll_ctl(set, EPOLL_CTL_ADD, more[0], &event), "epoll_ctl");
	for (long i = 0; i < WAITS; i++) {
		pid_t tid;
		errno = pthread_create(&threads[i], NULL, run, (void *)(intptr_t)i);
		expect(errno == 0, "a thread");
		expect(get(tids[0], &tid, sizeof tid), "its tid");
		while (task_state(getpid(), tid) != 'S')
			sched_yield();
	}
	say("ready pid=%d\n", (int)getpid());
	while (get(STDIN_FILENO, &command, 1))
		(command == 'c' ? create : fail)();
	__atomic_store_n(&over, 1, __ATOMIC_RELEASE);
	__atomic_store_n(&word, 1, __ATOMIC_RELEASE);
	must(syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0), "futex");
	must(semop(semaphores, &(struct sembuf){.sem_op = 1}, 1), "semop");
	put(ends[1], "x", 1);
	put(more[1], "x", 1);
	for (int i = 0; i < WAITS; i++)
		pthread_join(threads[i], NULL);
	must(semctl(semaphores, 0, IPC_RMID), "semctl");
	say("ok\n");
	return 0;
}
