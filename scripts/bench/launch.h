/* What the C loops have in common: starting a program under ptrace, and saying why not. */
#ifndef LAUNCH_H
#define LAUNCH_H

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(long result, const char *what)
{
	if (result == -1) {
		fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
		exit(125);
	}
}

static void install(struct sock_filter *code, unsigned short length)
{
	struct sock_fprog program = {length, code};
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
	check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "PR_SET_SECCOMP");
}

/* A child that is seized with these options; then it is prepared, unless that is NULL, and executes. */
static pid_t launch(char **command, long options, void (*prepare)(void))
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
		if (prepare)
			prepare();
		execvp(command[0], command);
		fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, command[0], strerror(errno));
		_exit(127);
	}
	check(ptrace(PTRACE_SEIZE, root, 0, options), "PTRACE_SEIZE");
	check(write(go[1], "", 1), "write");
	close(go[0]);
	close(go[1]);
	return root;
}

#endif
