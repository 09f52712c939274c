/* execveat_forms: execveat in its forms: those that fail, then, in a child, the descriptor itself. */
#include "programs.h"

static void attempt(const char *what, int fd, const char *path, int flags)
{
	char *argv[] = {(char *)"program", (char *)what, NULL};
	syscall(SYS_execveat, fd, path, argv, NULL, flags);
	say("execveat what=%s errno=%s fd=%d\n", what, errno_name(errno), fd);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return strcmp(argv[1], "second") == 0 ? execl("/proc/self/exe", "third", "third", (char *)NULL) : 0;
	int root = (int)must(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), "/");
	int self = (int)must(open("/proc/self/exe", O_RDONLY), "/proc/self/exe");
	attempt("below", root, "nonexistent/program", 0);
	attempt("closed", 999, "program", 0);
	attempt("none", -1, "", AT_EMPTY_PATH);
	attempt("no-flag", self, "", 0);
	attempt("link", AT_FDCWD, "/proc/self/exe", AT_SYMLINK_NOFOLLOW);
	pid_t child = fork();
	if (child == 0) {
		char *again[] = {argv[0], (char *)"second", NULL};
		syscall(SYS_execveat, self, "", again, NULL, AT_EMPTY_PATH);
		_exit(1);
	}
	expect_exit(child, 0);
	say("child pid=%d self=%d root=%d\n", (int)child, self, root);
	say("ok\n");
	return 0;
}
