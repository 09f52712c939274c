/* attach_signals: blocks SIGUSR1 and SIGRTMIN; each byte of standard input lets what is pending in and counts it. */
#include "programs.h"

static volatile sig_atomic_t once, queued, sum;

static void on_signal(int number, siginfo_t *info, void *context)
{
	(void)context;
	if (number == SIGUSR1)
		once++;
	else {
		queued++;
		sum += info->si_value.sival_int;
	}
}

int main(void)
{
	struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
	sigset_t blocked, before;
	char byte;
	sigfillset(&action.sa_mask);
	must(sigaction(SIGUSR1, &action, NULL), "sigaction");
	must(sigaction(SIGRTMIN, &action, NULL), "sigaction");
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	sigaddset(&blocked, SIGRTMIN);
	must(sigprocmask(SIG_BLOCK, &blocked, &before), "sigprocmask");
	say("ready pid=%d\n", (int)getpid());
	while (get(STDIN_FILENO, &byte, 1)) {
		must(sigprocmask(SIG_SETMASK, &before, NULL), "sigprocmask");
		must(sigprocmask(SIG_BLOCK, &blocked, NULL), "sigprocmask");
		say("counts once=%d queued=%d sum=%d\n", (int)once, (int)queued, (int)sum);
	}
	say("ok\n");
	return 0;
}
