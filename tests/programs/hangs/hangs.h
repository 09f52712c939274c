// What programs that hang have in common. Each names the tasks that are about to block and what they block in, then who
// is to be asked about, on stdout: "wait TID CALL" for each, "kill PID" for what outlives its creator, "ask PID" at the
// end. Whoever runs them waits until each task is in its call.
#ifndef HANGS_H
#define HANGS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAID 1

__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...) {
    char line[160];
    va_list list;
    va_start(list, format);
    int size = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (write(SAID, line, (size_t)size) != size) _exit(9);
}

static inline pid_t self(void) { return (pid_t)syscall(SYS_gettid); }

static inline void must(int good, const char *what) {
    if (!good) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(8);
    }
}

// What a machine may lack, or others of this user may have used up: the scenario cannot be played then, and says so.
static inline int granted(int got, const char *call) {
    if (got < 0) {
        say("lacks %s %d\n", call, errno);
        exit(8);
    }
    return got;
}

// This thread is about to block in a call of that name.
static inline void blocks(const char *call) { say("wait %d %s\n", self(), call); }

// The question; of so many tasks it was or will be said that they block.
static inline void ask(pid_t pid, int tasks) { say("ask %d %d\n", pid, tasks); }

// Until somebody writes to the pipe, or closes it.
static inline void until(int fd) {
    char byte;
    while (read(fd, &byte, 1) < 0 && errno == EINTR) continue;
}

static inline void tell(int fd) { must(write(fd, ".", 1) == 1, "write"); }

static inline void piped(int ends[2]) { must(pipe2(ends, O_CLOEXEC) == 0, "pipe2"); }

// A child that ends with its creator, so that nothing is left behind.
static inline pid_t child(void) {
    pid_t creator = getpid(), pid = fork();
    must(pid >= 0, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != creator) _exit(7);
    }
    return pid;
}

static inline void idle(void) {
    for (;;) pause();
}

struct scenario {
    const char *name;
    void (*run)(void);
};

static inline int chosen(const struct scenario *all, int argc, char **argv) {
    for (; all->name; all++)
        if (argc > 1 && strcmp(all->name, argv[1]) == 0) {
            all->run();
            return 0;
        } else if (argc == 1) {
            puts(all->name);
        }
    return argc == 1 ? 0 : 2;
}
#endif
