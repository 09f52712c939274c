/* many_threads [N=1009] [alive]: N threads one after the other, or all of them alive at once. */
#include "programs.h"

static struct gate gate;
static int started[2];

static void *run(void *held)
{
	pid_t tid = own_tid();
	put(started[1], &tid, sizeof tid);
	if (held)
		wait_at(gate);
	return NULL;
}

int main(int argc, char **argv)
{
	long count = number(argc, argv, 1, 1009);
	int alive = chosen(argc, argv, 2, "alive");
	pthread_t *threads = calloc((size_t)count + 1, sizeof *threads);
	pthread_attr_t small;
	expect(threads != NULL, "memory");
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 * 1024);
	gate = make_gate();
	must(pipe2(started, O_CLOEXEC), "pipe2");
	for (long i = 0; i < count; i++) {
		pid_t tid;
		if ((errno = pthread_create(&threads[i], &small, run, alive ? &gate : NULL)))
			die("pthread_create of thread %ld: %s", i, strerror(errno));
		expect(get(started[0], &tid, sizeof tid), "a tid from the thread");
		say("thread tid=%d\n", (int)tid);
		if (!alive)
			pthread_join(threads[i], NULL);
	}
	drop_key(gate);
	for (long i = 0; alive && i < count; i++)
		pthread_join(threads[i], NULL);
	say("ok threads=%ld\n", count);
	return 0;
}
