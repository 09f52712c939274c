/* guest_init segv|abort|kill|term: how the first process of a pid namespace ends, which no default action of a signal
 * from within may end, but a fault does.
 */
#include "programs.h"

static void write_map(const char *file, unsigned id)
{
	char text[64];
	int fd = (int)must(open(file, O_WRONLY | O_CLOEXEC), file);
	put(fd, text, (size_t)snprintf(text, sizeof text, "0 %u 1", id));
	must(close(fd), "close");
}

int main(int argc, char **argv)
{
	unsigned user = geteuid(), group = getegid();
	if (unshare(CLONE_NEWUSER | CLONE_NEWPID) == -1) {
		say("skip reason=%s\n", errno_name(errno));
		return 77;
	}
	int deny = open("/proc/self/setgroups", O_WRONLY | O_CLOEXEC);
	if (deny != -1)
		put(deny, "deny", 4);
	write_map("/proc/self/uid_map", user);
	write_map("/proc/self/gid_map", group);
	struct rlimit none = {0, 0};
	must(setrlimit(RLIMIT_CORE, &none), "setrlimit");
	struct gate ready = make_gate();
	pid_t init = (pid_t)must(fork(), "fork");
	if (init == 0) {
		kill(getpid(), SIGTERM);
		say("init number=%d lives-after-own-sigterm=1\n", (int)getpid());
		drop_key(ready);
		if (chosen(argc, argv, 1, "segv"))
			*(volatile int *)(uintptr_t)argc = 1;
		else if (chosen(argc, argv, 1, "abort"))
			abort();
		for (;;)
			pause();
	}
	drop_key(ready);
	wait_at(ready);
	if (chosen(argc, argv, 1, "kill"))
		must(kill(init, SIGKILL), "kill");
	else if (chosen(argc, argv, 1, "term"))
		must(kill(init, SIGTERM), "kill"), must(kill(init, SIGKILL), "kill");
	else if (!chosen(argc, argv, 1, "segv") && !chosen(argc, argv, 1, "abort"))
		usage("guest_init segv|abort|kill|term");
	int status = ended(init);
	say("init ended signal=%d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
	say("ok\n");
	return 0;
}
