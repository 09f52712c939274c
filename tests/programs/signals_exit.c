/* signals_exit die SIGNAL | trap [N=3] | stop: what signals do to the first process of a trace itself.
 *
 * die   ends by SIGNAL, without a core file
 * trap  sends itself SIGTRAP by kill, which its handler counts
 * stop  stops itself by SIGSTOP; its child, which sees it stopped, continues it
 */
#include "programs.h"

static volatile sig_atomic_t traps;

static void count(int signal)
{
	(void)signal;
	traps++;
}

static int trap(long times)
{
	struct sigaction action = {.sa_handler = count};
	must(sigaction(SIGTRAP, &action, NULL), "sigaction");
	for (long i = 0; i < times; i++)
		must(kill(getpid(), SIGTRAP), "kill");
	expect(traps == times, "each SIGTRAP was delivered once");
	say("ok traps=%d\n", (int)traps);
	return 0;
}

static long switches(pid_t pid)
{
	char path[64], line[256];
	long voluntary = -1;
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *status = fopen(path, "re");
	expect(status != NULL, path);
	while (fgets(line, sizeof line, status))
		if (sscanf(line, "voluntary_ctxt_switches: %ld", &voluntary) == 1)
			break;
	fclose(status);
	return voluntary;
}

/* A traced task is in state t in a job-control stop and in the tracer's own short stops alike; only in the first does
 * it stay off the processor until somebody sends SIGCONT.
 */
static void until_stopped_for_good(pid_t pid)
{
	long last = -1;
	for (int unchanged = 0; unchanged < 2000; sched_yield()) {
		char state = task_state(pid, pid);
		long now = switches(pid);
		unchanged = (state == 'T' || state == 't') && now == last ? unchanged + 1 : 0;
		last = now;
	}
}

static int stop(void)
{
	struct gate running = make_gate();
	pid_t self = getpid(), child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		drop_key(running);
		wait_at(running);
		until_stopped_for_good(self);
		must(kill(self, SIGCONT), "kill SIGCONT");
		_exit(0);
	}
	/* The child looks for a stop only once its gate is open, so that no wait of ours is taken for it. */
	drop_key(running);
	must(kill(self, SIGSTOP), "kill SIGSTOP");
	expect_exit(child, 0);
	say("ok pid=%d continued_by=%d\n", (int)self, (int)child);
	return 0;
}

int main(int argc, char **argv)
{
	if (chosen(argc, argv, 1, "trap"))
		return trap(number(argc, argv, 2, 3));
	if (chosen(argc, argv, 1, "stop"))
		return stop();
	if (!chosen(argc, argv, 1, "die") || argc != 3)
		usage("signals_exit die SIGNAL | trap [N] | stop");
	int number_of = (int)number(argc, argv, 2, 0);
	struct rlimit none = {0, 0};
	must(setrlimit(RLIMIT_CORE, &none), "setrlimit RLIMIT_CORE");
	say("dying pid=%d signal=%d\n", (int)getpid(), number_of);
	signal(number_of, SIG_DFL);
	must(kill(getpid(), number_of), "kill");
	die("signal %d did not end the program", number_of);
}
