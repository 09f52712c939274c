/* sharing_namespaces [user]: a child in a new namespace of each kind, a thread in namespaces of its own, and a process
 * whose next child enters a new pid namespace; all alive until standard input ends. With `user` all of it in a user
 * namespace, as an ordinary user can. `unable KIND errno=NAME` for what this kernel refuses.
 */
#include "programs.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static struct gate gate;

static const struct kind {
	const char *name;
	int flag;
} kinds[] = {
	{"mnt", CLONE_NEWNS},   {"uts", CLONE_NEWUTS},       {"ipc", CLONE_NEWIPC}, {"net", CLONE_NEWNET},
	{"pid", CLONE_NEWPID},  {"cgroup", CLONE_NEWCGROUP}, {"user", CLONE_NEWUSER}, {"time", CLONE_NEWTIME},
};
#define KINDS (sizeof kinds / sizeof *kinds)

/* A child with no more than it needs, which waits until the key is dropped. */
static pid_t child_that(int flag, int pending, int told)
{
	struct clone3_args args = {.flags = (uint64_t)flag, .exit_signal = SIGCHLD};
	pid_t child = (pid_t)raw_clone3(&args, 64);
	unsigned char error;
	if (child != 0)
		return child;
	drop_key(gate);
	error = pending && unshare(pending) == -1 ? (unsigned char)errno : 0;
	put(told, &error, 1);
	wait_at(gate);
	_exit(0);
}

static int thread_told[2];

static void *own_namespaces(void *unused)
{
	(void)unused;
	pid_t tid = unshare(CLONE_NEWUTS | CLONE_NEWNET) == 0 ? own_tid() : -errno;
	put(thread_told[1], &tid, sizeof tid);
	wait_at(gate);
	return NULL;
}

int main(int argc, char **argv)
{
	pid_t children[KINDS + 1];
	int count = 0, told[2];
	char byte;
	if (chosen(argc, argv, 1, "user") && unshare(CLONE_NEWUSER) == -1) {
		say("unable kind=all errno=%s\nok\n", errno_name(errno));
		return 0;
	}
	gate = make_gate();
	must(pipe2(told, O_CLOEXEC), "pipe2");
	must(pipe2(thread_told, O_CLOEXEC), "pipe2");
	for (size_t i = 0; i < KINDS; i++) {
		pid_t child = child_that(kinds[i].flag, 0, told[1]);
		if (child < 0) {
			say("unable kind=%s errno=%s\n", kinds[i].name, errno_name(errno));
			continue;
		}
		expect(get(told[0], &byte, 1), "a child in its namespace");
		say("process kind=%s pid=%d\n", kinds[i].name, child);
		children[count++] = child;
	}
	children[count] = child_that(0, CLONE_NEWPID, told[1]);
	must(children[count], "clone3");
	expect(get(told[0], &byte, 1), "a child that unshared");
	if (byte == 0)
		say("process kind=pending pid=%d\n", children[count]);
	else
		say("unable kind=pending errno=%s\n", errno_name((unsigned char)byte));
	count++;
	pthread_t thread;
	pid_t tid;
	errno = pthread_create(&thread, NULL, own_namespaces, NULL);
	expect(errno == 0, "pthread_create");
	expect(get(thread_told[0], &tid, sizeof tid), "a tid from the thread");
	if (tid > 0)
		say("thread kind=uts,net tid=%d\n", tid);
	else
		say("unable kind=uts,net errno=%s\n", errno_name(-tid));
	say("ready pid=%d\n", (int)getpid());
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	drop_key(gate);
	for (int i = 0; i < count; i++)
		expect_exit(children[i], 0);
	pthread_join(thread, NULL);
	say("ok\n");
	return 0;
}
