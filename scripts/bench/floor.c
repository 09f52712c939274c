/* floor [-f] FILE COMMAND...: the least that a ptrace tracer of process creation can do, and so the floor for every other.
 *
 * It seizes COMMAND, asks for the creation and exec events, takes every stop, and continues: nothing is read out of a
 * task, nothing is decoded, nothing written but the number of events, to FILE at the end. The exit status is COMMAND's.
 *
 * -f: COMMAND gets a seccomp filter of one instruction, which allows everything: the least that any filter costs.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/ptrace.h>

#include "launch.h"

static long options = PTRACE_O_EXITKILL | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
		      PTRACE_O_TRACEEXEC;

static void filter_nothing(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	install(&allow, 1);
}

int main(int argc, char **argv)
{
	int filtered = argc > 1 && strcmp(argv[1], "-f") == 0;
	argv += filtered;
	if (argc - filtered < 3) {
		fprintf(stderr, "usage: floor [-f] FILE COMMAND...\n");
		return 125;
	}
	pid_t root = launch(argv + 2, options, filtered ? filter_nothing : NULL), tid;
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
