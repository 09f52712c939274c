/* pthread_one: one thread by pthread_create; prints where its routine and argument are. */
#include "programs.h"

static void *routine(void *argument)
{
	*(pid_t *)argument = own_tid();
	return argument;
}

int main(void)
{
	pthread_t thread;
	pid_t tid = 0;
	if ((errno = pthread_create(&thread, NULL, routine, &tid)))
		die("pthread_create: %s", strerror(errno));
	pthread_join(thread, NULL);
	expect(tid > 0 && tid != getpid(), "the thread ran");
	say("thread pid=%d tid=%d routine=0x%llx argument=0x%llx\n", (int)getpid(), (int)tid,
	    (unsigned long long)ADDRESS(routine), (unsigned long long)ADDRESS(&tid));
	say("ok\n");
	return 0;
}
