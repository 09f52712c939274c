/* stack_broken pointer|overwritten|astray|recursive|generated: a fork where a stack is hard to read (x86_64).
 *
 * `pointer`: the stack pointer is where nothing is mapped; `overwritten`: all that the callers keep on the stack reads
 * 0x4141414141414141; `astray`: all of it reads an address in another function, which no call returns to; all is put
 * back in creator and child. `recursive`: the caller called itself 10007 times; `generated`: it is code written at run
 * time.
 */
#include "programs.h"

#define APART __attribute__((noinline, noclone))
enum { WORDS = 48 };

#ifdef __x86_64__

/* fork(2) with that stack pointer. */
static inline __attribute__((always_inline)) long fork_at(void *pointer)
{
	long result;
	register void *kept __asm__("r12");
	__asm__ volatile("mov %%rsp, %1\n\t"
			 "mov %3, %%rsp\n\t"
			 "syscall\n\t"
			 "mov %1, %%rsp"
			 : "=a"(result), "=&r"(kept)
			 : "a"(SYS_fork), "r"(pointer)
			 : "rcx", "r11", "memory");
	return result;
}

APART static void other_function(void)
{
	must(getppid(), "getppid");
}

APART static long wrongly(uint64_t filler)
{
	uint64_t kept[WORDS];
	uint64_t *from = __builtin_frame_address(0); /* the saved frame pointer, return address, and callers' words */
	memcpy(kept, from, sizeof kept);
	for (int i = 0; i < WORDS; i++)
		((volatile uint64_t *)from)[i] = filler;
	long result = fork_at(__builtin_alloca(16));
	for (int i = 0; i < WORDS; i++)
		((volatile uint64_t *)from)[i] = kept[i];
	return result;
}

APART static long deeper(long left)
{
	long result = left > 0 ? deeper(left - 1) : raw_fork();
	__asm__ volatile("" ::: "memory");
	return result;
}

/* push rbp; mov rbp, rsp; call *rdi; leave; ret */
static const unsigned char calling[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0xc9, 0xc3};

APART static long generated(void)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		die("mmap");
	memcpy(page, calling, sizeof calling);
	long result = ((pid_t (*)(pid_t (*)(void)))(uintptr_t)page)(fork);
	__asm__ volatile("" ::: "memory");
	return result;
}

APART static long make(const char *how)
{
	char room[8 * WORDS]; /* what is overwritten of this function's callers ends before environment and arguments */
	__asm__ volatile("" ::"r"(room) : "memory");
	if (strcmp(how, "pointer") == 0)
		return fork_at((void *)0x1000);
	if (strcmp(how, "overwritten") == 0)
		return wrongly(0x4141414141414141);
	if (strcmp(how, "astray") == 0)
		return wrongly(ADDRESS(other_function) + 1);
	if (strcmp(how, "recursive") == 0)
		return deeper(10007);
	return generated();
}

int main(int argc, char **argv)
{
	if (argc < 2)
		usage("stack_broken pointer|overwritten|astray|recursive|generated");
	long child = make(argv[1]);
	if (child == 0)
		_exit(0);
	expect(child > 0, "fork");
	expect_exit((pid_t)child, 0);
	say("ok %s\n", argv[1]);
	return 0;
}

#else

int main(int argc, char **argv)
{
	if (argc < 2)
		usage("stack_broken pointer|overwritten|astray|recursive|generated");
	say("ok %s\n", argv[1]);
	return 0;
}

#endif
