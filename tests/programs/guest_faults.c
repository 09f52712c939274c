/* guest_faults: signals that the processor raises, caught, blocked and ignored, with what they say of themselves. */
#include "programs.h"
#include <setjmp.h>

static sigjmp_buf back;
static volatile int seen_code, seen_address;
/* Volatile: the compiler is not to know where it points. */
static int *volatile nowhere = (int *)16;

static void caught(int number, siginfo_t *info, void *context)
{
	(void)context;
	seen_code = info->si_code;
	seen_address = info->si_addr == (void *)nowhere;
	if (number != SIGTRAP)
		siglongjmp(back, 1);
}

static void raise_fault(int number)
{
	if (number == SIGSEGV)
		*nowhere = 1;
	else if (number == SIGTRAP)
#if defined(__x86_64__) || defined(__i386__)
		__asm__ volatile("int3");
#else
		raise(SIGTRAP);
#endif
	else
#if defined(__riscv) /* here and below, __builtin_trap is a breakpoint */
		__asm__ volatile("unimp");
#elif defined(__aarch64__)
		__asm__ volatile(".inst 0");
#else
		__builtin_trap();
#endif
}

static void catch_it(const char *name, int number)
{
	struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO};
	must(sigaction(number, &action, NULL), "sigaction");
	if (sigsetjmp(back, 1) == 0)
		raise_fault(number);
	say("caught %s code=%d at-that-address=%d\n", name, seen_code, seen_address);
}

static void die_of_it(const char *name, int number, int blocked)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		struct rlimit none = {0, 0};
		sigset_t set;
		must(setrlimit(RLIMIT_CORE, &none), "setrlimit");
		signal(number, blocked ? SIG_DFL : SIG_IGN);
		sigemptyset(&set);
		sigaddset(&set, number);
		if (blocked)
			must(sigprocmask(SIG_BLOCK, &set, NULL), "sigprocmask");
		raise_fault(number);
		_exit(0);
	}
	int status = ended(child);
	say("%s %s status=0x%x\n", blocked ? "blocked" : "ignored", name, status & 0x7f ? status & 0x7f : status);
}

int main(void)
{
	static const struct { const char *name; int number; } faults[] = {
		{"SIGSEGV", SIGSEGV}, {"SIGTRAP", SIGTRAP}, {"SIGILL", SIGILL},
	};
	for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
		catch_it(faults[i].name, faults[i].number);
		die_of_it(faults[i].name, faults[i].number, 1);
		die_of_it(faults[i].name, faults[i].number, 0);
	}
	say("ok\n");
	return 0;
}
