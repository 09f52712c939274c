/* vfork_writes vfork|fork|none [exit|exec|kill]: a child changes a stack variable, a static one, a heap object and
 * bytes of a mapped page, or nothing, and ends as told. The child says nothing, since that too would write: its parent
 * says where each object is, what was there, and what it sees there afterwards.
 */
#include "programs.h"

enum { HEAP_BYTES = 24, MAPPED_AT = 1000, MAPPED_BYTES = 96 };

struct place {
	const char *what;
	volatile unsigned char *address;
	size_t size;
	unsigned char old, new;
};

static volatile unsigned char fixed[12];
static struct place places[4];
static const char *path;

/* Every byte of every place, by the child; the loop's own variables are in registers or in its part of the stack. */
static inline __attribute__((always_inline)) void change_all(void)
{
	for (size_t i = 0; i < 4; i++)
		for (size_t at = 0; at < places[i].size; at++)
			places[i].address[at] = places[i].new;
}

static inline __attribute__((always_inline)) void end(int how)
{
	if (how == 'x')
		execl(path, "vfork_writes", "leaf", "0", (char *)NULL);
	if (how == 'k')
		kill(getpid(), SIGKILL);
	_exit(how == 'e' ? 0 : 127);
}

static unsigned char seen_at(const struct place *place)
{
	for (size_t at = 1; at < place->size; at++)
		expect(place->address[at] == place->address[0], "all bytes of an object are changed, or none");
	return place->address[0];
}

int main(int argc, char **argv)
{
	end_if_leaf(argc, argv);
	int borrow = !chosen(argc, argv, 1, "fork"), change = !chosen(argc, argv, 1, "none");
	int how = chosen(argc, argv, 2, "exec") ? 'x' : chosen(argc, argv, 2, "kill") ? 'k' : 'e';
	if (argc < 2 || (change && borrow && !chosen(argc, argv, 1, "vfork")))
		usage("vfork_writes vfork|fork|none [exit|exec|kill]");
	path = own_path();
	volatile unsigned char on_stack[20] = {0};
	unsigned char *heap = malloc(HEAP_BYTES);
	long page = sysconf(_SC_PAGESIZE);
	unsigned char *mapped = mmap(NULL, (size_t)page * 3, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(heap != NULL && mapped != MAP_FAILED, "memory");
	places[0] = (struct place){"stack", on_stack, sizeof on_stack, 5, 10};
	places[1] = (struct place){"static", fixed, sizeof fixed, 7, 12};
	places[2] = (struct place){"heap", heap, HEAP_BYTES, 11, 16};
	places[3] = (struct place){"mapped", mapped + page + MAPPED_AT, MAPPED_BYTES, 13, 18};
	for (size_t i = 0; i < 4; i++)
		for (size_t at = 0; at < places[i].size; at++)
			places[i].address[at] = places[i].old;

	pid_t child;
	if (borrow) {
		child = vfork();
		if (child == 0) {
			if (change)
				change_all();
			end(how);
		}
	} else {
		child = fork();
		if (child == 0) {
			change_all();
			end(how);
		}
	}
	must(child, borrow ? "vfork" : "fork");
	int status = ended(child);
	expect(how == 'k' ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : status == 0, "the child ended as told");
	int changed = 0;
	for (size_t i = 0; i < 4; i++) {
		unsigned char seen = seen_at(&places[i]), wrote = change ? places[i].new : places[i].old;
		say("place what=%s address=0x%llx size=%zu old=%d wrote=%d seen=%d pid=%d child=%d\n", places[i].what,
		    (unsigned long long)ADDRESS(places[i].address), places[i].size, places[i].old, wrote, seen, (int)getpid(),
		    (int)child);
		expect(seen == (change && borrow ? places[i].new : places[i].old), "a child changes just what it borrows");
		changed += seen != places[i].old;
	}
	if (change)
		say("shared resource=mm answer=%s by=variables when=created pid=%d child=%d\n", changed ? "yes" : "no",
		    (int)getpid(), (int)child);
	say("ok changed=%d ended=%s pid=%d child=%d\n", changed, how == 'k' ? "kill" : how == 'x' ? "exec" : "exit",
	    (int)getpid(), (int)child);
	return 0;
}
