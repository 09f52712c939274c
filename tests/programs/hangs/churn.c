// Lanes of processes that come and go: in each, "rN" reads a pipe whose other end "wN" holds for a moment, and waits for
// it to end. Nobody else has anything of a lane. The first lane stays as it is.
#include "hangs.h"

static void name(char kind, int lane) {
    char text[16];
    snprintf(text, sizeof text, "%c%d", kind, lane);
    prctl(PR_SET_NAME, text);
}

static void lane(int number) {
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    name('r', number);
    for (;;) {
        int ends[2], gate[2];
        piped(ends);
        piped(gate);
        pid_t pid = fork();
        if (pid < 0) {  // no number is free
            for (int end = 0; end < 2; end++) close(ends[end]), close(gate[end]);
            poll(NULL, 0, 1);
            continue;
        }
        if (pid == 0) {
            name('w', number);
            close(ends[0]);
            close(gate[1]);
            struct pollfd polled = {.fd = gate[0], .events = POLLIN};
            poll(&polled, 1, number ? 8 << number % 6 : -1);
            _exit(0);
        }
        close(ends[1]);
        close(gate[0]);
        while (read(ends[0], &byte, 1) > 0) continue;
        waitpid(pid, NULL, 0);
        close(ends[0]);
        close(gate[1]);
    }
}

int main(int argc, char **argv) {
    int lanes = argc > 1 ? atoi(argv[1]) : 8;
    for (int number = 0; number < lanes; number++)
        if (fork() == 0) lane(number);
    say("ready\n");
    until(0);
    return 0;
}
