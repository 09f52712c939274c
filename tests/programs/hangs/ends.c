// Pipes, sockets, queues and files whose other end never does anything.
#include "hangs.h"
#include <arpa/inet.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static char byte;

static void reads(int fd) {
    blocks("read");
    while (read(fd, &byte, 1) > 0) continue;
}

// The writer has ended; the reader forgot to close its own copy of the write end.
static void pipe_self(void) {
    int ends[2];
    piped(ends);
    pid_t pid = child();
    if (pid == 0) _exit(0);
    waitpid(pid, NULL, 0);
    ask(getpid(), 1);
    reads(ends[0]);
}

static void pipe_two_ends(void) {
    int ends[2];
    piped(ends);
    pid_t pid = child();
    if (pid == 0) {
        close(ends[0]);
        blocks("pause");
        idle();
    }
    close(ends[1]);
    ask(getpid(), 2);
    reads(ends[0]);
}

static void keeps(int generations) {
    while (generations--)
        if (fork()) _exit(0);
    say("kill %d\n", getpid());
    blocks("pause");
    idle();
}

// Who holds the write end is not the program that was started, but what that left behind.
static void generations(int number) {
    int ends[2];
    piped(ends);
    pid_t pid = child();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, 0);
        close(ends[0]);
        keeps(number);
    }
    close(ends[1]);
    waitpid(pid, NULL, 0);
    ask(getpid(), 2);
    reads(ends[0]);
}

static void pipe_one_generation(void) { generations(1); }
static void pipe_three_generations(void) { generations(3); }

static void fill(int fd) {
    static char much[1 << 20];
    blocks("write");
    if (write(fd, much, sizeof much) < 0) _exit(1);
}

