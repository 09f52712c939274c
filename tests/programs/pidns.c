/* pidns: a pid namespace in a pid namespace; each process says its pid at every level, outermost first. */
#include "programs.h"

static unsigned long extra_flags;

static void report(int level, const char *what)
{
	char line[256], pids[128] = "";
	FILE *status = fopen("/proc/self/status", "re");
	expect(status != NULL, "/proc/self/status opens");
	while (fgets(line, sizeof line, status))
		if (strncmp(line, "NSpid:", 6) == 0)
			for (char *word = strtok(line + 6, " \t\n"); word; word = strtok(NULL, " \t\n")) {
				strcat(pids, *pids ? "," : "");
				strcat(pids, word);
			}
	fclose(status);
	say("process level=%d what=%s pid=%d nspid=%s\n", level, what, (int)getpid(), pids);
}

static void *thread(void *level)
{
	say("thread level=%d tid=%d\n", *(int *)level, (int)own_tid());
	return NULL;
}

static void enter(int level)
{
	if (level == 3)
		return;
	pid_t child = (pid_t)must(raw_clone(CLONE_NEWPID | extra_flags | SIGCHLD, NULL, NULL, NULL, 0), "clone");
	if (child == 0) {
		extra_flags = 0; /* a user namespace of its own once is enough, and a second needs mapped ids */
		expect(getpid() == 1, "the first process of a namespace is pid 1");
		report(level, "init");
		enter(level + 1);
		pid_t plain = (pid_t)must(fork(), "fork");
		if (plain == 0) {
			report(level, "plain");
			_exit(0);
		}
		expect_exit(plain, 0);
		pthread_t tid;
		if ((errno = pthread_create(&tid, NULL, thread, &level)))
			die("pthread_create: %s", strerror(errno));
		pthread_join(tid, NULL);
		_exit(0);
	}
	say("made level=%d seen_as=%d\n", level, (int)child);
	expect_exit(child, 0);
}

int main(void)
{
	if (geteuid() != 0)
		extra_flags = CLONE_NEWUSER;
	report(0, "root");
	enter(1);
	say("ok\n");
	return 0;
}
