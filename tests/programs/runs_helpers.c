/* runs_helpers: threads that the C library makes for its own purposes; says between which addresses its code lies. */
#include "programs.h"
#include <aio.h>
#include <link.h>
#include <time.h>

static struct gate timer_gate;

static int library(struct dl_phdr_info *info, size_t size, void *wanted)
{
	uint64_t inside = *(uint64_t *)wanted;
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uint64_t start = info->dlpi_addr + segment->p_vaddr, end = start + segment->p_memsz;
		if (segment->p_type == PT_LOAD && segment->p_flags & PF_X && inside >= start && inside < end) {
			say("library address=0x%llx size=%llu\n", (unsigned long long)start,
			    (unsigned long long)(end - start));
			return 1;
		}
	}
	return 0;
}

static void expired(union sigval value)
{
	expect(value.sival_int == 11, "the value that the timer was given");
	drop_key(timer_gate);
}

static void by_timer(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 11,
				 .sigev_notify_function = expired};
	struct itimerspec soon = {.it_value.tv_nsec = 1};
	timer_t timer;
	timer_gate = make_gate();
	must(timer_create(CLOCK_MONOTONIC, &event, &timer), "timer_create");
	must(timer_settime(timer, 0, &soon, NULL), "timer_settime");
	wait_at(timer_gate);
}

static void by_aio(void)
{
	static char byte;
	int fd = (int)must(open("/dev/zero", O_RDONLY | O_CLOEXEC), "open /dev/zero");
	struct aiocb block = {.aio_fildes = fd, .aio_buf = &byte, .aio_nbytes = 1};
	const struct aiocb *wait[] = {&block};
	must(aio_read(&block), "aio_read");
	while (aio_error(&block) == EINPROGRESS)
		aio_suspend(wait, 1, NULL);
	expect(aio_return(&block) == 1, "aio_return");
}

int main(void)
{
	uint64_t inside = ADDRESS(pthread_create);
	expect(dl_iterate_phdr(library, &inside) == 1, "the library that pthread_create is in");
	by_timer();
	by_aio();
	say("ok\n");
	_exit(0);
}
