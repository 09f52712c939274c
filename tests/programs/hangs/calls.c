// Every call that waits, in its plainest form: who could end it is known, for it was put there.
#include "hangs.h"
#include <arpa/inet.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>

static char byte, page[4096];

// A child that does nothing, once it has done what it is told to.
static pid_t keeper(void (*first)(int), int given) {
    int gate[2];
    piped(gate);
    pid_t pid = child();
    if (pid == 0) {
        close(gate[0]);
        if (first) first(given);
        tell(gate[1]);
        close(gate[1]);
        blocks("pause");
        idle();
    }
    close(gate[1]);
    until(gate[0]);
    close(gate[0]);
    return pid;
}

static void closes(int fd) { close(fd); }

static void fill(int fd) {
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    while (write(fd, page, sizeof page) > 0) continue;
    fcntl(fd, F_SETFL, flags);
}

// A pipe whose other end only a child has.
static int empty_pipe(void) {
    int ends[2];
    piped(ends);
    keeper(closes, ends[0]);
    close(ends[1]);
    return ends[0];
}

static int full_pipe(void) {
    int ends[2];
    piped(ends);
    fill(ends[1]);
    keeper(closes, ends[1]);
    close(ends[0]);
    return ends[1];
}

static int file(void) {
    char name[] = "/tmp/forklore-call-XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    must(fd >= 0, "mkostemp");
    say("file %s\n", name);
    return fd;
}

static char *path_of(int fd, char *into) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(name, into, 255);
    must(size > 0, "readlink");
    into[size] = 0;
    return into;
}

// Pipes, by calls other than read and write

static void splice_empty(void) {
    int in = empty_pipe(), out[2];
    piped(out);
    blocks("splice");
    ask(getpid(), 2);
    splice(in, NULL, out[1], NULL, 1, 0);
}

static void splice_full(void) {
    int out = full_pipe(), in[2];
    piped(in);
    tell(in[1]);
    blocks("splice");
    ask(getpid(), 2);
    splice(in[0], NULL, out, NULL, 1, 0);
}

static void splice_file_full(void) {
    int out = full_pipe(), in = file();
    must(write(in, page, sizeof page) > 0, "write");
    loff_t from = 0;
    blocks("splice");
    ask(getpid(), 2);
    splice(in, &from, out, NULL, 1, 0);
}

static void tee_empty(void) {
    int in = empty_pipe(), out[2];
    piped(out);
    blocks("tee");
    ask(getpid(), 2);
    tee(in, out[1], 1, 0);
}

static void tee_full(void) {
    int out = full_pipe(), in[2];
    piped(in);
    tell(in[1]);
    blocks("tee");
    ask(getpid(), 2);
    tee(in[0], out, 1, 0);
}

static void vmsplice_full(void) {
    struct iovec piece = {page, sizeof page};
    int out = full_pipe();
    blocks("vmsplice");
    ask(getpid(), 2);
    vmsplice(out, &piece, 1, 0);
}

static void vmsplice_empty(void) {
    struct iovec piece = {page, sizeof page};
    int in = empty_pipe();
    blocks("vmsplice");
    ask(getpid(), 2);
    vmsplice(in, &piece, 1, 0);
}

static void sendfile_full(void) {
    int out = full_pipe(), in = file();
    must(write(in, page, sizeof page) > 0, "write");
    off_t from = 0;
    blocks("sendfile");
    ask(getpid(), 2);
    sendfile(out, in, &from, 1);
}

static void readv_empty(void) {
    struct iovec piece = {page, sizeof page};
    int in = empty_pipe();
    blocks("readv");
    ask(getpid(), 2);
    must(readv(in, &piece, 1) >= 0, "readv");
}

// Sockets

static void socket_full(void) {
    int ends[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    fill(ends[0]);
    keeper(closes, ends[0]);
    close(ends[1]);
    blocks("sendto");
    ask(getpid(), 2);
    send(ends[0], page, sizeof page, 0);
}

static void socket_message(void) {
    int ends[2];
    struct iovec piece = {page, sizeof page};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    keeper(closes, ends[0]);
    close(ends[1]);
    blocks("recvmsg");
    ask(getpid(), 2);
    recvmsg(ends[0], &message, 0);
}

static socklen_t abstract(struct sockaddr_un *address) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int size = snprintf(address->sun_path + 1, 60, "forklore-%d", getpid());
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size);
}

