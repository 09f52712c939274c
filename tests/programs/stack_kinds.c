/* A fork on each kind of stack whose bounds nobody tells, and through code that is in no file; the children's exit
 * statuses tell them apart. `make` makes all of them: below `in_handler` on an alternate stack (1), on main's own (2),
 * in a coroutine (3, with glibc), more than 256 KiB deep (4), and on x86_64 called by code that was written at run time (5).
 */
#include "programs.h"
#include <alloca.h>
#ifdef __GLIBC__
#include <ucontext.h>
#endif

enum { SIZE = 1 << 16, DEEP = 1 << 20 };

static __attribute__((noinline)) void make(int status)
{
	pid_t child = fork();
	if (child == 0)
		_exit(status);
	waitpid(child, &status, 0);
}

static void *room(int more)
{
	return mmap(0, SIZE, PROT_READ | PROT_WRITE | more, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static __attribute__((noinline)) void in_handler(int number)
{
	(void)number;
	make(1);
}

static __attribute__((noinline)) void on_alternate(void)
{
	stack_t other = {.ss_sp = room(0), .ss_size = SIZE};
	struct sigaction action = {.sa_handler = in_handler, .sa_flags = SA_ONSTACK};
	sigaltstack(&other, 0);
	sigaction(SIGUSR1, &action, 0);
	raise(SIGUSR1);
	make(2);
}

#ifdef __GLIBC__ /* musl has no ucontext.h functions */
static ucontext_t back, there;

static void in_coroutine(void)
{
	make(3);
}

static __attribute__((noinline)) void on_coroutine(void)
{
	getcontext(&there);
	there.uc_stack.ss_sp = room(0);
	there.uc_stack.ss_size = SIZE;
	there.uc_link = &back;
	makecontext(&there, in_coroutine, 0);
	swapcontext(&back, &there);
}
#endif

static __attribute__((noinline)) void on_deep(void)
{
	char *volatile much = alloca(DEEP);
	much[0] = 1;
	make(4);
	much[DEEP - 1] = 1;
}

#ifdef __x86_64__
static __attribute__((noinline)) void through_made_code(void)
{
	/* push %rbp; mov %rsp,%rbp; mov $5,%edi; call *%rax, whose address is given; pop %rbp; ret */
	static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0xf8, 0xbf, 5, 0, 0, 0, 0xff, 0xd0, 0x5d, 0xc3};
	unsigned char *made = room(PROT_EXEC);
	memcpy(made, code, sizeof code);
	((void (*)(void (*)(int)))made)(make);
}
#endif

int main(void)
{
	on_alternate();
#ifdef __GLIBC__
	on_coroutine();
#endif
	on_deep();
#ifdef __x86_64__
	through_made_code();
#endif
	say("ok");
	return 0;
}
