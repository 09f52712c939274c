/* Ends a child by SIGKILL: kills kill|group|all-threads|pidfd|refused|thread.
 * Says: child pid=N killer=N */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "kill";
    int ends[2];
    if (pipe(ends))
        return 1;
    pid_t child = fork();
    if (child == 0) {
        setpgid(0, 0);
        write(ends[1], "x", 1);
        for (;;)
            pause();
    }
    char byte;
    read(ends[0], &byte, 1);
    printf("child pid=%d killer=%d\n", child, getpid());
    fflush(stdout);
    int done = -1;
    if (strcmp(how, "kill") == 0)
        done = kill(child, SIGKILL);
    else if (strcmp(how, "group") == 0)
        done = kill(-child, SIGKILL);
    else if (strcmp(how, "thread") == 0)
        done = syscall(SYS_tgkill, child, child, SIGKILL);
    else if (strcmp(how, "tkill") == 0)
        done = syscall(SYS_tkill, child, SIGKILL);
    else if (strcmp(how, "pidfd") == 0) {
        int fd = syscall(SYS_pidfd_open, child, 0);
        done = fd < 0 ? fd : syscall(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0);
    } else if (strcmp(how, "term") == 0) {
        if (kill(0x3fffffff, SIGKILL) == 0 || errno != ESRCH)
            return 2;
        done = kill(child, SIGTERM);
    }
    int status;
    if (done != 0 || waitpid(child, &status, 0) != child)
        return 1;
    return 0;
}
