/* guest_traces me|attach|seize [fails]: a process that traces its own child, or would; says what the kernel answers.
 * `fails`: where that is a refusal it ends with status 1, and leaves a child behind that waits for a signal. */
#include "programs.h"
#include <sys/ptrace.h>

static int fails;

static void refused(const char *request, int error)
{
	say("%s errno=%s\n", request, errno_name(error));
	if (fails)
		exit(1);
	say("ok\n");
	exit(0);
}

/* The child asks to be traced, stops, is let go once and ends. */
static void traced_by_consent(void)
{
	int answer[2];
	must(pipe2(answer, O_CLOEXEC), "pipe2");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		int error = ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1 ? errno : 0;
		put(answer[1], &error, sizeof error);
		if (error == 0)
			raise(SIGUSR1);
		while (fails && error != 0)
			pause();
		_exit(3);
	}
	int error, status;
	expect(get(answer[0], &error, sizeof error), "the child's answer");
	if (error != 0) {
		if (!fails)
			expect_exit(child, 3);
		refused("traceme", error);
	}
	must(waitpid(child, &status, 0), "waitpid");
	expect(WIFSTOPPED(status) && WSTOPSIG(status) == SIGUSR1, "a stop for the signal");
	must(ptrace(PTRACE_CONT, child, NULL, NULL), "PTRACE_CONT");
	expect_exit(child, 3);
	say("traceme errno=0\n");
}

static void traced_by_force(const char *name, int attach)
{
	struct gate gate = make_gate();
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		drop_key(gate);
		wait_at(gate);
		while (fails)
			pause();
		_exit(3);
	}
	int error = ptrace(attach ? PTRACE_ATTACH : PTRACE_SEIZE, child, NULL, NULL) == -1 ? errno : 0, status;
	if (error == 0 && attach) {
		must(waitpid(child, &status, 0), "waitpid");
		expect(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP, "a stop for the attachment");
		must(ptrace(PTRACE_DETACH, child, NULL, NULL), "PTRACE_DETACH");
	}
	if (error != 0 && fails)
		refused(name, error);
	drop_key(gate);
	expect_exit(child, 3);
	if (error != 0)
		refused(name, error);
	say("%s errno=0\n", name);
}

int main(int argc, char **argv)
{
	fails = chosen(argc, argv, 2, "fails");
	if (chosen(argc, argv, 1, "me"))
		traced_by_consent();
	else if (chosen(argc, argv, 1, "attach") || chosen(argc, argv, 1, "seize"))
		traced_by_force(argv[1], chosen(argc, argv, 1, "attach"));
	else
		usage("guest_traces me|attach|seize [fails]");
	say("ok\n");
	return 0;
}