static int listens(struct sockaddr_un *address, socklen_t size, int backlog) {
    int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(bind(listening, (struct sockaddr *)address, size) == 0 && listen(listening, backlog) == 0, "listen");
    return listening;
}

static void unix_server(void) {
    struct sockaddr_un address;
    int listening = listens(&address, abstract(&address), 1);
    blocks("accept4");
    ask(getpid(), 1);
    accept4(listening, NULL, NULL, SOCK_CLOEXEC);
}

static void unix_unaccepted(void) {
    struct sockaddr_un address;
    socklen_t size = abstract(&address);
    int listening = listens(&address, size, 1), fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    keeper(NULL, 0);
    close(listening);
    must(connect(fd, (struct sockaddr *)&address, size) == 0, "connect");
    blocks("read");
    ask(getpid(), 2);
    must(read(fd, &byte, 1) >= 0, "read");
}

static void unix_backlog(void) {
    struct sockaddr_un address;
    socklen_t size = abstract(&address);
    int listening = listens(&address, size, 0);
    keeper(NULL, 0);
    close(listening);
    int one = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), two = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(one, (struct sockaddr *)&address, size) == 0, "connect");
    blocks("connect");
    ask(getpid(), 2);
    connect(two, (struct sockaddr *)&address, size);
}

static int tcp(struct sockaddr_in *address) {
    socklen_t size = sizeof *address;
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must(bind(listening, (struct sockaddr *)address, size) == 0 && listen(listening, 0) == 0, "listen");
    getsockname(listening, (struct sockaddr *)address, &size);
    return listening;
}

static void tcp_unaccepted(void) {
    struct sockaddr_in address;
    int listening = tcp(&address), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    keeper(NULL, 0);
    close(listening);
    must(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    blocks("recvfrom");
    ask(getpid(), 2);
    must(recv(fd, &byte, 1, 0) >= 0, "recv");
}

// The queue of a server that accepts nobody is full, so that the kernel takes no further connection.
static void tcp_backlog(void) {
    struct sockaddr_in address;
    int listening = tcp(&address);
    keeper(NULL, 0);
    close(listening);
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct pollfd polled = {.fd = fd, .events = POLLOUT};
        connect(fd, (struct sockaddr *)&address, sizeof address);
        if (poll(&polled, 1, 300) == 0) break;
    }
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    blocks("connect");
    ask(getpid(), 2);
    connect(fd, (struct sockaddr *)&address, sizeof address);
}

static int tcp_connected(int *other) {
    struct sockaddr_in address;
    int listening = tcp(&address), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
    *other = accept(listening, NULL, NULL);
    close(listening);
    return fd;
}

static void tcp_held(void) {
    int other, fd = tcp_connected(&other);
    keeper(closes, fd);
    close(other);
    blocks("recvfrom");
    ask(getpid(), 2);
    must(recv(fd, &byte, 1, 0) >= 0, "recv");
}

static void sendfile_socket(void) {
    int other, fd = tcp_connected(&other), in = file();
    must(ftruncate(in, 1 << 30) == 0, "ftruncate");
    keeper(closes, fd);
    close(other);
    fill(fd);
    off_t from = 0;
    blocks("sendfile");
    ask(getpid(), 2);
    sendfile(fd, in, &from, 1 << 30);
}

