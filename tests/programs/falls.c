/* Ends by a signal that dumps core, in a function of its own: falls segv|abort|divide|handled.
 * handled: takes SIGSEGV and goes on, as virtual machines do, and ends with 3.
 * Says: child pid=N */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static sigjmp_buf back;
static int *volatile nowhere = (int *)0x10;

static void take(int number)
{
    siglongjmp(back, number);
}

__attribute__((noinline)) static int parse(volatile int *at)
{
    return *at + 1;
}

__attribute__((noinline)) static int check(int wrong)
{
    if (wrong)
        abort();
    return wrong + 1;
}

__attribute__((noinline)) static int divide(volatile int by)
{
    return 7 / by;
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "segv";
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    pid_t child = fork();
    if (child == 0) {
        if (strcmp(how, "abort") == 0)
            return check(1);
        if (strcmp(how, "divide") == 0)
            return divide(argc - 2);
        if (strcmp(how, "handled") == 0) {
            signal(SIGSEGV, take);
            if (sigsetjmp(back, 1))
                return 3;
        }
        return parse(nowhere);
    }
    printf("child pid=%d\n", child);
    int status;
    if (waitpid(child, &status, 0) != child)
        return 1;
    return 0;
}
