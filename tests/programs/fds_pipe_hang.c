/* fds_pipe_hang [hold]: the writer of a pipe is gone, and so is its reader's own copy of the write end; but a helper
 * that was started meanwhile, and knows nothing of the pipe, holds one, so that no end of file comes until the helper
 * ends. With `hold` that is when standard input is at its end.
 */
#include "programs.h"

#include <poll.h>

/* The helper after its execve: it has work of its own, which is over when `gate` opens. */
static void help(int gate, int leaked)
{
	expect(fcntl(leaked, F_GETFD) != -1, "the helper holds the write end");
	say("leaked fd=%d pid=%d\n", leaked, (int)getpid());
	wait_at((struct gate){gate, -1});
	_exit(0);
}

static int hung_up(int fd)
{
	struct pollfd end = {fd, POLLIN, 0};
	must(poll(&end, 1, 0), "poll");
	return (end.revents & POLLHUP) != 0;
}

int main(int argc, char **argv)
{
	if (chosen(argc, argv, 1, "helper"))
		help((int)number(argc, argv, 2, 0), (int)number(argc, argv, 3, 0));
	const char *path = own_path();
	int data[2];
	must(pipe(data), "pipe");
	struct gate gate = make_gate(), running = make_gate();
	pid_t helper = (pid_t)must(fork(), "fork");
	if (helper == 0) {
		char waits[16], leaked[16];
		close(data[0]);
		must(fcntl(gate.wait, F_SETFD, 0), "F_SETFD");
		snprintf(waits, sizeof waits, "%d", gate.wait);
		snprintf(leaked, sizeof leaked, "%d", data[1]);
		execl(path, "fds_pipe_hang", "helper", waits, leaked, (char *)NULL);
		_exit(127);
	}
	drop_key(running); /* the helper's key closes at its execve */
	wait_at(running);
	pid_t writer = (pid_t)must(fork(), "fork");
	if (writer == 0) {
		close(data[0]);
		put(data[1], "hello", 5);
		_exit(0);
	}
	close(data[1]);
	expect_exit(writer, 0);
	char text[6] = "";
	expect(get(data[0], text, 5) && strcmp(text, "hello") == 0, "what was written comes");
	expect(!hung_up(data[0]), "no end of file although the writer is gone");
	say("hang fd=%d held_fd=%d pid=%d child=%d\n", data[0], data[1], (int)getpid(),
	    (int)helper);
	if (chosen(argc, argv, 1, "hold"))
		while (read(STDIN_FILENO, text, 1) > 0)
			continue;
	drop_key(gate);
	expect_exit(helper, 0);
	expect(!get(data[0], text, 1), "the end of file comes with the end of the helper");
	say("ok pid=%d child=%d\n", (int)getpid(), (int)helper);
	return 0;
}