// Each writes more than a pipe holds before it reads.
static void pipes_full(void) {
    int to[2], from[2];
    piped(to);
    piped(from);
    pid_t pid = child();
    if (pid == 0) {
        close(to[1]);
        close(from[0]);
        fill(from[1]);
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    ask(getpid(), 2);
    fill(to[1]);
}

// The child reads its standard input to the end, which its creator holds open while it waits for the child.
static void wait_for_reader(void) {
    int ends[2];
    piped(ends);
    pid_t pid = child();
    if (pid == 0) {
        close(ends[1]);
        reads(ends[0]);
        _exit(0);
    }
    close(ends[0]);
    blocks("wait4");
    ask(getpid(), 2);
    waitpid(pid, NULL, 0);
}

static void fifo_open(void) {
    char name[] = "/tmp/forklore-fifo-XXXXXX";
    must(mkdtemp(name) != NULL, "mkdtemp");
    must(chdir(name) == 0 && mkfifo("fifo", 0600) == 0, "mkfifo");
    say("folder %s\n", name);
    blocks("openat");
    ask(getpid(), 1);
    must(open("fifo", O_RDONLY) >= 0, "open");
}

static void pair(int ends[2]) { must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair"); }

static void socket_self(void) {
    int ends[2];
    pair(ends);
    ask(getpid(), 1);
    reads(ends[0]);
}

// Client and server each wait for the other to begin.
static void socket_both_read(void) {
    int ends[2];
    pair(ends);
    if (child() == 0) {
        close(ends[0]);
        reads(ends[1]);
    }
    close(ends[1]);
    ask(getpid(), 2);
    reads(ends[0]);
}

static void tcp_both_read(void) {
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    must(bind(listening, (struct sockaddr *)&address, size) == 0 && listen(listening, 1) == 0, "listen");
    getsockname(listening, (struct sockaddr *)&address, &size);
    if (child() == 0) {
        int connected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        close(listening);
        must(connect(connected, (struct sockaddr *)&address, size) == 0, "connect");
        reads(connected);
    }
    int accepted = accept(listening, NULL, NULL);
    close(listening);
    ask(getpid(), 2);
    reads(accepted);
}

static void server(void) {
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(listen(listening, 1) == 0, "listen");
    blocks("accept");
    ask(getpid(), 1);
    accept(listening, NULL, NULL);
}

static void poll_self(void) {
    int ends[2];
    piped(ends);
    struct pollfd polled = {.fd = ends[0], .events = POLLIN};
    blocks("poll");
    ask(getpid(), 1);
    poll(&polled, 1, -1);
}

static void epoll_held(void) {
    int ends[2], watching = epoll_create1(EPOLL_CLOEXEC);
    piped(ends);
    if (child() == 0) {
        close(ends[0]);
        blocks("pause");
        idle();
    }
    close(ends[1]);
    struct epoll_event event = {.events = EPOLLIN};
    epoll_ctl(watching, EPOLL_CTL_ADD, ends[0], &event);
    blocks("epoll_wait");
    ask(getpid(), 2);
    epoll_wait(watching, &event, 1, -1);
}

static void select_held(void) {
    int ends[2];
    piped(ends);
    if (child() == 0) {
        close(ends[0]);
        blocks("pause");
        idle();
    }
    close(ends[1]);
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    blocks("pselect6");
    ask(getpid(), 2);
    pselect(ends[0] + 1, &set, NULL, NULL, NULL, NULL);
}

static void event_counter(void) {
    int counter = eventfd(0, EFD_CLOEXEC);
    long value;
    blocks("read");
    ask(getpid(), 1);
    must(read(counter, &value, sizeof value) > 0, "read");
}

static void pidfd(void) {
    pid_t pid = child();
    if (pid == 0) {
        blocks("pause");
        idle();
    }
    struct pollfd polled = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    must(polled.fd >= 0, "pidfd_open");
    blocks("poll");
    ask(getpid(), 2);
    poll(&polled, 1, -1);
}

static int file(void) {
    char name[] = "/tmp/forklore-lock-XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    must(fd >= 0, "mkostemp");
    say("file %s\n", name);
    return fd;
}

static int again(int fd) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return open(name, O_RDWR | O_CLOEXEC);
}

static void lock_cycle(int how) {
    int one = file(), two = file(), gate[2], back[2];
    piped(gate);
    piped(back);
    struct flock all = {.l_type = F_WRLCK};
    pid_t pid = child();
    int mine = again(pid ? one : two), theirs = again(pid ? two : one);
    close(one);
    close(two);
    must(how ? fcntl(mine, F_OFD_SETLK, &all) == 0 : flock(mine, LOCK_EX) == 0, "lock");
    tell(pid ? gate[1] : back[1]);
    until(pid ? back[0] : gate[0]);
    blocks(how ? "fcntl" : "flock");
    if (pid) ask(getpid(), 2);
    how ? fcntl(theirs, F_OFD_SETLKW, &all) : flock(theirs, LOCK_EX);
}

static void flock_cycle(void) { lock_cycle(0); }
static void ofd_cycle(void) { lock_cycle(1); }

static void posix_lock(void) {
    int fd = file(), gate[2];
    struct flock all = {.l_type = F_WRLCK};
    piped(gate);
    if (child() == 0) {
        fcntl(fd, F_SETLK, &all);
        tell(gate[1]);
        blocks("pause");
        idle();
    }
    until(gate[0]);
    blocks("fcntl");
    ask(getpid(), 2);
    fcntl(fd, F_SETLKW, &all);
}

static void sysv_semaphore(void) {
    int set = granted(semget(IPC_PRIVATE, 1, 0600), "semget"), gate[2];
    struct sembuf up = {.sem_op = 1}, down = {.sem_op = -1};
    piped(gate);
    say("semaphores %d\n", set);
    semop(set, &up, 1);
    if (child() == 0) {
        semop(set, &down, 1);
        tell(gate[1]);
        blocks("pause");
        idle();
    }
    until(gate[0]);
    blocks("semop");
    ask(getpid(), 2);
    semop(set, &down, 1);
}

static void sysv_queue(void) {
    int queue = granted(msgget(IPC_PRIVATE, 0600), "msgget");
    struct { long type; char text[1]; } message;
    say("queue %d\n", queue);
    blocks("msgrcv");
    ask(getpid(), 1);
    msgrcv(queue, &message, 1, 0, 0);
}

static void posix_queue(void) {
    char name[64];
    snprintf(name, sizeof name, "/forklore-%d", getpid());
    mqd_t queue = granted(mq_open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600, NULL), "mq_open");
    mq_unlink(name);
    static char message[1 << 16];
    blocks("mq_timedreceive");
    ask(getpid(), 1);
    mq_receive(queue, message, sizeof message, NULL);
}

