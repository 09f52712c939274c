/* flag_clear_sighand with|without [user]: which handlers has a child of clone3, and does a signal kill it? */
#include "sharing.h"

static volatile sig_atomic_t handled;

static void handle(int signal)
{
	(void)signal;
	handled++;
}

static const char *disposition(int signal)
{
	struct sigaction now;
	must(sigaction(signal, NULL, &now), "sigaction");
	return now.sa_handler == SIG_DFL ? "default" : now.sa_handler == SIG_IGN ? "ignored" : "caught";
}

int main(int argc, char **argv)
{
	int with = with_flag(argc, argv);
	prepare(wants_user(argc, argv, 1), 0, 0);
	struct sigaction caught = {.sa_handler = handle}, ignored = {.sa_handler = SIG_IGN};
	must(sigaction(SIGUSR1, &caught, NULL), "sigaction");
	must(sigaction(SIGUSR2, &ignored, NULL), "sigaction");
	struct clone3_args args = {.flags = with ? CLONE_CLEAR_SIGHAND : 0, .exit_signal = SIGCHLD};
	pid_t parent = getpid(), child = (pid_t)allowed(raw_clone3(&args, sizeof args), "clone3");
	if (child == 0) {
		say("handlers pid=%d usr1=%s usr2=%s\n", (int)getpid(), disposition(SIGUSR1), disposition(SIGUSR2));
		expect(strcmp(disposition(SIGUSR2), "ignored") == 0, "what is ignored stays so");
		must(kill(getpid(), SIGUSR2), "kill");
		must(kill(getpid(), SIGUSR1), "kill");
		_exit(handled == 1 ? 0 : 1);
	}
	int status = ended(child);
	if (with)
		expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1, "a signal without a handler kills");
	else
		expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the handler runs in the child");
	expect(handled == 0 && strcmp(disposition(SIGUSR1), "caught") == 0, "the creator keeps its own handlers");
	say("ok flag=CLONE_CLEAR_SIGHAND set=%s pid=%d child=%d\n", with ? "yes" : "no", (int)parent, (int)child);
	return 0;
}
