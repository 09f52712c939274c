// Programs that look like those that hang, and do not: each goes on when it is let go, and ends with status 0.
#include "hangs.h"
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <setjmp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static sem_t items;
static int pipe_ends[2] = {-1, -1}, gate[2];
static char byte;

// Whoever waits for this goes on once somebody writes to, or closes, the standard input of the program.
static void let_go(void) { until(0); }

static void handler(int number) {
    (void)number;
    sem_post(&items);
}

static void nothing(int number) { (void)number; }

static void handle(int number, void (*with)(int)) {
    struct sigaction action = {.sa_handler = with};
    must(sigaction(number, &action, NULL) == 0, "sigaction");
}

// Sends the signal when the program is let go, as a user or a timer would.
static void helper(int number) {
    pid_t creator = getpid(), pid = child();
    if (pid == 0) {
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        blocks("read");
        let_go();
        kill(creator, number);
        _exit(0);
    }
}

// A handler posts it: as daemons do on SIGTERM, or by a timer.
static void posted_by_handler(void) {
    sem_init(&items, 0, 0);
    handle(SIGTERM, handler);
    helper(SIGTERM);
    blocks("futex");
    ask(getpid(), 2);
    while (sem_wait(&items)) continue;
}

static void posted_by_timer(void) {
    sem_init(&items, 0, 0);
    handle(SIGALRM, handler);
    helper(SIGALRM);
    blocks("futex");
    ask(getpid(), 2);
    while (sem_wait(&items)) continue;
}

static void written(int number) {
    (void)number;
    if (write(pipe_ends[1], "x", 1) != 1) _exit(3);
}

static void self_pipe(void) {
    piped(pipe_ends);
    handle(SIGUSR1, written);
    helper(SIGUSR1);
    blocks("read");
    ask(getpid(), 2);
    while (read(pipe_ends[0], &byte, 1) != 1) continue;
}

static void self_pipe_polled(void) {
    piped(pipe_ends);
    handle(SIGUSR1, written);
    helper(SIGUSR1);
    struct pollfd polled = {.fd = pipe_ends[0], .events = POLLIN};
    blocks("poll");
    ask(getpid(), 2);
    while (poll(&polled, 1, -1) != 1) continue;
}

// EINTR takes it out of a read whose other end it holds itself.
static void interrupted(void) {
    piped(pipe_ends);
    handle(SIGUSR1, nothing);
    helper(SIGUSR1);
    blocks("read");
    ask(getpid(), 2);
    must(read(pipe_ends[0], &byte, 1) < 0, "read");
}

static sigjmp_buf out;
static void jumps(int number) { siglongjmp(out, number); }

static void jumps_out(void) {
    handle(SIGALRM, jumps);
    helper(SIGALRM);
    pthread_mutex_lock(&mutex);
    if (sigsetjmp(out, 1) == 0) {
        blocks("futex");
        ask(getpid(), 2);
        pthread_mutex_lock(&mutex);
    }
}

static void *unlocks_later(void *unused) {
    pthread_mutex_lock(&mutex);
    tell(gate[1]);
    blocks("read");
    let_go();
    pthread_mutex_unlock(&mutex);
    return unused;
}

static void start(void *(*routine)(void *)) {
    pthread_t thread;
    must(pthread_create(&thread, NULL, routine, NULL) == 0, "pthread_create");
}

static void owner_reads(void) {
    piped(gate);
    start(unlocks_later);
    until(gate[0]);
    blocks("futex");
    ask(getpid(), 2);
    pthread_mutex_lock(&mutex);
}

static void *signals_later(void *unused) {
    blocks("read");
    let_go();
    pthread_mutex_lock(&mutex);
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
    return unused;
}

static void condition_signalled(void) {
    pthread_mutex_lock(&mutex);
    start(signals_later);
    blocks("futex");
    ask(getpid(), 2);
    pthread_cond_wait(&changed, &mutex);
}

static void *writes_later(void *unused) {
    blocks("read");
    let_go();
    tell(pipe_ends[1]);
    return unused;
}

