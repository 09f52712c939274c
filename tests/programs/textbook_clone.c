/* textbook_clone vm|copy: clone(2) passes a buffer to a function, which writes into it, with CLONE_VM or without. */
#include "programs.h"

static int fill(void *buffer)
{
	strcpy(buffer, "written by the child");
	say("child: buffer is \"%s\"\n", (char *)buffer);
	return 0;
}

int main(int argc, char **argv)
{
	int vm = chosen(argc, argv, 1, "vm");
	if (!vm && !chosen(argc, argv, 1, "copy"))
		usage("textbook_clone vm|copy");
	char buffer[64] = "written by main";
	char *stack = new_stack();
	say("main: buffer is \"%s\"\n", buffer);
	pid_t child = (pid_t)must(clone(fill, stack + STACK_BYTES, (vm ? CLONE_VM : 0) | SIGCHLD, buffer), "clone");
	expect_exit(child, 0);
	int seen = strcmp(buffer, "written by the child") == 0;
	say("main: buffer is \"%s\"\n", buffer);
	expect(seen || strcmp(buffer, "written by main") == 0, "the buffer is as one of the two wrote it");
	expect(seen == vm, "main sees what the child wrote just where they share memory");
	say("shared resource=mm answer=%s by=buffer when=created pid=%d child=%d\n", seen ? "yes" : "no", (int)getpid(),
	    (int)child);
	say("ok\n");
	return 0;
}
