/* sharing_io_uring: an io_uring whose submissions a kernel-made thread polls for (IORING_SETUP_SQPOLL), alive until
 * standard input ends. Says `unable errno=NAME` where the kernel has or allows no io_uring.
 */
#include "programs.h"

#include <dirent.h>

#ifndef SYS_io_uring_setup
#define SYS_io_uring_setup 425
#endif
#define SETUP_SQPOLL 2u /* IORING_SETUP_SQPOLL */

/* include/uapi/linux/io_uring.h: struct io_uring_params is 120 bytes, its third word the flags, its fifth the
 * milliseconds after which the idle thread sleeps.
 */
struct params {
	uint32_t sq_entries, cq_entries, flags, sq_thread_cpu, sq_thread_idle, rest[25];
};

int main(void)
{
	struct params params = {.flags = SETUP_SQPOLL, .sq_thread_idle = 1};
	long ring = syscall(SYS_io_uring_setup, 4, &params);
	if (ring == -1) {
		say("unable errno=%s\nok\n", errno_name(errno));
		return 0;
	}
	DIR *tasks = opendir("/proc/self/task");
	expect(tasks != NULL, "opendir /proc/self/task");
	for (struct dirent *each; (each = readdir(tasks)) != NULL;)
		if (*each->d_name != '.' && atoi(each->d_name) != getpid())
			say("worker tid=%d\n", atoi(each->d_name));
	closedir(tasks);
	say("ready pid=%d\n", (int)getpid());
	char byte;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	say("ok\n");
	return 0;
}
