/* A server whose workers write what they are over their arguments, as nginx and postgres do, and a child that does not.
 * One worker makes itself a session and ends by itself. The others are told to end by SIGTERM when they are ready.
 * Says: leaver pid=N, worker pid=N, plain pid=N */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static pid_t start(const char *title, int leaves, char **argv)
{
    int ends[2];
    char byte;
    if (pipe(ends))
        _exit(2);
    pid_t child = fork();
    if (child == 0) {
        if (leaves)
            setsid();
        if (title) {
            /* From the first argument on to the last of the environment all is one piece of the stack. */
            char *last = argv[0];
            for (char **each = environ; *each; each++)
                last = *each + strlen(*each);
            memset(argv[0], 0, last - argv[0]);
            strncpy(argv[0], title, last - argv[0] - 1);
        }
        if (leaves)
            _exit(0);
        write(ends[1], "x", 1);
        for (;;)
            pause();
    }
    close(ends[1]);
    read(ends[0], &byte, 1);
    return child;
}

int main(int argc, char **argv)
{
    (void)argc;
    pid_t leaver = start("titled: leaver", 1, argv);
    pid_t plain = start(NULL, 0, argv), worker = start("titled: worker process", 0, argv);
    printf("leaver pid=%d\nworker pid=%d\nplain pid=%d\n", leaver, worker, plain);
    kill(worker, SIGTERM);
    kill(plain, SIGTERM);
    int status;
    return waitpid(leaver, &status, 0) != leaver || waitpid(worker, &status, 0) != worker ||
           waitpid(plain, &status, 0) != plain;
}
