/* floor [-f] FILE COMMAND...: the least that a ptrace tracer of process creation can do, and so the floor for every other.
 *
 * It seizes COMMAND, asks for the creation and exec events, takes every stop, and continues: nothing is read out of a
 * task, nothing is decoded, nothing written but the number of events, to FILE at the end. The exit status is COMMAND's.
 *
 * -f: COMMAND gets a seccomp filter of one instruction, which allows everything: the least that any filter costs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static long options = PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
		      PTRACE_O_TRACEEXEC;

static void check(long result, const char *what)
{
	if (result == -1) {
		fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
		exit(125);
	}
}

static void filter_nothing(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &allow};
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "PR_SET_SECCOMP");
}

static pid_t launch(char **command, int filtered)
{
	int go[2];
	char byte;
	check(pipe2(go, O_CLOEXEC), "pipe2");
	pid_t root = fork();
	check(root, "fork");
	if (root == 0) {
		close(go[1]);
		if (read(go[0], &byte, 1) != 1)
			_exit(125);
		if (filtered)
			filter_nothing();
		execvp(command[0], command);
		fprintf(stderr, "floor: %s: %s\n", command[0], strerror(errno));
		_exit(127);
	}
	check(ptrace(PTRACE_SEIZE, root, 0, options), "PTRACE_SEIZE");
	check(write(go[1], "", 1), "write");
	close(go[0]);
	close(go[1]);
	return root;
}

int main(int argc, char **argv)
{
	int filtered = argc > 1 && strcmp(argv[1], "-f") == 0;
	argv += filtered;
	if (argc - filtered < 3) {
		fprintf(stderr, "usage: floor [-f] FILE COMMAND...\n");
		return 125;
	}
	pid_t root = launch(argv + 2, filtered), tid;
	long events = 0;
	int status, last = 0;
	while ((tid = waitpid(-1, &status, __WALL)) > 0) {
		int event = status >> 16, signal = WSTOPSIG(status);
		if (!WIFSTOPPED(status)) {
			if (tid == root)
				last = status;
			continue;
		}
		events += event != 0;
		if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) {
			ptrace(PTRACE_LISTEN, tid, 0, 0);
			continue;
		}
		/* ESRCH is a task that was killed meanwhile: its status comes. */
		ptrace(PTRACE_CONT, tid, 0, event ? 0 : signal);
	}
	FILE *file = fopen(argv[1], "w");
	check(file ? 0 : -1, argv[1]);
	fprintf(file, "events=%ld\n", events);
	fclose(file);
	return WIFEXITED(last) ? WEXITSTATUS(last) : 128 + WTERMSIG(last);
}