static void thread_writes(void) {
    piped(pipe_ends);
    start(writes_later);
    blocks("read");
    ask(getpid(), 2);
    until(pipe_ends[0]);
}

static void *apart(void *unused) {
    must(unshare(CLONE_FILES) == 0, "unshare");
    close(pipe_ends[0]);
    tell(gate[1]);
    blocks("read");
    let_go();
    return unused;
}

// A thread with a descriptor table of its own holds the write end, and ends it by its end.
static void table_apart(void) {
    piped(pipe_ends);
    piped(gate);
    start(apart);
    until(gate[0]);
    close(pipe_ends[1]);
    blocks("read");
    ask(getpid(), 2);
    until(pipe_ends[0]);
}

static void timed_mutex(void) {
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 30;
    pthread_mutex_lock(&mutex);
    blocks("futex");
    ask(getpid(), 1);
    pthread_mutex_timedlock(&mutex, &end);
}

static void timed_poll(void) {
    piped(pipe_ends);
    struct pollfd polled = {.fd = pipe_ends[0], .events = POLLIN};
    blocks("poll");
    ask(getpid(), 1);
    poll(&polled, 1, 30000);
}

static void timed_socket(void) {
    int ends[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    struct timeval span = {.tv_sec = 30};
    must(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &span, sizeof span) == 0, "SO_RCVTIMEO");
    blocks("read");
    ask(getpid(), 1);
    must(read(ends[0], &byte, 1) < 0, "read");
}

