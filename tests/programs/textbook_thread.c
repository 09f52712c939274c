/* textbook_thread: a thread changes a variable and closes a descriptor of the process that it is part of. */
#include "programs.h"

static int value = 5;
static pid_t tid, pid;

static void *run(void *fd)
{
	value += 5;
	close(*(int *)fd);
	tid = own_tid();
	pid = getpid();
	return NULL;
}

int main(void)
{
	int before = value, fd = (int)must(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
	pthread_t thread;
	if ((errno = pthread_create(&thread, NULL, run, &fd)))
		die("pthread_create: %s", strerror(errno));
	pthread_join(thread, NULL);
	say("main: value %d -> %d\n", before, value);
	expect(value == 10, "the thread wrote its process's variable");
	int closed = fcntl(fd, F_GETFD) == -1;
	expect(closed, "the thread closed its process's descriptor");
	expect(pid == getpid() && tid != pid, "the thread has the process's id and a tid of its own");
	say("shared resource=mm answer=yes by=variable when=created pid=%d child=%d\n", (int)pid, (int)tid);
	say("shared resource=files answer=yes by=close when=created pid=%d child=%d\n", (int)pid, (int)tid);
	say("shared resource=thread answer=yes by=getpid when=created pid=%d child=%d\n", (int)pid, (int)tid);
	say("ok\n");
	return 0;
}