static void datagram(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(bind(fd, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    blocks("recvfrom");
    ask(getpid(), 1);
    must(recv(fd, &byte, 1, 0) >= 0, "recv");
}

// Several descriptors

static struct epoll_event event = {.events = EPOLLIN};

static int watched(int fd) {
    int watching = epoll_create1(EPOLL_CLOEXEC);
    must(epoll_ctl(watching, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
    return watching;
}

static void ppoll_held(void) {
    struct pollfd polled = {.fd = empty_pipe(), .events = POLLIN};
    blocks("ppoll");
    ask(getpid(), 2);
    ppoll(&polled, 1, NULL, NULL);
}

static void ppoll_time(void) {
    struct pollfd polled = {.fd = empty_pipe(), .events = POLLIN};
    struct timespec end = {.tv_sec = 10000};
    blocks("ppoll");
    ask(getpid(), 2);
    ppoll(&polled, 1, &end, NULL);
}

static void select_write(void) {
    int out = full_pipe();
    fd_set set;
    FD_ZERO(&set);
    FD_SET(out, &set);
    blocks("pselect6");
    ask(getpid(), 2);
    select(out + 1, NULL, &set, NULL, NULL);
}

static void epoll_pwait_held(void) {
    int watching = watched(empty_pipe());
    sigset_t set;
    sigemptyset(&set);
    blocks("epoll_pwait");
    ask(getpid(), 2);
    epoll_pwait(watching, &event, 1, -1, &set);
}

static void epoll_pwait2_time(void) {
    int watching = watched(empty_pipe());
    struct timespec end = {.tv_sec = 10000};
    blocks("epoll_pwait2");
    ask(getpid(), 2);
    syscall(SYS_epoll_pwait2, watching, &event, 1, &end, NULL, 8);
}

static void epoll_nested(void) {
    struct pollfd polled = {.fd = watched(watched(empty_pipe())), .events = POLLIN};
    blocks("poll");
    ask(getpid(), 2);
    poll(&polled, 1, -1);
}

// What is watched is open elsewhere: its number is another file's by now.
static void epoll_stale(void) {
    int in = empty_pipe(), other[2], watching = watched(in);
    must(dup(in) > 0, "dup");
    piped(other);
    must(dup2(other[0], in) == in, "dup2");
    blocks("epoll_wait");
    ask(getpid(), 2);
    epoll_wait(watching, &event, 1, -1);
}

static void poll_full(void) {
    struct pollfd polled = {.fd = full_pipe(), .events = POLLOUT};
    blocks("poll");
    ask(getpid(), 2);
    poll(&polled, 1, -1);
}

static void poll_pause(void) {
    blocks("poll");
    ask(getpid(), 1);
    poll(NULL, 0, -1);
}

static void io_uring(void) {
    struct io_uring_params given = {0};
    int ring = granted((int)syscall(SYS_io_uring_setup, 4, &given), "io_uring_setup");
    size_t size = given.sq_off.array + given.sq_entries * sizeof(unsigned);
    char *queue = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entries = mmap(NULL, given.sq_entries * sizeof *entries, PROT_READ | PROT_WRITE, MAP_SHARED,
                                        ring, IORING_OFF_SQES);
    must(queue != MAP_FAILED && entries != MAP_FAILED, "mmap");
    entries[0] = (struct io_uring_sqe){.opcode = IORING_OP_POLL_ADD, .fd = empty_pipe(), .poll32_events = POLLIN};
    ((unsigned *)(queue + given.sq_off.array))[0] = 0;
    __atomic_store_n((unsigned *)(queue + given.sq_off.tail), 1, __ATOMIC_RELEASE);
    blocks("io_uring_enter");
    ask(getpid(), 2);
    syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0);
}

// What the kernel makes descriptors of

static void timer_set(void) {
    struct itimerspec when = {.it_value.tv_sec = 10000};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    must(timerfd_settime(fd, 0, &when, NULL) == 0, "timerfd_settime");
    blocks("read");
    ask(getpid(), 1);
    must(read(fd, page, 8) >= 0, "read");
}

static void timer_unset(void) {
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    blocks("read");
    ask(getpid(), 1);
    must(read(fd, page, 8) >= 0, "read");
}

static void signal_descriptor(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC);
    blocks("read");
    ask(getpid(), 1);
    must(read(fd, page, sizeof page) >= 0, "read");
}

static void file_events(void) {
    int fd = granted(inotify_init1(IN_CLOEXEC), "inotify_init1");
    must(inotify_add_watch(fd, "/proc/self/exe", IN_MODIFY) >= 0, "inotify_add_watch");
    blocks("read");
    ask(getpid(), 1);
    must(read(fd, page, sizeof page) >= 0, "read");
}

// Time and signals

static void nanosleep_long(void) {
    struct timespec span = {.tv_sec = 10000};
    blocks("nanosleep");
    ask(getpid(), 1);
    syscall(SYS_nanosleep, &span, NULL);
}

static void sleep_until(clockid_t clock) {
    struct timespec end;
    clock_gettime(clock, &end);
    end.tv_sec += 10000;
    blocks("clock_nanosleep");
    ask(getpid(), 1);
    clock_nanosleep(clock, TIMER_ABSTIME, &end, NULL);
}

static void until_realtime(void) { sleep_until(CLOCK_REALTIME); }
static void until_monotonic(void) { sleep_until(CLOCK_MONOTONIC); }
static void until_boottime(void) { sleep_until(CLOCK_BOOTTIME); }
static void until_atomic_time(void) { sleep_until(CLOCK_TAI); }
static void until_processor_time(void) { sleep_until(CLOCK_PROCESS_CPUTIME_ID); }

static void pauses(void) {
    blocks("pause");
    ask(getpid(), 1);
    pause();
}

static void suspends(void) {
    sigset_t set;
    sigemptyset(&set);
    blocks("rt_sigsuspend");
    ask(getpid(), 1);
    sigsuspend(&set);
}

static void futex_words(void) {
    static unsigned words[2];
    struct { uint64_t value, address; uint32_t flags, reserved; } waiters[2] = {
        {0, (uintptr_t)&words[0], 2 | 128, 0}, {0, (uintptr_t)&words[1], 2 | 128, 0}};
    blocks("futex_waitv");
    ask(getpid(), 1);
    syscall(SYS_futex_waitv, waiters, 2, 0, NULL, CLOCK_MONOTONIC);
}

// Children

static void waits_by_pidfd(void) {
    siginfo_t told;
    pid_t pid = keeper(NULL, 0);
    int fd = granted((int)syscall(SYS_pidfd_open, pid, 0), "pidfd_open");
    blocks("waitid");
    ask(getpid(), 2);
    waitid(P_PIDFD, (id_t)fd, &told, WEXITED);
}

static void waits_by_id(void) {
    siginfo_t told;
    pid_t pid = keeper(NULL, 0);
    blocks("waitid");
    ask(getpid(), 2);
    waitid(P_PID, (id_t)pid, &told, WEXITED);
}

static void own_group(int given) {
    (void)given;
    setpgid(0, 0);
}

static void waits_for_group(void) {
    pid_t pid = keeper(own_group, 0);
    keeper(NULL, 0);
    blocks("wait4");
    ask(getpid(), 3);
    waitpid(-pid, NULL, 0);
}

// Locks on files

static void locks_part(int fd) {
    struct flock part = {.l_type = F_WRLCK, .l_start = 10, .l_len = 10};
    char name[256];
    int mine = open(path_of(fd, name), O_RDWR | O_CLOEXEC);
    must(mine >= 0 && fcntl(mine, F_OFD_SETLK, &part) == 0, "F_OFD_SETLK");
    close(fd);
}

static void locks_other_part(int fd) {
    struct flock part = {.l_type = F_WRLCK, .l_start = 100, .l_len = 10};
    char name[256];
    int mine = open(path_of(fd, name), O_RDWR | O_CLOEXEC);
    must(mine >= 0 && fcntl(mine, F_OFD_SETLK, &part) == 0, "F_OFD_SETLK");
    close(fd);
}

// Two wait for two ranges of one file, which two others have.
static void ofd_ranges(void) {
    int fd = file();
    pid_t first = keeper(locks_part, fd), other = keeper(locks_other_part, fd);
    struct flock part = {.l_type = F_WRLCK, .l_start = 10, .l_len = 10}, rest = part;
    rest.l_start = 100;
    say("holds %d\nholds-not %d\n", first, other);
    if (child() == 0) {
        char name[256];
        int mine = open(path_of(fd, name), O_RDWR | O_CLOEXEC);
        close(fd);
        blocks("fcntl");
        fcntl(mine, F_OFD_SETLKW, &rest);
    }
    blocks("fcntl");
    ask(getpid(), 4);
    fcntl(fd, F_OFD_SETLKW, &part);
}

static void leases(int fd) {
    signal(SIGIO, SIG_IGN);
    must(fcntl(fd, F_SETLEASE, F_WRLCK) == 0, "F_SETLEASE");
}

static void lease(void) {
    char name[256];
    int fd = file();
    path_of(fd, name);
    keeper(leases, fd);
    close(fd);
    blocks("openat");
    ask(getpid(), 2);
    open(name, O_RDONLY | O_CLOEXEC);
}

static void lease_truncate(void) {
    char name[256];
    int fd = file();
    path_of(fd, name);
    keeper(leases, fd);
    close(fd);
    blocks("truncate");
    ask(getpid(), 2);
    must(truncate(name, 0) == 0, "truncate");
}

// Queues and semaphores

static void down(int set) {
    struct sembuf change = {.sem_op = 1};
    must(semop(set, &change, 1) == 0, "semop");
}

static void semaphore_zero(void) {
    int set = granted(semget(IPC_PRIVATE, 2, 0600), "semget");
    struct sembuf zero[2] = {{.sem_num = 1, .sem_op = 0}, {.sem_num = 0, .sem_op = 0}};
    say("semaphores %d\n", set);
    keeper(down, set);
    blocks("semop");
    ask(getpid(), 2);
    semop(set, zero, 2);
}

static void semaphore_time(void) {
    int set = granted(semget(IPC_PRIVATE, 1, 0600), "semget");
    struct sembuf change = {.sem_op = -2};
    struct timespec end = {.tv_sec = 10000};
    say("semaphores %d\n", set);
    blocks("semtimedop");
    ask(getpid(), 1);
    semtimedop(set, &change, 1, &end);
}

static void queue_full(void) {
    int queue = granted(msgget(IPC_PRIVATE, 0600), "msgget");
    struct { long type; char text[1024]; } message = {.type = 1};
    say("queue %d\n", queue);
    while (msgsnd(queue, &message, sizeof message.text, IPC_NOWAIT) == 0) continue;
    blocks("msgsnd");
    ask(getpid(), 1);
    msgsnd(queue, &message, sizeof message.text, 0);
}

static void posix_queue_full(void) {
    char name[64];
    snprintf(name, sizeof name, "/forklore-%d", getpid());
    struct mq_attr given = {.mq_maxmsg = 1, .mq_msgsize = 8};
    mqd_t queue = granted(mq_open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600, &given), "mq_open");
    mqd_t mine = mq_open(name, O_WRONLY | O_CLOEXEC);
    mq_unlink(name);
    must(mq_send(queue, page, 1, 0) == 0, "mq_send");
    keeper(closes, mine);
    close(queue);
    blocks("mq_timedsend");
    ask(getpid(), 2);
    mq_send(mine, page, 1, 0);
}

// Job control

static struct termios settings;

static void writes(int fd) { must(write(fd, &byte, 1) >= 0, "write"); }
static void sets(int fd) { must(tcsetattr(fd, TCSANOW, &settings) >= 0, "tcsetattr"); }
static void takes(int fd) { must(tcsetpgrp(fd, getpgrp()) >= 0, "tcsetpgrp"); }
static void asks(int fd) { must(read(fd, &byte, 1) >= 0, "read"); }

// A shell that waits for a job of the background, which does something to the terminal. Once it has waited for the job's
// stop, the kernel has forgotten by which signal that was.
static void job(void (*does)(int), int forgotten) {
    int master, slave;
    must(openpty(&master, &slave, NULL, NULL, NULL) == 0, "openpty");
    pid_t shell = child();
    if (shell == 0) {
        setsid();
        must(ioctl(slave, TIOCSCTTY, 0) == 0, "TIOCSCTTY");
        tcgetattr(slave, &settings);
        settings.c_lflag |= TOSTOP;
        tcsetattr(slave, TCSANOW, &settings);
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            setpgid(0, 0);
            does(slave);
            _exit(0);
        }
        siginfo_t told;
        waitid(P_PID, (id_t)pid, &told, WSTOPPED | (forgotten ? 0 : WNOWAIT));
        say("wait %d stopped\n", pid);
        blocks("wait4");
        ask(getpid(), 2);
        waitpid(pid, NULL, 0);
    }
    waitpid(shell, NULL, 0);
}

