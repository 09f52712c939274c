/* env_status [ARGUMENT...]: all that a program can see of its own surroundings, so that two runs can be compared.
 *
 * Process ids, which differ from run to run, are on the lines that begin with "ids".
 */
#include "programs.h"
#include <sys/auxv.h>

extern char **environ;

static void print_environment(int argc, char **argv)
{
	uint64_t hash = 14695981039346656037ull; /* FNV-1a: enough to tell two environments apart */
	size_t count = 0, bytes = 0;
	for (int i = 0; i < argc; i++)
		say("argv %d=%s\n", i, argv[i]);
	for (char **entry = environ; *entry; entry++, count++) {
		bytes += strlen(*entry) + 1;
		for (char *c = *entry; *c; c++)
			hash = (hash ^ (unsigned char)*c) * 1099511628211ull;
	}
	say("environ count=%zu bytes=%zu hash=%016llx\n", count, bytes, (unsigned long long)hash);
}

static void print_status(void)
{
	static const char *const wanted[] = {"Umask:", "SigPnd:", "ShdPnd:", "SigBlk:", "SigIgn:", "SigCgt:",
		"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:", "Cpus_allowed:",
		"Threads:", "Uid:", "Gid:", "Groups:"};
	char line[4096];
	FILE *status = fopen("/proc/self/status", "re");
	expect(status != NULL, "/proc/self/status opens");
	while (fgets(line, sizeof line, status))
		for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
			if (strncmp(line, wanted[i], strlen(wanted[i])) == 0)
				say("status %s", line);
	fclose(status);
}

static const char *kind_of(mode_t mode)
{
	return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISCHR(mode) ? "character-device"
	     : S_ISFIFO(mode) ? "pipe" : S_ISSOCK(mode) ? "socket" : "other";
}

static void print_descriptors(void)
{
	struct rlimit files;
	must(getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
	for (int fd = 0; fd < 65536 && (rlim_t)fd < files.rlim_cur; fd++) {
		struct stat about;
		if (fstat(fd, &about) == 0)
			say("descriptor fd=%d kind=%s flags=0x%x fdflags=%d tty=%d\n", fd, kind_of(about.st_mode),
			    fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), isatty(fd));
	}
}

static void print_limits(void)
{
	for (int resource = 0; resource < 16; resource++) {
		struct rlimit limit;
		if (getrlimit(resource, &limit) == 0)
			say("rlimit resource=%d soft=%lld hard=%lld\n", resource, (long long)limit.rlim_cur,
			    (long long)limit.rlim_max);
	}
}

static void print_signals(void)
{
	for (int number = 1; number <= SIGRTMAX; number++) {
		struct sigaction action;
		if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
			say("signal number=%d disposition=%s\n", number, action.sa_handler == SIG_IGN ? "ignore" : "handler");
	}
	stack_t alternative;
	must(sigaltstack(NULL, &alternative), "sigaltstack");
	say("altstack flags=%d\n", alternative.ss_flags);
}

static void print_small_file(const char *name, const char *path)
{
	char text[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd == -1 ? -1 : read(fd, text, sizeof text - 1);
	if (fd != -1)
		close(fd);
	text[length < 0 ? 0 : length] = '\0';
	if (length < 0)
		say("file %s unreadable\n", name);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		say("file %s=%s\n", name, line);
}

int main(int argc, char **argv)
{
	char directory[PATH_MAX];
	/* First of all, while the descriptors are as they were given. */
	print_descriptors();
	print_environment(argc, argv);
	expect(getcwd(directory, sizeof directory) != NULL, "a working directory");
	say("cwd %s\n", directory);
	print_status();
	print_signals();
	print_limits();
	print_small_file("oom_score_adj", "/proc/self/oom_score_adj");
	print_small_file("personality", "/proc/self/personality");
	print_small_file("comm", "/proc/self/comm");
	print_small_file("cgroup", "/proc/self/cgroup");
	print_small_file("timerslack_ns", "/proc/self/timerslack_ns");
	int death = -1, reaper = -1;
	prctl(PR_GET_PDEATHSIG, &death);
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	say("prctl dumpable=%d keepcaps=%d pdeathsig=%d subreaper=%d secure=%lu\n", prctl(PR_GET_DUMPABLE),
	    prctl(PR_GET_KEEPCAPS), death, reaper, getauxval(AT_SECURE));
	say("scheduler policy=%d nice=%d\n", sched_getscheduler(0), getpriority(PRIO_PROCESS, 0));
	int tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	say("tty controlling=%d foreground=%d\n", tty != -1, tty != -1 && tcgetpgrp(tty) == getpgrp());
	say("relations pgid_is_own=%d sid_is_own=%d pgid_is_parents=%d sid_is_parents=%d\n", getpgrp() == getpid(),
	    getsid(0) == getpid(), getpgrp() == getpgid(getppid()), getsid(0) == getsid(getppid()));
	say("ids pid=%d ppid=%d pgid=%d sid=%d\n", (int)getpid(), (int)getppid(), (int)getpgrp(), (int)getsid(0));
	say("ok\n");
	return 0;
}
