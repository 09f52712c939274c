/* execfail_variants: one execve after the other that fails, each for its own reason. */
#include "programs.h"

static void write_file(const char *path, const char *text, mode_t mode)
{
	int fd = (int)must(open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode), path);
	put(fd, text, strlen(text));
	close(fd);
	must(chmod(path, mode), path);
}

static void attempt(const char *what, const char *path, const char *argument)
{
	char *argv[] = {(char *)"program", (char *)argument, NULL};
	char *env[] = {NULL};
	execve(path, argv, env);
	say("execve what=%s errno=%s path=%s\n", what, errno_name(errno), path);
}

int main(void)
{
	const char *tmp = getenv("TMPDIR");
	char directory[PATH_MAX], *big = malloc(256 * 1024);
	snprintf(directory, sizeof directory, "%s/execfail.XXXXXX", tmp && *tmp ? tmp : "/tmp");
	expect(big != NULL && mkdtemp(directory) != NULL, "a directory of its own under TMPDIR");
	must(chdir(directory), "chdir");
	memset(big, 'x', 256 * 1024 - 1);
	big[256 * 1024 - 1] = '\0';
	write_file("not-executable", "#!/bin/sh\n", 0644);
	write_file("no-format", "\n", 0755);
	write_file("bad-script", "#!/nonexistent/interpreter\n", 0755);
	write_file("bad-elf", "\177ELF nothing more", 0755);
	must(symlink("loop", "loop"), "symlink");

	attempt("missing", "./missing", NULL);
	attempt("not-executable", "./not-executable", NULL);
	attempt("directory", directory, NULL);
	attempt("no-format", "./no-format", NULL);
	attempt("bad-elf", "./bad-elf", NULL);
	attempt("missing-interpreter", "./bad-script", NULL);
	attempt("not-a-directory", "./no-format/program", NULL);
	attempt("loop", "./loop", NULL);
	attempt("empty-path", "", NULL);
	attempt("too-big", own_path(), big);
	big[PATH_MAX + 1] = '\0';
	execve(big, (char *[]){(char *)"program", NULL}, (char *[]){NULL});
	say("execve what=name-too-long errno=%s path=%.8s...\n", errno_name(errno), big);
	syscall(SYS_execve, 8, NULL, NULL);
	say("execve what=bad-pointer errno=%s path=\n", errno_name(errno));

	const char *names[] = {"not-executable", "no-format", "bad-script", "bad-elf", "loop"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		must(unlink(names[i]), names[i]);
	must(rmdir(directory), directory);
	say("ok\n");
	return 0;
}
