/* One creation at the end of a known chain of calls: main, outer, middle, inner, and what the word says.
 *
 * The functions are kept apart and make no tail calls, so that a call stack must show each of them, at any
 * optimisation. `handler` and `altstack` make it in a signal handler, the latter on a stack of its own; `jit` from code
 * written at run time, which has neither rules nor a frame pointer of its own; `jitframe` from such code that has one;
 * `looped` with a frame pointer that points to itself in such code; `thread` in a thread.
 */
#include "programs.h"
#include <spawn.h>

#define APART __attribute__((noinline, noclone))
#define STAY __asm__ volatile("" ::: "memory") /* something to do after a call */

static const char *word;
static char child_stack[STACK_BYTES] __attribute__((aligned(16)));
static char signal_stack[STACK_BYTES] __attribute__((aligned(16)));
extern char **environ;

static void check_child(pid_t child)
{
	int status;
	if (child == -1 || waitpid(child, &status, __WALL) != child || status != 0)
		die("%s: the child", word);
}

static int leave(void *nothing)
{
	(void)nothing;
	_exit(0);
}

static void *rest(void *nothing)
{
	return nothing;
}

APART static void by_fork(void)
{
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	check_child(child);
	STAY;
}

APART static void by_vfork(void)
{
	pid_t child = vfork();
	if (child == 0)
		_exit(0);
	check_child(child);
	STAY;
}

APART static void by_clone(void)
{
	check_child(clone(leave, child_stack + sizeof child_stack, CLONE_VM | SIGCHLD, NULL));
	STAY;
}

APART static void by_syscall(void)
{
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, 0L, 0L, 0L, 0L);
	if (child == 0)
		_exit(0);
	check_child(child);
	STAY;
}

APART static void by_spawn(void)
{
	char *argv[] = {"true", NULL};
	pid_t child;
	if (posix_spawn(&child, "/bin/true", NULL, NULL, argv, environ) != 0)
		die("posix_spawn");
	check_child(child);
	STAY;
}

APART static void by_system(void)
{
	if (system("exit 0") != 0)
		die("system");
	STAY;
}

APART static void by_popen(void)
{
	FILE *stream = popen("exit 0", "r");
	if (stream == NULL || pclose(stream) != 0)
		die("popen");
	STAY;
}

APART static void by_pthread(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, rest, NULL) != 0 || pthread_join(thread, NULL) != 0)
		die("pthread_create");
	STAY;
}

static void *in_thread(void *nothing)
{
	by_fork();
	STAY;
	return nothing;
}

APART static void by_thread(void)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, in_thread, NULL) != 0 || pthread_join(thread, NULL) != 0)
		die("pthread_create");
	STAY;
}

static void handle(int number)
{
	(void)number;
	by_fork();
	STAY;
}

APART static void by_handler(int flags)
{
	stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
	struct sigaction action = {.sa_handler = handle, .sa_flags = flags};
	if (sigaltstack(&stack, NULL) != 0 || sigaction(SIGUSR1, &action, NULL) != 0 || raise(SIGUSR1) != 0)
		die("a signal");
	STAY;
}

#ifdef __x86_64__
/* call *%rdi between changes of the stack pointer; with a frame pointer; with one that points to itself, which it
 * gets back by way of an indirect jump */
static const unsigned char bare_code[] = {0x48, 0x83, 0xec, 0x18, 0xff, 0xd7, 0x48, 0x83, 0xc4, 0x18, 0xc3};
static const unsigned char framed_code[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20, 0xff, 0xd7, 0xc9, 0xc3};
static const unsigned char looped_code[] = {
	0x55, 0x48, 0x83, 0xec, 0x10,             /* push rbp; sub rsp, 16 */
	0x48, 0x89, 0xe5, 0x48, 0x89, 0x6d, 0x00, /* mov rbp, rsp; mov [rbp], rbp */
	0xff, 0xd7,                               /* call rdi */
	0x48, 0x8d, 0x05, 0x02, 0x00, 0x00, 0x00, /* lea rax, [rip + 2] */
	0xff, 0xe0,                               /* jmp rax */
	0x48, 0x83, 0xc4, 0x10, 0x5d, 0xc3,       /* add rsp, 16; pop rbp; ret */
};

APART static void by_code(const unsigned char *code, size_t size)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		die("mmap");
	memcpy(page, code, size);
	((void (*)(void (*)(void)))(uintptr_t)page)(by_fork);
	STAY;
}
#endif

APART static void inner(void)
{
	if (strcmp(word, "fork") == 0)
		by_fork();
	else if (strcmp(word, "vfork") == 0)
		by_vfork();
	else if (strcmp(word, "clone") == 0)
		by_clone();
	else if (strcmp(word, "syscall") == 0)
		by_syscall();
	else if (strcmp(word, "spawn") == 0)
		by_spawn();
	else if (strcmp(word, "system") == 0)
		by_system();
	else if (strcmp(word, "popen") == 0)
		by_popen();
	else if (strcmp(word, "pthread") == 0)
		by_pthread();
	else if (strcmp(word, "thread") == 0)
		by_thread();
	else if (strcmp(word, "handler") == 0)
		by_handler(0);
	else if (strcmp(word, "altstack") == 0)
		by_handler(SA_ONSTACK);
#ifdef __x86_64__
	else if (strcmp(word, "jit") == 0)
		by_code(bare_code, sizeof bare_code);
	else if (strcmp(word, "jitframe") == 0)
		by_code(framed_code, sizeof framed_code);
	else if (strcmp(word, "looped") == 0)
		by_code(looped_code, sizeof looped_code);
#endif
	else
		die("no such word: %s", word);
	STAY;
}

APART static void middle(int depth)
{
	if (depth > 0)
		middle(depth - 1);
	else
		inner();
	STAY;
}

APART static void outer(void)
{
	char room[600];
	memset(room, word[0], sizeof room);
	__asm__ volatile("" ::"r"(room) : "memory");
	middle(2);
	STAY;
}

int main(int argc, char **argv)
{
	word = argc > 1 ? argv[1] : "fork";
	outer();
	say("ok %s\n", word);
	return 0;
}
