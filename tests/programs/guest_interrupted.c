/* guest_interrupted [CALL=all]: whether a call that waits is interrupted by a signal that the process ignores.
 *
 * CALL is epoll, poll, sleep, sigwait, semop, msgrcv, futex or read. Another process sends the signals once the
 * caller sleeps, then what ends the wait, or a limit does. epoll-endless, sigwait-endless and semop-endless have none.
 */
#include "programs.h"
#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <time.h>

static int word;
static int queue, semaphores, ends[2];

static int is(const char *call, const char *name)
{
	return strncmp(call, name, strlen(name)) == 0;
}

static int endless(const char *call)
{
	return strstr(call, "-endless") != NULL;
}

static long waits(const char *call)
{
	struct timespec soon = {0, 200 * 1000 * 1000}, *limit = endless(call) ? NULL : &soon;
	if (is(call, "epoll")) {
		struct epoll_event event = {.events = EPOLLIN};
		int set = (int)must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
		must(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event), "epoll_ctl");
		return epoll_wait(set, &event, 1, limit ? 200 : -1);
	}
	if (strcmp(call, "poll") == 0)
		return poll(&(struct pollfd){.fd = ends[0], .events = POLLIN}, 1, 200);
	if (strcmp(call, "sleep") == 0)
		return nanosleep(&soon, NULL);
	if (is(call, "sigwait")) {
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		return sigtimedwait(&set, NULL, limit);
	}
	if (is(call, "semop"))
		return semtimedop(semaphores, &(struct sembuf){.sem_op = -1}, 1, limit);
	if (strcmp(call, "msgrcv") == 0) {
		struct { long type; char text[8]; } message;
		return msgrcv(queue, &message, sizeof message.text, 1, 0);
	}
	if (strcmp(call, "futex") == 0)
		return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &soon, NULL, 0);
	char byte;
	return read(ends[0], &byte, 1);
}

static void try(const char *call)
{
	must(pipe2(ends, O_CLOEXEC), "pipe2");
	queue = (int)must(msgget(IPC_PRIVATE, 0600), "msgget");
	semaphores = (int)must(semget(IPC_PRIVATE, 1, 0600), "semget");
	pid_t waiter = getpid(), sender = (pid_t)must(fork(), "fork");
	if (sender == 0) {
		while (task_state(waiter, waiter) != 'S')
			sched_yield();
		must(kill(waiter, SIGWINCH), "kill");
		must(kill(waiter, SIGUSR1), "kill");
		if (strcmp(call, "msgrcv") == 0) {
			struct { long type; char text[8]; } message = {1, "message"};
			must(msgsnd(queue, &message, sizeof message.text, 0), "msgsnd");
		} else if (endless(call)) {
			/* A signal wakes its target before kill returns: asleep again, it has seen them. */
			while (task_state(waiter, waiter) != 'S')
				sched_yield();
			put(ends[1], "x", 1);
			must(semop(semaphores, &(struct sembuf){.sem_op = 1}, 1), "semop");
			must(kill(waiter, SIGUSR2), "kill");
		} else if (strcmp(call, "read") == 0)
			put(ends[1], "x", 1);
		_exit(0);
	}
	long result = waits(call);
	int error = result < 0 ? errno : 0;
	expect_exit(sender, 0);
	must(msgctl(queue, IPC_RMID, NULL), "msgctl");
	must(semctl(semaphores, 0, IPC_RMID), "semctl");
	close(ends[0]);
	close(ends[1]);
	say("%s result=%ld errno=%s\n", call, result, error == ETIMEDOUT ? "ETIMEDOUT" : errno_name(error));
}

int main(int argc, char **argv)
{
	static const char *const all[] = {
		"epoll", "poll", "sleep", "sigwait", "semop", "msgrcv", "futex", "read", "epoll-endless",
		"semop-endless", "sigwait-endless",
	};
	sigset_t blocked;
	signal(SIGUSR1, SIG_IGN);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	must(sigprocmask(SIG_BLOCK, &blocked, NULL), "sigprocmask");
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (argc < 2 || chosen(argc, argv, 1, all[i]))
			try(all[i]);
	say("ok\n");
	return 0;
}