static void background_write(void) { job(writes, 0); }
static void background_settings(void) { job(sets, 0); }
static void background_takes(void) { job(takes, 0); }
static void background_forgotten(void) { job(asks, 1); }

static void until_in(pid_t pid, int call) {
    char name[64], line[32] = "";
    snprintf(name, sizeof name, "/proc/%d/syscall", pid);
    while (atoi(line) != call || line[0] == 'r') {
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        must(fd >= 0 && read(fd, line, sizeof line - 1) > 0, name);
        close(fd);
        poll(NULL, 0, 1);
    }
}

// Stopped by Ctrl-Z as it asked in the foreground: not by SIGTTIN.
static void suspended(void) {
    int master, slave;
    must(openpty(&master, &slave, NULL, NULL, NULL) == 0, "openpty");
    pid_t shell = child();
    if (shell == 0) {
        int seen[2];
        piped(seen);
        setsid();
        must(ioctl(slave, TIOCSCTTY, 0) == 0, "TIOCSCTTY");
        signal(SIGTTOU, SIG_IGN);
        pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            setpgid(0, 0);
            tcsetpgrp(slave, getpid());
            tell(seen[1]);
            asks(slave);
            _exit(0);
        }
        until(seen[0]);
        until_in(pid, SYS_read);
        must(write(master, "\032", 1) == 1, "write");
        siginfo_t told;
        waitid(P_PID, (id_t)pid, &told, WSTOPPED | WNOWAIT);
        tcsetpgrp(slave, getpid());
        say("wait %d stopped\n", pid);
        ask(pid, 1);
        idle();
    }
    waitpid(shell, NULL, 0);
}

