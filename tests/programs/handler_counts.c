/* handler_counts [N=101]: signals of many origins; the counts and sums prove that each was delivered exactly once,
 * with the siginfo that it was sent with.
 */
#include "programs.h"

enum { KINDS = 128 };

static volatile long counts[KINDS], code_sums[KINDS], value_sums[KINDS], from_us[KINDS];
static volatile pid_t sender;
static volatile char *fault_page;

static void handle(int number, siginfo_t *info, void *context)
{
	(void)context;
	counts[number]++;
	code_sums[number] += info->si_code;
	if (info->si_code == SI_QUEUE)
		value_sums[number] += info->si_value.sival_int;
	if (number == SIGSEGV) {
		value_sums[number] += (char *)info->si_addr - (char *)fault_page;
		mprotect((void *)fault_page, 4096, PROT_READ | PROT_WRITE);
	} else if (info->si_code <= 0) {
		from_us[number] += info->si_pid == sender;
	}
}

static void install(int number)
{
	struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
	must(sigaction(number, &action, NULL), "sigaction");
}

static void queue(pid_t pid, int number, int value)
{
	union sigval content = {.sival_int = value};
	must(sigqueue(pid, number, content), "sigqueue");
}

/* Queued from a child, while this process is free to run. */
static void from_child(int number, long times)
{
	pid_t self = getpid();
	struct gate gate = make_gate();
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		drop_key(gate);
		wait_at(gate);
		for (long i = 1; i <= times; i++)
			queue(self, number, (int)i);
		_exit(0);
	}
	sender = child;
	drop_key(gate);
	close(gate.wait);
	expect_exit(child, 0);
	sender = self;
}

static void faults(long times)
{
	for (long i = 0; i < times; i++) {
		must(mprotect((void *)fault_page, 4096, PROT_NONE), "mprotect");
		fault_page[i % 4096] = 1;
	}
}

static void report(const char *name, int number, long times)
{
	say("signal name=%s number=%d count=%ld code_sum=%ld value_sum=%ld from_sender=%ld\n", name, number,
	    counts[number], code_sums[number], value_sums[number], from_us[number]);
	expect(counts[number] == times, "each signal was delivered once");
}

int main(int argc, char **argv)
{
	long times = number(argc, argv, 1, 101);
	pid_t self = sender = getpid();
	int numbers[] = {SIGUSR1, SIGUSR2, SIGWINCH, SIGTRAP, SIGSEGV, SIGCHLD, SIGRTMIN, SIGRTMIN + 1, SIGRTMAX};
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
		install(numbers[i]);
	fault_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(fault_page != MAP_FAILED, "a page");

	for (long i = 1; i <= times; i++) {
		must(kill(self, SIGUSR1), "kill");
		must(syscall(SYS_tgkill, self, own_tid(), SIGUSR2), "tgkill");
		queue(self, SIGWINCH, (int)i);
		must(kill(self, SIGTRAP), "kill");
		queue(self, SIGRTMIN, (int)i);
	}
	sigset_t blocked;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGRTMAX);
	must(sigprocmask(SIG_BLOCK, &blocked, NULL), "sigprocmask");
	for (long i = 1; i <= times; i++)
		queue(self, SIGRTMAX, (int)-i);
	must(sigprocmask(SIG_UNBLOCK, &blocked, NULL), "sigprocmask");
	faults(times);
	report("SIGCHLD-before", SIGCHLD, 0);
	from_child(SIGRTMIN + 1, times);

	report("SIGUSR1", SIGUSR1, times);
	report("SIGUSR2", SIGUSR2, times);
	report("SIGWINCH", SIGWINCH, times);
	report("SIGTRAP", SIGTRAP, times);
	report("SIGSEGV", SIGSEGV, times);
	report("SIGRTMIN", SIGRTMIN, times);
	report("SIGRTMIN+1", SIGRTMIN + 1, times);
	report("SIGRTMAX", SIGRTMAX, times);
	report("SIGCHLD", SIGCHLD, 1);
	expect(value_sums[SIGRTMIN] == times * (times + 1) / 2, "the values of the real-time signals");
	expect(value_sums[SIGRTMAX] == -value_sums[SIGRTMIN], "the values of the signals that waited");
	expect(from_us[SIGRTMIN + 1] == times && from_us[SIGUSR1] == times, "the sender of the signals");
	say("ok\n");
	return 0;
}
