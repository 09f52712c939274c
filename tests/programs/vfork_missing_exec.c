/* vfork_missing_exec: the child of a vfork fails to execute a missing file and ends with 127. */
#include "programs.h"

int main(void)
{
	static volatile int error;
	pid_t child = vfork();
	if (child == 0) {
		execl("/nonexistent/program", "program", (char *)NULL);
		error = errno;
		_exit(127);
	}
	must(child, "vfork");
	expect(error == ENOENT, "the child's errno, seen in the memory it shares, is ENOENT");
	expect_exit(child, 127);
	say("child pid=%d errno=%s\n", (int)child, errno_name(error));
	say("ok\n");
	return 0;
}
