/* clone3_sizes: clone3 with structs of every published size, and with sizes and pointers that it refuses. */
#include "programs.h"

static void attempt(const char *name, const void *args, size_t size)
{
	long child = raw_clone3(args, size);
	int error = child == -1 ? errno : 0;
	if (child == 0)
		_exit(0);
	if (child > 0)
		expect_exit((pid_t)child, 0);
	say("clone3 case=%s size=%zu pid=%ld errno=%s\n", name, size, child, errno_name(error));
}

int main(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(pages != MAP_FAILED, "three pages");
	must(munmap(pages + 2 * page, page), "munmap");
	struct clone3_args plain = {.exit_signal = SIGCHLD};
	memcpy(pages, &plain, sizeof plain);

	attempt("ver0", pages, 64);
	attempt("ver1", pages, 80);
	attempt("ver2", pages, 88);
	attempt("between", pages, 72);
	attempt("odd", pages, 67);
	attempt("zero-tail", pages, 128);
	attempt("page", pages, page);
	attempt("over-page", pages, page + 1);
	attempt("short", pages, 56);
	attempt("empty", pages, 0);
	pages[100] = 1;
	attempt("tail", pages, 128);
	pages[100] = 0;
	attempt("null", NULL, 88);
	attempt("unmapped", pages + 2 * page, 88);
	memcpy(pages + 2 * page - 64, &plain, 64);
	attempt("last-64", pages + 2 * page - 64, 64);
	attempt("cut-off", pages + 2 * page - 64, 88);
	plain.flags = CLONE_FS;
	memcpy(pages + 2 * page - 88, &plain, 88);
	attempt("tail-cut-off", pages + 2 * page - 88, 96);
	say("ok\n");
	return 0;
}
