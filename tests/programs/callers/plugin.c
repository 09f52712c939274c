/* plugin LIBRARY...: a child by a function of each library, which is loaded and unloaded again. Before each of them a
 * child whose creator's stack leads nowhere (x86_64).
 *
 * With -DNAME=function and -shared it is such a library; the code of all of them is the same.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef NAME

__attribute__((noinline)) static void NAME(void)
{
	pid_t child = fork();
	if (child == 0)
		_exit(0);
	if (child < 0 || waitpid(child, NULL, 0) != child)
		exit(1);
}

void enter(void)
{
	NAME();
	NAME();
	NAME();
}

#else

static unsigned long nowhere[64];

__attribute__((noinline)) static void astray(void)
{
#ifdef __x86_64__
	register long result __asm__("rax") = 57; /* fork */
	for (int i = 0; i < 64; i++)
		nowhere[i] = (unsigned long)nowhere; /* it can be read, and is no code */
	__asm__ volatile("mov %%rsp, %%r12\n\tmov %1, %%rsp\n\tsyscall\n\tmov %%r12, %%rsp"
			 : "+a"(result) : "r"(&nowhere[8]) : "r12", "rcx", "r11", "memory");
	if (result == 0)
		_exit(0);
	if (waitpid((pid_t)result, NULL, 0) != result)
		exit(1);
#endif
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		astray();
		void *library = dlopen(argv[i], RTLD_NOW);
		if (library == NULL) {
			fprintf(stderr, "plugin: %s\n", dlerror());
			return 1;
		}
		void (*enter)(void) = (void (*)(void))dlsym(library, "enter");
		enter();
		printf("entered at=%p\n", (void *)enter);
		dlclose(library);
	}
	printf("ok\n");
	return 0;
}

#endif
