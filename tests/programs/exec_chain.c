/* exec_chain [N=3]: one process executes this program N more times. */
#include "programs.h"

int main(int argc, char **argv)
{
	long left = number(argc, argv, 1, 3);
	say("image pid=%d left=%ld\n", (int)getpid(), left);
	if (left == 0) {
		say("ok\n");
		return 0;
	}
	char next[24];
	snprintf(next, sizeof next, "%ld", left - 1);
	execl(own_path(), "exec_chain", next, (char *)NULL);
	die("execl: %s", strerror(errno));
}
