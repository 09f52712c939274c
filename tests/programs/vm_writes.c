/* vm_writes something|nothing exit|exec|kill: a child with CLONE_VM and without CLONE_VFORK writes a variable, or not. */
#include "programs.h"

static volatile long total;
static const char *what, *end;

static int child(void *unused)
{
	(void)unused;
	if (what[0] == 's')
		total = 42;
	if (end[1] == 'x' && end[2] == 'e')
		execl(own_path(), "vm_writes", (char *)NULL);
	if (end[0] == 'k')
		syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
	return 0;
}

int main(int argc, char **argv)
{
	static char stack[64 * 1024] __attribute__((aligned(16)));
	int status;
	if (argc == 1)
		return 0;
	what = argv[1];
	end = argv[2];
	pid_t pid = (pid_t)must(clone(child, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL), "clone");
	must(waitpid(pid, &status, 0), "waitpid");
	expect(total == (what[0] == 's' ? 42 : 0), "what the child wrote");
	say("ok pid=%d\n", (int)pid);
	return 0;
}
