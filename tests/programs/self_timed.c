/* Measures itself: how long each of its children lived, from before fork to after waitpid, and what they took.
 * Says: child pid=N ns=N cpu_us=N peak_kib=N
 * Arguments: the number of children, and for how many milliseconds of CPU time each computes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
    int children = argc > 1 ? atoi(argv[1]) : 3;
    long long computes = (argc > 2 ? atoll(argv[2]) : 20) * 1000000LL;
    for (int i = 0; i < children; i++) {
        long long before = now(CLOCK_MONOTONIC);
        pid_t child = fork();
        if (child == 0) {
            char *memory = malloc(32 << 20);
            memset(memory, 1, 32 << 20);
            while (now(CLOCK_PROCESS_CPUTIME_ID) < computes)
                ;
            _exit(memory[5] - 1);
        }
        int status;
        struct rusage used;
        if (child < 0 || wait4(child, &status, 0, &used) != child || status != 0)
            return 1;
        printf("child pid=%d ns=%lld cpu_us=%ld peak_kib=%ld\n", child, now(CLOCK_MONOTONIC) - before,
               (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 + used.ru_utime.tv_usec + used.ru_stime.tv_usec,
               used.ru_maxrss);
    }
    return 0;
}
