/* set_tid: clone3 with a chosen pid, then the refusals of a taken pid and of pid 0. Needs CAP_CHECKPOINT_RESTORE. */
#include "programs.h"

static long with_pid(pid_t *pid)
{
	struct clone3_args args = {.exit_signal = SIGCHLD, .set_tid = ADDRESS(pid), .set_tid_size = 1};
	long child = raw_clone3(&args, sizeof args);
	if (child == 0)
		_exit(getpid() == *pid ? 0 : 1);
	return child;
}

int main(void)
{
	pid_t wanted = 32000;
	while (wanted > 300 && (kill(wanted, 0) == 0 || errno != ESRCH))
		wanted--;
	long child = must(with_pid(&wanted), "clone3 with set_tid");
	expect(child == wanted, "the child has the chosen pid");
	expect_exit((pid_t)child, 0);
	say("process pid=%ld\n", child);
	pid_t refused[] = {getpid(), 0};
	for (int i = 0; i < 2; i++) {
		expect(with_pid(&refused[i]) == -1, "the pid is refused");
		say("refused pid=%d errno=%s\n", (int)refused[i], errno_name(errno));
	}
	say("ok\n");
	return 0;
}
