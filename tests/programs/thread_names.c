/* thread_names: threads that name themselves, by prctl(2) and pthread_setname_np(3), and one that its creator names and
 * that lives on while others come and go. */
#include "programs.h"

static struct gate named;

static void *by_prctl(void *nothing)
{
	must(prctl(PR_SET_NAME, "by prctl"), "prctl");
	say("named tid=%d name=by_prctl\n", (int)own_tid());
	return nothing;
}

static void *by_library(void *nothing)
{
	expect(pthread_setname_np(pthread_self(), "by library") == 0, "pthread_setname_np");
	say("named tid=%d name=by_library\n", (int)own_tid());
	return nothing;
}

static void *by_creator(void *nothing)
{
	wait_at(named);
	say("named tid=%d name=by_creator\n", (int)own_tid());
	return nothing;
}

static void *nothing_at_all(void *nothing)
{
	return nothing;
}

static void *by_nobody(void *nothing)
{
	say("named tid=%d name=\n", (int)own_tid());
	return nothing;
}

static pthread_t start(void *(*routine)(void *))
{
	pthread_t thread;
	expect(pthread_create(&thread, NULL, routine, NULL) == 0, "pthread_create");
	return thread;
}

int main(void)
{
	named = make_gate();
	expect(pthread_join(start(by_prctl), NULL) == 0, "pthread_join");
	expect(pthread_join(start(by_library), NULL) == 0, "pthread_join");
	expect(pthread_join(start(by_nobody), NULL) == 0, "pthread_join");
	pthread_t waiting = start(by_creator);
	expect(pthread_setname_np(waiting, "by creator") == 0, "pthread_setname_np");
	for (int i = 0; i < 101; i++)
		expect(pthread_join(start(nothing_at_all), NULL) == 0, "pthread_join");
	drop_key(named);
	expect(pthread_join(waiting, NULL) == 0, "pthread_join");
	say("ok\n");
	return 0;
}