// As script(1) and CI runners have it: the command has ended, what it left behind has the terminal.
static void terminal_held(void) {
    int master, slave, gate[2];
    must(openpty(&master, &slave, NULL, NULL, NULL) == 0, "openpty");
    fcntl(master, F_SETFD, FD_CLOEXEC);
    piped(gate);
    pid_t pid = child();
    if (pid == 0) {
        close(master);
        if (fork() == 0) {
            say("kill %d\n", getpid());
            tell(gate[1]);
            blocks("pause");
            idle();
        }
        _exit(0);
    }
    close(slave);
    waitpid(pid, NULL, 0);
    until(gate[0]);
    ask(getpid(), 2);
    reads(master);
}

static void background_read(void) {
    int master, slave, gate[2];
    must(openpty(&master, &slave, NULL, NULL, NULL) == 0, "openpty");
    piped(gate);
    pid_t shell = child();
    if (shell == 0) {
        setsid();
        must(ioctl(slave, TIOCSCTTY, 0) == 0, "TIOCSCTTY");
        pid_t job = fork();
        if (job == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            setpgid(0, 0);
            tell(gate[1]);
            must(read(slave, &byte, 1) >= 0, "read");
            _exit(0);
        }
        int status;
        waitpid(job, &status, WUNTRACED);
        say("wait %d stopped\n", job);
        blocks("wait4");
        ask(getpid(), 2);
        waitpid(job, &status, 0);
    }
    waitpid(shell, NULL, 0);
}

static void prompt(void) {
    int master, slave;
    must(openpty(&master, &slave, NULL, NULL, NULL) == 0, "openpty");
    ask(getpid(), 1);
    reads(slave);
}

static void waits_for_signal(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int number;
    blocks("rt_sigtimedwait");
    ask(getpid(), 1);
    sigwait(&set, &number);
}

static void sleeps_long(void) {
    blocks("clock_nanosleep");
    ask(getpid(), 1);
    sleep(10000);
}

static void spins(void) {
    ask(getpid(), 0);
    for (;;) __asm__ volatile("");
}

int main(int argc, char **argv) {
    static const struct scenario all[] = {
        {"pipe_self", pipe_self}, {"pipe_two_ends", pipe_two_ends}, {"pipe_one_generation", pipe_one_generation},
        {"pipe_three_generations", pipe_three_generations}, {"pipes_full", pipes_full},
        {"wait_for_reader", wait_for_reader}, {"fifo_open", fifo_open}, {"socket_self", socket_self},
        {"socket_both_read", socket_both_read}, {"tcp_both_read", tcp_both_read}, {"server", server},
        {"poll_self", poll_self}, {"epoll_held", epoll_held}, {"select_held", select_held},
        {"event_counter", event_counter}, {"pidfd", pidfd}, {"flock_cycle", flock_cycle}, {"ofd_cycle", ofd_cycle},
        {"posix_lock", posix_lock}, {"sysv_semaphore", sysv_semaphore}, {"sysv_queue", sysv_queue},
        {"posix_queue", posix_queue}, {"terminal_held", terminal_held}, {"background_read", background_read},
        {"prompt", prompt}, {"waits_for_signal", waits_for_signal}, {"sleeps_long", sleeps_long}, {"spins", spins},
        {NULL, NULL}};
    return chosen(all, argc, argv);
}
