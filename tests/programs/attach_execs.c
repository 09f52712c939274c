/* attach_execs [N=8]: a thread among N executes the program again, on and on, until standard input ends. */
#include "programs.h"
#include <poll.h>

static void *stays(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void *executes(void *argv)
{
	execv(own_path(), argv);
	die("execv: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	long count = number(argc, argv, 1, 8), steps = number(argc, argv, 2, 0);
	char text[24], *again[] = {argv[0], argc > 1 ? argv[1] : (char *)"8", text, NULL};
	pthread_t thread;
	pthread_attr_t small;
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	if (steps == 0)
		say("ready pid=%d\n", (int)getpid());
	if (must(poll(&input, 1, 0), "poll") > 0 && steps > 2) {
		say("ok\n");
		return 0;
	}
	own_path();
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 * 1024);
	snprintf(text, sizeof text, "%ld", steps + 1);
	for (long i = 0; i < count; i++)
		/* EAGAIN while the other thread executes already (kernel/fork.c: copy_fs) */
		while ((errno = pthread_create(&thread, &small, i == count / 2 ? executes : stays, again)))
			expect(errno == EAGAIN, "a thread");
	for (;;)
		pause();
}
