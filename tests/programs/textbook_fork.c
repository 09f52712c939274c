/* textbook_fork: a fork child adds to its copy of the variables, and reads on in a file that is open in both. */
#include "programs.h"

static int data = 7;

int main(void)
{
	volatile int stack = 5;
	volatile int *heap = malloc(sizeof *heap);
	expect(heap != NULL, "memory");
	*heap = 11;
	FILE *file = tmpfile();
	expect(file != NULL, "a temporary file");
	int fd = fileno(file);
	put(fd, "abcdef", 6);
	must(lseek(fd, 0, SEEK_SET), "lseek");

	char bytes[3] = "";
	pid_t parent = getpid(), child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		int was_stack = stack, was_data = data, was_heap = *heap;
		stack += 5;
		data += 5;
		*heap += 5;
		must(read(fd, bytes, 2), "read");
		say("child: stack %d -> %d\n", was_stack, stack);
		say("child: data %d -> %d\n", was_data, data);
		say("child: heap %d -> %d\n", was_heap, *heap);
		say("child: read %s at offset 0\n", bytes);
		_exit(0);
	}
	expect_exit(child, 0);
	long offset = (long)must(lseek(fd, 0, SEEK_CUR), "lseek");
	must(read(fd, bytes, 2), "read");
	say("main: stack 5 -> %d\n", stack);
	say("main: data 7 -> %d\n", data);
	say("main: heap 11 -> %d\n", *heap);
	say("main: read %s at offset %ld\n", bytes, offset);
	expect(stack == 5 && data == 7 && *heap == 11, "the child wrote into its own copy");
	expect(offset == 2 && strcmp(bytes, "cd") == 0, "the open file and its offset are the same for both");
	say("shared resource=mm answer=no by=variables when=created pid=%d child=%d\n", (int)parent, (int)child);
	say("shared resource=open_file answer=yes by=offset when=created pid=%d child=%d\n", (int)parent, (int)child);
	say("ok\n");
	return 0;
}
