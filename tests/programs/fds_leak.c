/* fds_leak: opens files, pipes and sockets, some close-on-exec and some not; a fork child executes this program again,
 * which says what it holds beyond what the first one was started with.
 */
#include "programs.h"

#include <sys/socket.h>

enum { LAST = 64 };

struct opened {
	const char *kind;
	int fd;
};

static const char *kind_of(int fd)
{
	struct stat about;
	must(fstat(fd, &about), "fstat");
	if (S_ISFIFO(about.st_mode))
		return (must(fcntl(fd, F_GETFL), "F_GETFL") & O_ACCMODE) == O_RDONLY ? "pipe-read" : "pipe-write";
	return S_ISSOCK(about.st_mode) ? "socket" : S_ISCHR(about.st_mode) ? "device" : "file";
}

static uint64_t open_now(void)
{
	uint64_t set = 0;
	for (int fd = 0; fd < LAST; fd++)
		if (fcntl(fd, F_GETFD) != -1)
			set |= UINT64_C(1) << fd;
	return set;
}

/* The second stage: says what it holds, and whether that is what it has to be. */
static void say_held(uint64_t inherited, uint64_t expected)
{
	uint64_t held = open_now() & ~inherited;
	for (int fd = 0; fd < LAST; fd++)
		if (held >> fd & 1)
			say("holds fd=%d kind=%s pid=%d\n", fd, kind_of(fd), (int)getpid());
	expect(held == expected, "the descriptors without close-on-exec are there, and no other");
	_exit(0);
}

static int open_all(struct opened *all)
{
	int count = 0;
	for (int cloexec = 0; cloexec < 2; cloexec++) {
		int pipe_ends[2], sockets[2];
		int file = (int)must(open("/proc/self/exe", O_RDONLY | (cloexec ? O_CLOEXEC : 0)), "open");
		must(pipe2(pipe_ends, cloexec ? O_CLOEXEC : 0), "pipe2");
		must(socketpair(AF_UNIX, SOCK_STREAM | (cloexec ? SOCK_CLOEXEC : 0), 0, sockets), "socketpair");
		int fds[] = {file, pipe_ends[0], pipe_ends[1], sockets[0], sockets[1]};
		for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
			all[count++] = (struct opened){kind_of(fds[i]), fds[i]};
	}
	int late = (int)must(open("/dev/null", O_RDONLY), "/dev/null");
	must(fcntl(late, F_SETFD, FD_CLOEXEC), "F_SETFD");
	all[count++] = (struct opened){kind_of(late), late};
	int again = (int)must(dup(late), "dup"); /* a duplicate has no close-on-exec */
	all[count++] = (struct opened){kind_of(again), again};
	return count;
}

int main(int argc, char **argv)
{
	if (chosen(argc, argv, 1, "held") && argc == 4)
		say_held(strtoull(argv[2], NULL, 16), strtoull(argv[3], NULL, 16));
	struct opened all[16];
	uint64_t inherited = open_now(), leaked = 0;
	const char *path = own_path();
	int count = open_all(all);
	for (int i = 0; i < count; i++) {
		int cloexec = (int)must(fcntl(all[i].fd, F_GETFD), "F_GETFD") & FD_CLOEXEC;
		expect(all[i].fd < LAST, "few descriptors are open");
		leaked |= cloexec ? 0 : UINT64_C(1) << all[i].fd;
		say("opened fd=%d kind=%s cloexec=%s pid=%d\n", all[i].fd, all[i].kind, cloexec ? "yes" : "no", (int)getpid());
	}
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		char before[24], left[24];
		snprintf(before, sizeof before, "%llx", (unsigned long long)inherited);
		snprintf(left, sizeof left, "%llx", (unsigned long long)leaked);
		execl(path, "fds_leak", "held", before, left, (char *)NULL);
		_exit(127);
	}
	expect_exit(child, 0);
	say("ok pid=%d child=%d\n", (int)getpid(), (int)child);
	return 0;
}