int main(int argc, char **argv) {
    static const struct scenario all[] = {
        {"splice_empty", splice_empty}, {"splice_full", splice_full}, {"splice_file_full", splice_file_full},
        {"tee_empty", tee_empty}, {"tee_full", tee_full}, {"vmsplice_full", vmsplice_full},
        {"vmsplice_empty", vmsplice_empty}, {"sendfile_full", sendfile_full}, {"readv_empty", readv_empty},
        {"socket_full", socket_full}, {"socket_message", socket_message}, {"unix_server", unix_server},
        {"unix_unaccepted", unix_unaccepted}, {"unix_backlog", unix_backlog}, {"tcp_unaccepted", tcp_unaccepted},
        {"tcp_backlog", tcp_backlog}, {"tcp_held", tcp_held}, {"sendfile_socket", sendfile_socket},
        {"datagram", datagram}, {"ppoll_held", ppoll_held}, {"ppoll_time", ppoll_time}, {"select_write", select_write},
        {"epoll_pwait_held", epoll_pwait_held}, {"epoll_pwait2_time", epoll_pwait2_time},
        {"epoll_nested", epoll_nested}, {"epoll_stale", epoll_stale}, {"poll_full", poll_full}, {"poll_pause", poll_pause}, {"io_uring", io_uring},
        {"timer_set", timer_set}, {"timer_unset", timer_unset}, {"signal_descriptor", signal_descriptor},
        {"file_events", file_events}, {"nanosleep_long", nanosleep_long}, {"until_realtime", until_realtime},
        {"until_monotonic", until_monotonic}, {"until_boottime", until_boottime},
        {"until_atomic_time", until_atomic_time}, {"until_processor_time", until_processor_time}, {"pauses", pauses},
        {"suspends", suspends}, {"futex_words", futex_words}, {"waits_by_pidfd", waits_by_pidfd},
        {"waits_by_id", waits_by_id}, {"waits_for_group", waits_for_group}, {"ofd_ranges", ofd_ranges},
        {"lease", lease}, {"lease_truncate", lease_truncate}, {"semaphore_zero", semaphore_zero},
        {"semaphore_time", semaphore_time}, {"queue_full", queue_full}, {"posix_queue_full", posix_queue_full},
        {"background_write", background_write}, {"background_settings", background_settings},
        {"background_takes", background_takes}, {"background_forgotten", background_forgotten}, {"suspended", suspended},
        {NULL, NULL}};
    return chosen(all, argc, argv);
}
