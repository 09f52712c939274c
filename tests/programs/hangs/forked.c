// Locks that fork copied, and children that hold their creator.
#include "hangs.h"
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static int gate[2];

static void *holds_log(void *unused) {
    pthread_mutex_lock(&log_lock);
    tell(gate[1]);
    idle();
    return unused;
}

static void logging_lock(void) {
    pthread_t thread;
    piped(gate);
    pthread_create(&thread, NULL, holds_log, NULL);
    until(gate[0]);
    pid_t pid = child();
    if (pid == 0) {
        blocks("futex");
        ask(getpid(), 2);
        pthread_mutex_lock(&log_lock);
    }
    blocks("wait4");
    waitpid(pid, NULL, 0);
}

static void own_lock(void) {
    pthread_mutex_lock(&log_lock);
    pid_t pid = child();
    if (pid == 0) {
        blocks("futex");
        ask(getppid(), 2);
        pthread_mutex_lock(&log_lock);
    }
    blocks("wait4");
    waitpid(pid, NULL, 0);
}

// As allocators have it: a word of their own, 0 free, 1 taken, 2 waited for.
static _Atomic unsigned arena_lock;

static void arena_take(void) {
    unsigned free_ = 0;
    if (atomic_compare_exchange_strong(&arena_lock, &free_, 1)) return;
    while (atomic_exchange(&arena_lock, 2)) syscall(SYS_futex, &arena_lock, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
}

static void *holds_arena(void *unused) {
    arena_take();
    tell(gate[1]);
    idle();
    return unused;
}

static void allocator_lock(void) {
    pthread_t thread;
    piped(gate);
    pthread_create(&thread, NULL, holds_arena, NULL);
    until(gate[0]);
    pid_t pid = child();
    if (pid == 0) {
        blocks("futex");
        ask(getpid(), 2);
        arena_take();
    }
    blocks("wait4");
    waitpid(pid, NULL, 0);
}

static void *holds_stderr(void *unused) {
    flockfile(stderr);
    tell(gate[1]);
    idle();
    return unused;
}

// fork(3) sets the locks of stdio right in the child; the system call does not.
static void stdio_lock(void) {
    pthread_t thread;
    piped(gate);
    pthread_create(&thread, NULL, holds_stderr, NULL);
    until(gate[0]);
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        blocks("futex");
        ask(getpid(), 2);
        fputs("never", stderr);
    }
    blocks("wait4");
    waitpid(pid, NULL, 0);
}

static char stack[1 << 16] __attribute__((aligned(16)));

static int sleeps(void *unused) {
    (void)unused;
    blocks("pause");
    idle();
    return 0;
}

static void vfork_sleeps(void) {
    ask(getpid(), 2);
    say("wait %d clone\n", getpid());
    clone(sleeps, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
}

static int locks_log(void *unused) {
    (void)unused;
    blocks("futex");
    pthread_mutex_lock(&log_lock);
    return 0;
}

// The child shares the memory, so the owner of the lock is there: and waits for the child.
static void vfork_lock(void) {
    pthread_mutex_lock(&log_lock);
    ask(getpid(), 2);
    say("wait %d clone\n", getpid());
    clone(locks_log, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
}

static void stopped_child(void) {
    pid_t pid = child();
    if (pid == 0) {
        raise(SIGSTOP);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, WUNTRACED);
    blocks("wait4");
    ask(getpid(), 1);
    waitpid(pid, &status, 0);
}

static void zombie(void) {
    pid_t pid = child();
    if (pid == 0) _exit(3);
    siginfo_t info;
    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
    blocks("pause");
    ask(pid, 1);
    idle();
}

// The first process of a pid namespace gets all orphans, and this one waits for none of them.
static void init_reaps_nothing(void) {
    must(unshare(CLONE_NEWPID) == 0, "unshare(CLONE_NEWPID)");
    int ends[2], outside[2];
    piped(ends);
    piped(outside);
    pid_t init = fork();
    if (init == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(outside[0]);
        pid_t middle = fork();
        if (middle == 0) {
            if (fork() == 0) {
                close(ends[1]);
                until(ends[0]);
                _exit(0);
            }
            _exit(0);
        }
        waitpid(middle, NULL, 0);
        close(ends[0]);
        close(ends[1]);
        tell(outside[1]);
        idle();
    }
    until(outside[0]);
    close(ends[1]);
    close(ends[0]);
    say("wait %d pause\n", init);
    say("zombies %d\n", init);
    ask(init, 1);
    waitpid(init, NULL, 0);
}

static void traced(void) {
    pid_t pid = child();
    if (pid == 0) idle();
    pid_t tracer = child();
    if (tracer == 0) {
        syscall(SYS_ptrace, 0x4206L, (long)pid, 0L, 0L);  // PTRACE_SEIZE
        syscall(SYS_ptrace, 0x4207L, (long)pid, 0L, 0L);  // PTRACE_INTERRUPT
        waitpid(pid, NULL, __WALL);
        blocks("pause");
        say("wait %d traced\n", pid);
        ask(getppid(), 3);
        idle();
    }
    blocks("wait4");
    waitpid(pid, NULL, 0);
}

int main(int argc, char **argv) {
    static const struct scenario all[] = {
        {"logging_lock", logging_lock}, {"own_lock", own_lock}, {"allocator_lock", allocator_lock},
        {"stdio_lock", stdio_lock}, {"vfork_sleeps", vfork_sleeps}, {"vfork_lock", vfork_lock},
        {"stopped_child", stopped_child}, {"zombie", zombie}, {"init_reaps_nothing", init_reaps_nothing},
        {"traced", traced}, {NULL, NULL}};
    return chosen(all, argc, argv);
}
