/* What the kernel refuses, a vfork that executes, and an execve by a thread that is not its group's leader. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void *parked(void *unused)
{
	pause();
	return unused;
}

static void *executing(void *path)
{
	execl(path, "takeover", "again", (char *)NULL);
	_exit(1);
}

static void refused(void)
{
	uint64_t clone3_args[8] = {[0] = CLONE_THREAD | CLONE_VM, [4] = SIGCHLD};

	syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, NULL, NULL, NULL, 0);
	syscall(SYS_clone, CLONE_NEWUSER | CLONE_FS | SIGCHLD, NULL, NULL, NULL, 0);
	syscall(SYS_clone3, clone3_args, sizeof clone3_args);
	syscall(SYS_clone3, clone3_args, (size_t)8);
	syscall(SYS_unshare, CLONE_FILES | 1);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	pid_t child;

	if (argc > 1)
		return 5;
	refused();
	child = vfork();
	if (child == 0) {
		execl("/nowhere/true", "true", (char *)NULL);
		execl("/usr/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	waitpid(child, NULL, 0);
	pthread_create(&thread, NULL, parked, NULL);
	pthread_create(&thread, NULL, executing, argv[0]);
	pause();
	return 1;
}
