/* interrupted_fork [N=500] [MICROSECONDS=150]: each fork races with a timer, so that some find a signal pending and are
 * restarted after its handler. The program itself sees nothing of a restart.
 *
 * The timer runs once for each fork, at a delay that sweeps up to MICROSECONDS: a periodic one would never let a fork
 * through under a tracer slower than its period.
 */
#include "programs.h"
#include <sys/time.h>

static volatile sig_atomic_t ticks;

static void tick(int signal)
{
	(void)signal;
	ticks++;
}

int main(int argc, char **argv)
{
	long times = number(argc, argv, 1, 500), interval = number(argc, argv, 2, 150);
	struct sigaction action = {.sa_handler = tick, .sa_flags = SA_RESTART};
	must(sigaction(SIGALRM, &action, NULL), "sigaction");
	for (long i = 0; i < times; i++) {
		struct itimerval once = {{0, 0}, {0, 1 + i * 7 % (interval + 1)}};
		must(setitimer(ITIMER_REAL, &once, NULL), "setitimer");
		pid_t child = (pid_t)must(raw_fork(), "fork");
		if (child == 0)
			_exit(0);
		expect_exit(child, 0);
	}
	expect(ticks > 0, "the timer ran");
	say("ok forks=%ld ticks=%d\n", times, (int)ticks);
	return 0;
}
