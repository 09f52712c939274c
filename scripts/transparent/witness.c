/* Preloaded into every dynamic program of a run, bare or traced: says what the program was started with and which
 * statuses its calls of the wait family gave it.
 *
 * FORKLORE_WITNESS names the file; each record is one write. At the start of an
 * executed program it is lines
 *     b<TAB>PROGRAM
 *     x<TAB>PROGRAM<TAB>FIELD<TAB>VALUE
 *     e<TAB>PROGRAM
 * and at the return of a wait, one line
 *     w<TAB>PROGRAM<TAB>CALL<TAB>OUTCOME
 * Each begins on a new line, for RLIMIT_FSIZE may have cut what came before.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char path[PATH_MAX];
static pid_t (*real_wait4)(pid_t, int *, int, struct rusage *);
static int (*real_waitid)(idtype_t, id_t, siginfo_t *, int);

struct record {
	char text[24 * 1024];
	size_t length;
};

__attribute__((format(printf, 2, 3))) static void add(struct record *record, const char *format, ...)
{
	va_list values;
	size_t room = sizeof record->text - record->length;
	va_start(values, format);
	int length = vsnprintf(record->text + record->length, room, format, values);
	va_end(values);
	if (length > 0 && (size_t)length < room)
		record->length += (size_t)length;
}

static void field(struct record *record, const char *name, const char *value)
{
	add(record, "x\t%s\t%s\t%s\n", program_invocation_short_name, name, value);
}

static void number(struct record *record, const char *name, long value)
{
	add(record, "x\t%s\t%s\t%ld\n", program_invocation_short_name, name, value);
}

static void tell(const char *text, size_t length)
{
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return; /* another root directory, another user, no descriptors left: bare and traced alike */
	if (syscall(SYS_write, fd, text, length) < 0)
		errno = 0;
	syscall(SYS_close, fd);
}

static void lines_of(struct record *record, const char *file, const char *prefix)
{
	char text[8192], *rest = text;
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	text[length < 0 ? 0 : length] = '\0';
	for (char *line; (line = strsep(&rest, "\n"));)
		if (*line)
			field(record, prefix, line);
}

static void descriptors(struct record *record)
{
	DIR *directory = opendir("/proc/self/fd");
	if (!directory)
		return;
	for (struct dirent *entry; (entry = readdir(directory));) {
		char link[64], target[PATH_MAX];
		int fd = atoi(entry->d_name);
		if (entry->d_name[0] == '.' || fd == dirfd(directory))
			continue;
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		ssize_t length = readlink(link, target, sizeof target - 1);
		target[length < 0 ? 0 : length] = '\0';
		add(record, "x\t%s\tdescriptor\t%d flags=0%o cloexec=%d %s\n", program_invocation_short_name, fd,
		    fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), target);
	}
	closedir(directory);
}

static void standing(struct record *record)
{
	char text[PATH_MAX];
	int value = -1, tty = open("/dev/tty", O_RDWR | O_CLOEXEC);
	number(record, "leads its group", getpgrp() == getpid());
	number(record, "leads its session", getsid(0) == getpid());
	number(record, "has a terminal", tty >= 0);
	if (tty >= 0) {
		number(record, "is in the foreground", tcgetpgrp(tty) == getpgrp());
		close(tty);
	}
	number(record, "dumpable", prctl(PR_GET_DUMPABLE));
	prctl(PR_GET_PDEATHSIG, &value);
	number(record, "pdeathsig", value);
	prctl(PR_GET_CHILD_SUBREAPER, &value);
	number(record, "subreaper", value);
	number(record, "timer slack", prctl(PR_GET_TIMERSLACK));
	number(record, "secure bits", prctl(PR_GET_SECUREBITS));
	number(record, "AT_SECURE", (long)getauxval(AT_SECURE));
	number(record, "nice", getpriority(PRIO_PROCESS, 0));
	number(record, "policy", sched_getscheduler(0));
	field(record, "directory", getcwd(text, sizeof text) ? text : "?");
}

/* The inner ones of the family are resolved before anything else of the program runs. */
__attribute__((constructor)) static void start(void)
{
	static struct record record;
	int before = errno;
	real_wait4 = (pid_t (*)(pid_t, int *, int, struct rusage *))dlsym(RTLD_NEXT, "wait4");
	real_waitid = (int (*)(idtype_t, id_t, siginfo_t *, int))dlsym(RTLD_NEXT, "waitid");
	const char *named = getenv("FORKLORE_WITNESS");
	if (!named || strlen(named) >= sizeof path)
		return;
	strcpy(path, named);
	add(&record, "\nb\t%s\n", program_invocation_short_name);
	descriptors(&record);
	lines_of(&record, "/proc/self/status", "status");
	lines_of(&record, "/proc/self/limits", "limit");
	lines_of(&record, "/proc/self/oom_score_adj", "oom_score_adj");
	lines_of(&record, "/proc/self/personality", "personality");
	standing(&record);
	add(&record, "e\t%s\n", program_invocation_short_name);
	tell(record.text, record.length);
	errno = before;
}

static void waited(const char *call, long result, const char *how, int value)
{
	char text[256];
	int before = errno;
	if (!*path || result == 0)
		return;
	int length = result < 0 ? snprintf(text, sizeof text, "\nw\t%s\t%s\terrno %d\n", program_invocation_short_name,
					   call, before)
				: snprintf(text, sizeof text, "\nw\t%s\t%s\t%s %d\n", program_invocation_short_name, call,
					   how, value);
	tell(text, (size_t)length);
	errno = before;
}

static pid_t told(const char *call, pid_t result, int status)
{
	if (result > 0 && WIFEXITED(status))
		waited(call, 1, "exited", WEXITSTATUS(status));
	else if (result > 0 && WIFSIGNALED(status))
		waited(call, 1, WCOREDUMP(status) ? "killed, with core," : "killed", WTERMSIG(status));
	else if (result > 0 && WIFSTOPPED(status))
		waited(call, 1, "stopped", status >> 8);
	else
		waited(call, result, "continued", 0);
	return result;
}

pid_t wait4(pid_t pid, int *status, int options, struct rusage *usage)
{
	int own = 0;
	pid_t result = real_wait4(pid, &own, options, usage);
	if (status && result > 0)
		*status = own;
	return told("wait4", result, own);
}

pid_t wait3(int *status, int options, struct rusage *usage)
{
	return wait4(-1, status, options, usage);
}

pid_t waitpid(pid_t pid, int *status, int options)
{
	int own = 0;
	pid_t result = real_wait4(pid, &own, options, NULL);
	if (status && result > 0)
		*status = own;
	return told("waitpid", result, own);
}

pid_t wait(int *status)
{
	return waitpid(-1, status, 0);
}

int waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	siginfo_t own;
	memset(&own, 0, sizeof own);
	int result = real_waitid(type, id, info ? info : &own, options);
	const siginfo_t *seen = info ? info : &own;
	char how[32];
	snprintf(how, sizeof how, "code %d status", seen->si_code);
	waited("waitid", result < 0 ? -1 : seen->si_pid != 0, how, seen->si_status);
	return result;
}