// Another process has the mutex, which lies in memory that both share.
static void shared_mutex(void) {
    pthread_mutex_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attribute;
    pthread_mutexattr_init(&attribute);
    pthread_mutexattr_setpshared(&attribute, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(shared, &attribute);
    piped(gate);
    if (child() == 0) {
        pthread_mutex_lock(shared);
        tell(gate[1]);
        blocks("read");
        let_go();
        pthread_mutex_unlock(shared);
        _exit(0);
    }
    until(gate[0]);
    blocks("futex");
    ask(getpid(), 2);
    pthread_mutex_lock(shared);
}

static void shared_semaphore(void) {
    sem_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sem_init(shared, 1, 0);
    if (child() == 0) {
        blocks("read");
        let_go();
        sem_post(shared);
        _exit(0);
    }
    blocks("futex");
    ask(getpid(), 2);
    sem_wait(shared);
}

static char stack[1 << 16] __attribute__((aligned(16)));

static int posts(void *unused) {
    (void)unused;
    char got;
    say("wait %d read\n", (int)syscall(SYS_gettid));
    syscall(SYS_read, 0, &got, 1);
    __atomic_store_n((int *)&items, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &items, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    syscall(SYS_exit, 0);
    return 0;
}

// A process, and no thread, that shares the memory.
static void process_posts(void) {
    must(clone(posts, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) > 0, "clone");
    blocks("futex");
    ask(getpid(), 2);
    while (__atomic_load_n((int *)&items, __ATOMIC_SEQ_CST) == 0)
        syscall(SYS_futex, &items, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
}

// The write end is in a message that nobody has taken.
static void in_a_message(void) {
    int ends[2];
    char space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    pid_t pid = child();
    if (pid == 0) {
        close(ends[1]);
        blocks("read");
        let_go();
        must(recvmsg(ends[0], &message, 0) == 1, "recvmsg");
        memcpy(pipe_ends, CMSG_DATA(header), sizeof(int));
        tell(pipe_ends[0]);
        _exit(0);
    }
    piped(pipe_ends);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(header), &pipe_ends[1], sizeof(int));
    must(sendmsg(ends[1], &message, 0) == 1, "sendmsg");
    close(ends[0]);
    blocks("read");
    ask(getpid(), 2);
    until(pipe_ends[0]);
}

// The write end is kept in an io_uring, through which another process writes that has no descriptor of the pipe.
static void in_a_ring(void) {
    struct io_uring_params given = {0};
    int ring = (int)syscall(SYS_io_uring_setup, 1, &given);
    if (ring < 0) {
        say("lacks io_uring_setup %s\n", strerrorname_np(errno));
        ask(getpid(), 0);
        let_go();
        return;
    }
    char *queue = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    must(queue != MAP_FAILED && entry != MAP_FAILED, "mmap");
    piped(pipe_ends);
    must(syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, &pipe_ends[1], 1) == 0, "IORING_REGISTER_FILES");
    if (child() == 0) {
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        blocks("read");
        let_go();
        *entry = (struct io_uring_sqe){
            .opcode = IORING_OP_WRITE, .flags = IOSQE_FIXED_FILE, .addr = (uintptr_t) ".", .len = 1};
        ((unsigned *)(queue + given.sq_off.array))[0] = 0;
        __atomic_store_n((unsigned *)(queue + given.sq_off.tail), 1, __ATOMIC_RELEASE);
        must(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1, "io_uring_enter");
        _exit(0);
    }
    close(ring);
    blocks("read");
    ask(getpid(), 2);
    until(pipe_ends[0]);
}

static void slow_child(void) {
    pid_t pid = child();
    if (pid == 0) {
        blocks("read");
        let_go();
        _exit(0);
    }
    blocks("wait4");
    ask(getpid(), 2);
    waitpid(pid, NULL, 0);
}

static void slow_writer(void) {
    piped(pipe_ends);
    if (child() == 0) {
        close(pipe_ends[0]);
        blocks("read");
        let_go();
        _exit(0);
    }
    close(pipe_ends[1]);
    blocks("read");
    ask(getpid(), 2);
    until(pipe_ends[0]);
}

static int sleeps(void *unused) {
    (void)unused;
    char got;
    say("wait %d read\n", (int)syscall(SYS_gettid));
    syscall(SYS_read, 0, &got, 1);
    syscall(SYS_exit, 0);
    return 0;
}

static void vfork_slow(void) {
    say("wait %d clone\n", getpid());
    ask(getpid(), 2);
    clone(sleeps, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
}

// It waits for any child, and what it traces is none.
static void waits_for_tracee(void) {
    piped(gate);
    pid_t keeper = child();
    if (keeper == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
            if (write(gate[1], &(pid_t){getpid()}, sizeof(pid_t)) < 0) _exit(3);
            blocks("read");
            let_go();
            raise(SIGUSR2);
            _exit(0);
        }
        pthread_mutex_lock(&mutex);
        blocks("futex");
        pthread_mutex_lock(&mutex);
    }
    pid_t traced;
    must(read(gate[0], &traced, sizeof traced) == sizeof traced, "read");
    must(syscall(SYS_ptrace, 0x4206L, (long)traced, 0L, 0L) == 0, "PTRACE_SEIZE");
    blocks("wait4");
    ask(getpid(), 3);
    must(waitpid(-1, NULL, __WALL) == traced, "waitpid");
    kill(keeper, SIGKILL);
}

int main(int argc, char **argv) {
    static const struct scenario all[] = {
        {"posted_by_handler", posted_by_handler}, {"posted_by_timer", posted_by_timer}, {"self_pipe", self_pipe},
        {"self_pipe_polled", self_pipe_polled}, {"interrupted", interrupted}, {"jumps_out", jumps_out},
        {"owner_reads", owner_reads}, {"condition_signalled", condition_signalled}, {"thread_writes", thread_writes},
        {"table_apart", table_apart}, {"timed_mutex", timed_mutex}, {"timed_poll", timed_poll},
        {"timed_socket", timed_socket}, {"shared_mutex", shared_mutex}, {"shared_semaphore", shared_semaphore},
        {"process_posts", process_posts}, {"in_a_message", in_a_message}, {"in_a_ring", in_a_ring},
        {"slow_child", slow_child}, {"slow_writer", slow_writer}, {"vfork_slow", vfork_slow},
        {"waits_for_tracee", waits_for_tracee}, {NULL, NULL}};
    return chosen(all, argc, argv);
}
