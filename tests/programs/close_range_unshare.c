/* close_range_unshare: a process that shares its descriptors with its creator takes a table of its own. */
#include "programs.h"

enum { CLOSE_RANGE_UNSHARE_FLAG = 2 };

int main(void)
{
	int shared[2];
	must(pipe2(shared, O_CLOEXEC), "pipe2");
	pid_t child = (pid_t)must(raw_clone(CLONE_FILES | SIGCHLD, NULL, NULL, NULL, 0), "clone");
	if (child == 0) {
		int opened = (int)must(open("/dev/null", O_RDONLY | O_CLOEXEC), "/dev/null");
		long result = syscall(SYS_close_range, (unsigned)shared[0], ~0u, CLOSE_RANGE_UNSHARE_FLAG);
		must(result, "close_range");
		expect(fcntl(opened, F_GETFD) == -1, "the descriptors are closed in the new table");
		say("close_range pid=%d first=%d opened=%d\n", (int)getpid(), shared[0], opened);
		_exit(opened);
	}
	int status = ended(child);
	expect(WIFEXITED(status) && WEXITSTATUS(status) > 2, "the child ended as meant");
	expect(fcntl(WEXITSTATUS(status), F_GETFD) != -1, "what the child opened before is in the shared table");
	expect(fcntl(shared[0], F_GETFD) != -1, "the creator's descriptors are still open");
	say("ok creator=%d child=%d\n", (int)getpid(), (int)child);
	return 0;
}
