/* guest_image memfd|deleted|nothing: runs on from a file that has no name, or with no descriptor at all. */
#include "programs.h"

static void copy_to(int to)
{
	char text[65536];
	int from = (int)must(open("/proc/self/exe", O_RDONLY | O_CLOEXEC), "open");
	for (ssize_t got; (got = must(read(from, text, sizeof text), "read")) > 0;)
		put(to, text, (size_t)got);
	close(from);
}

static void who(const char *step)
{
	char comm[16] = "";
	must(prctl(PR_GET_NAME, comm), "PR_GET_NAME");
	const char *path = own_path(), *name = strrchr(path, '/');
	say("%s comm=%s deleted=%d memory=%d\n", step, comm, name && strstr(name, " (deleted)") != NULL,
	    strncmp(path, "/memfd:", 7) == 0);
}

static void expect_child(const char *step)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0)
		_exit(6);
	expect_exit(child, 6);
	say("%s forked=1\n", step);
}

int main(int argc, char **argv)
{
	static char *const none[] = {NULL};
	if (chosen(argc, argv, 1, "executed")) {
		who("executed");
		expect_child("executed");
		if (argc > 2 && strcmp(argv[2], "again") == 0) {
			must(unlink(argv[3]), "unlink");
			*strrchr(argv[3], '/') = '\0';
			must(rmdir(argv[3]), "rmdir");
			char *words[] = {argv[0], "executed", NULL};
			execve("/proc/self/exe", words, none);
			die("execve of a deleted file: %s", strerror(errno));
		}
		say("ok\n");
		return 0;
	}
	if (chosen(argc, argv, 1, "memfd")) {
		int file = (int)must(syscall(SYS_memfd_create, "guest", MFD_CLOEXEC), "memfd_create");
		copy_to(file);
		char *words[] = {"guest", "executed", NULL};
		fexecve(file, words, none);
		die("fexecve: %s", strerror(errno));
	}
	if (chosen(argc, argv, 1, "deleted")) {
		char directory[] = "/tmp/guest_image.XXXXXX", name[64];
		expect(mkdtemp(directory) != NULL, "a directory");
		snprintf(name, sizeof name, "%s/guest", directory);
		int file = (int)must(open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700), name);
		copy_to(file);
		must(close(file), "close");
		char *words[] = {"guest", "executed", "again", name, NULL};
		execve(name, words, none);
		die("execve: %s", strerror(errno));
	}
	if (!chosen(argc, argv, 1, "nothing"))
		usage("guest_image memfd|deleted|nothing");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		must(syscall(SYS_close_range, 0, ~0U, 0), "close_range");
		pid_t grandchild = fork();
		if (grandchild == 0)
			_exit(open("/dev/null", O_RDONLY) == 0 ? 5 : 1);
		_exit(WEXITSTATUS(ended(grandchild)));
	}
	expect_exit(child, 5);
	say("nothing first-descriptor=0\n");
	say("ok\n");
	return 0;
}
