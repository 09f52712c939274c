/* runs_threads: threads of several kinds; each says its tid, and which routine it was given with which argument. */
#include "programs.h"
#include <threads.h>

struct job {
	const char *what;
	uint64_t routine;
	struct gate gate;
};

static void tell(const struct job *job)
{
	say("runs what=%s tid=%d routine=0x%llx argument=0x%llx\n", job->what, (int)own_tid(),
	    (unsigned long long)job->routine, (unsigned long long)ADDRESS(job));
}

static void *first_routine(void *argument)
{
	tell(argument);
	return argument;
}

static void *second_routine(void *argument)
{
	tell(argument);
	return NULL;
}

static void *detached_routine(void *argument)
{
	struct job *job = argument;
	tell(job);
	drop_key(job->gate);
	return NULL;
}

/* Its argument is a plain number, and 0 where nothing was given. */
static void *number_routine(void *argument)
{
	say("runs what=%s tid=%d routine=0x%llx argument=0x%llx\n", argument ? "number" : "null", (int)own_tid(),
	    (unsigned long long)ADDRESS(number_routine), (unsigned long long)ADDRESS(argument));
	return NULL;
}

static int standard_routine(void *argument)
{
	tell(argument);
	return 7;
}

static void start(pthread_t *thread, const pthread_attr_t *attributes, void *(*routine)(void *), void *argument)
{
	if ((errno = pthread_create(thread, attributes, routine, argument)))
		die("pthread_create: %s", strerror(errno));
}

static void join(void *(*routine)(void *), void *argument)
{
	pthread_t thread;
	start(&thread, NULL, routine, argument);
	pthread_join(thread, NULL);
}

static void own_stack(void)
{
	struct job job = {"attr-stack", ADDRESS(second_routine), {0, 0}};
	pthread_attr_t attributes;
	pthread_t thread;
	size_t size = 256 * 1024;
	void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	expect(stack != MAP_FAILED, "a mapped stack");
	pthread_attr_init(&attributes);
	expect(!pthread_attr_setstack(&attributes, stack, size), "pthread_attr_setstack");
	start(&thread, &attributes, second_routine, &job);
	pthread_join(thread, NULL);
}

static void detached(void)
{
	static struct job job = {"detached", ADDRESS(0), {0, 0}};
	pthread_attr_t attributes;
	pthread_t thread;
	job.routine = ADDRESS(detached_routine);
	job.gate = make_gate();
	pthread_attr_init(&attributes);
	expect(!pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED), "pthread_attr_setdetachstate");
	start(&thread, &attributes, detached_routine, &job);
	wait_at(job.gate);
}

int main(void)
{
	struct job one = {"first", ADDRESS(first_routine), {0, 0}}, two = {"second", ADDRESS(second_routine), {0, 0}};
	struct job standard = {"c11", ADDRESS(standard_routine), {0, 0}};
	thrd_t thread;
	int result = 0;

	join(first_routine, &one);
	join(second_routine, &two);
	join(number_routine, (void *)(uintptr_t)1234567);
	join(number_routine, NULL);
	own_stack();
	detached();
	expect(thrd_create(&thread, standard_routine, &standard) == thrd_success, "thrd_create");
	expect(thrd_join(thread, &result) == thrd_success && result == 7, "thrd_join");
	say("ok\n");
	return 0;
}
