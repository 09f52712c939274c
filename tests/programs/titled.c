/* A server whose worker writes what it is over its arguments, as nginx and postgres do, and a child that does not.
 * Both are told to end by SIGTERM when they are ready.
 * Says: worker pid=N, plain pid=N */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static pid_t start(const char *title, char **argv)
{
    int ends[2];
    char byte;
    if (pipe(ends))
        _exit(2);
    pid_t child = fork();
    if (child == 0) {
        if (title) {
            /* From the first argument on to the last of the environment all is one piece of the stack. */
            char *last = argv[0];
            for (char **each = environ; *each; each++)
                last = *each + strlen(*each);
            memset(argv[0], 0, last - argv[0]);
            strncpy(argv[0], title, last - argv[0] - 1);
        }
        write(ends[1], "x", 1);
        for (;;)
            pause();
    }
    read(ends[0], &byte, 1);
    return child;
}

int main(int argc, char **argv)
{
    (void)argc;
    pid_t plain = start(NULL, argv), worker = start("titled: worker process", argv);
    printf("worker pid=%d\nplain pid=%d\n", worker, plain);
    kill(worker, SIGTERM);
    kill(plain, SIGTERM);
    int status;
    return waitpid(worker, &status, 0) != worker || waitpid(plain, &status, 0) != plain;
}
