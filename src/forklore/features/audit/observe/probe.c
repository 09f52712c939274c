/* Calls one function of a C library, once, and says what it sees through calls that a tracer reads.

       probe FUNCTION single|multi PROGRAM [OFFSET [FILTER]]

   OFFSET is that of the cached tid from pthread_self, where the library has none before the call. FILTER is a seccomp
   filter, each byte as two letters from a to p, which is installed for all threads right before the call.

   With -DSTATIC it is linked with a static library instead, and started by that library's crt1.o. Its references are
   weak: a function that the library lacks has the address 0.

   It is built without any C library's headers or symbols, as an object with an entry of its own, so that one build
   runs on every C library of its arch: `ld.so --library-path DIR probe ...`. What it calls it finds by dlsym, which
   gives a library's default version of a function, as a program that is linked today gets it.

   Everything that it says is a call of prctl(SAY, what, ...): the kernel refuses it and changes nothing, it works in a
   child that has no descriptors left, it takes no lock, and a tracer sees it in order with the library's own calls. */

#define SAY 0x666b6c72

enum {
    SAY_BEGIN = 1,   /* pthread_self, offset of the cached tid from it or -1 */
    SAY_RETURN = 2,  /* the function's result, errno */
    SAY_USER = 3,    /* user code begins */
    SAY_PREPARE = 4, /* atfork handlers */
    SAY_PARENT = 5,
    SAY_CHILD = 6,
    SAY_MISSING = 7, /* the library has no such function */
    SAY_CANNOT = 8,  /* it could not be called: the step, errno */
    SAY_STACK = 9,   /* the caller gives a stack: lowest address, size */
    SAY_SELF = 10,   /* pthread_self */
    SAY_IDS = 11,    /* getpid, cached tid or -1, gettid or -1 */
};

#if defined(__x86_64__)
enum { NR_exit = 60, NR_wait4 = 61, NR_prctl = 157, NR_gettid = 186, NR_futex = 202, NR_exit_group = 231,
       NR_openat = 257, NR_rt_sigaction = 13, NR_rt_sigprocmask = 14, NR_seccomp = 317 };
#elif defined(__i386__)
enum { NR_exit = 1, NR_wait4 = 114, NR_prctl = 172, NR_gettid = 224, NR_futex = 240, NR_exit_group = 252,
       NR_openat = 295, NR_rt_sigaction = 174, NR_rt_sigprocmask = 175, NR_seccomp = 354 };
#elif defined(__aarch64__) || (defined(__riscv) && __riscv_xlen == 64)
enum { NR_exit = 93, NR_wait4 = 260, NR_prctl = 167, NR_gettid = 178, NR_futex = 98, NR_exit_group = 94,
       NR_openat = 56, NR_rt_sigaction = 134, NR_rt_sigprocmask = 135, NR_seccomp = 277 };
#else
#error "the probe knows x86_64, i386, aarch64 and riscv64"
#endif

enum { NR_close_range = 436 }; /* the same everywhere */

static long sys(long nr, long a, long b, long c, long d, long e)
{
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
#elif defined(__i386__)
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = nr;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
#else
    register long a7 __asm__("a7") = nr;
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4) : "memory");
    return a0;
#endif
}

#ifndef STATIC

/* The kernel starts a program here; __libc_start_main takes the same arguments in every C library. */
#if defined(__x86_64__)
__asm__(".text\n.globl probe_start\nprobe_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n mov %rdx, %rsi\n"
        " and $-16, %rsp\n call probe_entry\n hlt\n");
#elif defined(__i386__)
__asm__(".text\n.globl probe_start\nprobe_start:\n xor %ebp, %ebp\n mov %esp, %eax\n and $-16, %esp\n sub $8, %esp\n"
        " push %edx\n push %eax\n call probe_entry\n hlt\n");
#elif defined(__aarch64__)
__asm__(".text\n.globl probe_start\nprobe_start:\n mov x29, #0\n mov x30, #0\n mov x1, x0\n mov x0, sp\n"
        " and sp, x0, #-16\n bl probe_entry\n");
#else
__asm__(".text\n.globl probe_start\nprobe_start:\n mv a1, a0\n mv a0, sp\n andi sp, sp, -16\n call probe_entry\n");
#endif

typedef int main_t(int, char **, char **);
extern int __libc_start_main(main_t *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
extern void *dlsym(void *, const char *);
extern void *dlopen(const char *, int);

static main_t run;

/* i386's C library wants a stack that is aligned to 16 bytes, which gcc gives every call from here on. */
__attribute__((visibility("hidden"), used)) void probe_entry(long *sp, void (*rtld_fini)(void))
{
    __libc_start_main(run, (int)sp[0], (char **)(sp + 1), 0, 0, rtld_fini, sp);
}

#endif

/* What the C libraries agree on, or what is larger than any of theirs. */
typedef union { char bytes[4096]; long align[2]; void *pointer; } opaque;
typedef struct { unsigned long bits[128 / sizeof(long)]; } sigset;
typedef union { int number; void *pointer; } sigval;
struct sigevent {
    sigval value;
    int signal, notify;
    void (*function)(sigval);
    void *attributes;
    char rest[64];
};
struct aio { int fd, opcode, priority; void *buffer; unsigned long size; struct sigevent event; char rest[512]; };
struct gai { const char *name, *service; const void *request; void *result; int value; int reserved[5]; };
struct timespec { long seconds, nanoseconds; };
struct itimerspec { struct timespec interval, value; };

enum { SIGINT = 2, SIGUSR1 = 10, SIGPIPE = 13, SIGCHLD = 17, CLONE_VM = 0x100 };
enum { SPAWN_RESETIDS = 1, SPAWN_SETPGROUP = 2, SPAWN_SETSIGDEF = 4, SPAWN_SETSIGMASK = 8, SPAWN_SETSID = 0x80,
       SPAWN_SETCGROUP = 0x100 };
enum { WALL = 0x40000000, STACK = 256 * 1024 };

typedef long any();

static const char *program;
static char **environment;
static long self, tid_offset = -1;
static any *libc_getpid, *libc_gettid, *libc_self, *libc_errno;
static int done;
/* Away from the library's data, which in a static program is beside the probe's. */
static struct { char below[8192], stack[STACK], above[8192]; } room __attribute__((aligned(4096)));
static char *const stack = room.stack;
static unsigned char filter[8 * 512] __attribute__((aligned(8)));
static unsigned long filter_bytes;
static opaque attributes, actions, object;

static long say(long what, long a, long b, long c)
{
    return sys(NR_prctl, SAY, what, a, b, c);
}

static void quit(int status)
{
    for (;;)
        sys(NR_exit_group, status, 0, 0, 0, 0);
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static long number(const char *digits)
{
    long value = 0;
    while (*digits >= '0' && *digits <= '9')
        value = 10 * value + (*digits++ - '0');
    return value;
}

#ifdef STATIC

#define FUNCTIONS(F) \
    F(fork) F(_Fork) F(vfork) F(clone) \
    F(posix_spawn) F(posix_spawnp) F(pidfd_spawn) F(posix_spawnattr_init) F(posix_spawnattr_setflags) \
    F(posix_spawnattr_setsigdefault) F(posix_spawnattr_setsigmask) F(posix_spawnattr_setcgroup_np) \
    F(posix_spawn_file_actions_init) F(posix_spawn_file_actions_addopen) F(posix_spawn_file_actions_adddup2) \
    F(posix_spawn_file_actions_addclose) F(posix_spawn_file_actions_addchdir_np) F(posix_spawnattr_setschedpolicy) \
    F(posix_spawnattr_setschedparam) F(pthread_attr_setinheritsched) F(aio_write) \
    F(system) F(popen) F(pclose) F(wordexp) F(forkpty) F(daemon) \
    F(pthread_create) F(pthread_join) F(pthread_self) F(pthread_atfork) F(__register_atfork) F(pthread_attr_init) \
    F(pthread_attr_setdetachstate) F(pthread_attr_setstack) F(pthread_attr_setaffinity_np) F(sched_getaffinity) \
    F(thrd_create) F(timer_create) F(timer_settime) F(mq_notify) F(mq_open) F(mq_send) F(mq_unlink) \
    F(getaddrinfo_a) F(aio_read) F(aio_suspend) F(__errno_location) F(getpid) F(gettid)

/* Under names of their own: some are the compiler's builtins, with other types. */
#define DECLARE(name) extern any libc_function_##name __asm__(#name) __attribute__((weak));
#define ENTRY(name) { #name, libc_function_##name },
FUNCTIONS(DECLARE)

/* crtbegin.o's, by which the library knows whose atfork handlers are whose. */
__attribute__((visibility("hidden"))) void *__dso_handle;

static any *loaded(const char *name)
{
    static const struct { const char *name; any *address; } functions[] = { FUNCTIONS(ENTRY) };
    for (unsigned long i = 0; i < sizeof functions / sizeof *functions; i++)
        if (same(functions[i].name, name))
            return functions[i].address;
    say(SAY_CANNOT, 2, 38 /* ENOSYS: the list above lacks it */, 0);
    quit(4);
    return 0;
}

static any *found(const char *name)
{
    return loaded(name);
}

#else

static any *loaded(const char *name)
{
    return (any *)dlsym(0, name);
}

static any *found(const char *name)
{
    /* Where the parts of glibc lay before they were joined (2.34). */
    static const char *const parts[] = { "libpthread.so.0", "librt.so.1", "libutil.so.1", "libanl.so.1", 0 };
    any *address = loaded(name);
    for (int i = 0; !address && parts[i]; i++) {
        void *part = dlopen(parts[i], 2 /* RTLD_NOW */);
        address = part ? (any *)dlsym(part, name) : 0;
    }
    return address;
}

#endif

static any *wanted(const char *name)
{
    any *address = found(name);
    if (!address) {
        say(SAY_MISSING, 0, 0, 0);
        quit(3);
    }
    return address;
}

static long error(void)
{
    return *(int *)libc_errno();
}

static void cannot(long step, long why)
{
    say(SAY_CANNOT, step, why, 0);
    quit(4);
}

static long cached_tid(void)
{
    long thread = libc_self ? libc_self() : 0;
    return tid_offset < 0 || !thread ? -1 : *(int *)(thread + tid_offset);
}

/* What the library takes this task for, each number as it gives it. */
static void user_code(void)
{
    say(SAY_USER, 0, 0, 0);
    say(SAY_IDS, (int)libc_getpid(), cached_tid(), libc_gettid ? (int)libc_gettid() : -1);
    say(SAY_SELF, libc_self ? libc_self() : 0, 0, 0);
}

static void wake(void)
{
    __atomic_store_n(&done, 1, __ATOMIC_SEQ_CST);
    sys(NR_futex, (long)&done, 1 /* FUTEX_WAKE */, 0x7fffffff, 0, 0);
}

static void wait_done(void)
{
    while (!__atomic_load_n(&done, __ATOMIC_SEQ_CST))
        sys(NR_futex, (long)&done, 0 /* FUTEX_WAIT */, 0, 0, 0);
}

/* The main thread's struct pthread holds its tid, in an int that lies behind the header which C libraries share with
   their dynamic linkers: looked for where every version known has it. */
static void find_tid(void)
{
    long tid = sys(NR_gettid, 0, 0, 0, 0, 0);
    for (long offset = 4 * sizeof(long); self && offset < 1024; offset += 4)
        if (*(int *)(self + offset) == tid) {
            tid_offset = offset;
            return;
        }
}

/* What a program inherits changes what a library does: signals that are ignored or blocked, descriptors. */
static void start_clean(void)
{
    static const unsigned long nothing[8];
    unsigned long old[8];
    for (int signal = 1; signal < 32; signal++)
        if (!sys(NR_rt_sigaction, signal, 0, (long)old, 8, 0) && old[0] == 1 /* SIG_IGN */)
            sys(NR_rt_sigaction, signal, (long)nothing, 0, 8, 0);
    sys(NR_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)nothing, 0, 8, 0);
    sys(NR_close_range, 3, ~0u, 0, 0, 0);
}

/* From here on this thread and all others have only what the filter lets pass. */
static void confine(void)
{
    struct { unsigned short length; void *filter; } all = { filter_bytes / 8, filter };
    if (!filter_bytes)
        return;
    filter_bytes = 0;
    sys(NR_prctl, 38 /* PR_SET_NO_NEW_PRIVS */, 1, 0, 0, 0);
    long failed = sys(NR_seccomp, 1 /* SECCOMP_SET_MODE_FILTER */, 1 /* TSYNC */, (long)&all, 0, 0);
    if (failed)
        cannot(3, -failed);
}

static void begin(void)
{
    confine();
    say(SAY_BEGIN, self, tid_offset, 0);
}

static void returned(long result)
{
    say(SAY_RETURN, result, error(), 0);
}

static void reap(long pid)
{
    if (pid > 0)
        sys(NR_wait4, pid, 0, WALL, 0, 0);
}

static void prepare(void) { say(SAY_PREPARE, 0, 0, 0); }
static void parent(void) { say(SAY_PARENT, 0, 0, 0); }
static void child(void) { say(SAY_CHILD, 0, 0, 0); }

/* Processes */

static void call_fork(const char *name)
{
    any *function = wanted(name);
    begin();
    volatile long pid = (int)function();
    if (pid == 0) {
        user_code();
        quit(0);
    }
    returned(pid);
    reap(pid);
}

static int in_clone(void *unused)
{
    (void)unused;
    user_code();
    return 0;
}

static void call_clone(long flags)
{
    any *function = wanted("clone");
    say(SAY_STACK, (long)stack, STACK, 0);
    begin();
    long pid = (int)function(in_clone, stack + STACK, flags | SIGCHLD, 0, 0, 0, 0);
    returned(pid);
    reap(pid);
}

static void add(sigset *set, int signal)
{
    set->bits[0] |= 1ul << (signal - 1);
}

static void call_spawn(const char *kind)
{
    static char *argv[] = { "program", 0 };
    static sigset some;
    int pid = -1, pidfd = same(kind, "pidfd_spawn");
    any *function = wanted(pidfd ? "pidfd_spawn" : same(kind, "posix_spawnp") ? "posix_spawnp" : "posix_spawn");
    any *flags = wanted("posix_spawnattr_setflags");
    const char *path = program;
    int flag = 0, with_actions = 0;
    if (!same(kind, "posix_spawn/SETCGROUP")) /* which opens a directory */
        confine();
    wanted("posix_spawnattr_init")(&attributes);
    wanted("posix_spawn_file_actions_init")(&actions);
    add(&some, SIGUSR1);
    add(&some, SIGPIPE);
    if (same(kind, "posix_spawn/SETSIGDEF")) {
        flag = SPAWN_SETSIGDEF;
        wanted("posix_spawnattr_setsigdefault")(&attributes, &some);
    } else if (same(kind, "posix_spawn/SETSIGMASK")) {
        flag = SPAWN_SETSIGMASK;
        wanted("posix_spawnattr_setsigmask")(&attributes, &some);
    } else if (same(kind, "posix_spawn/SETPGROUP"))
        flag = SPAWN_SETPGROUP;
    else if (same(kind, "posix_spawn/SETSID"))
        flag = SPAWN_SETSID;
    else if (same(kind, "posix_spawn/RESETIDS"))
        flag = SPAWN_RESETIDS;
    else if (same(kind, "posix_spawn/actions")) {
        with_actions = 1;
        wanted("posix_spawn_file_actions_addopen")(&actions, 5, "/dev/null", 0, 0);
        wanted("posix_spawn_file_actions_adddup2")(&actions, 5, 6);
        wanted("posix_spawn_file_actions_addclose")(&actions, 5);
    } else if (same(kind, "posix_spawn/chdir")) {
        with_actions = 1;
        wanted("posix_spawn_file_actions_addopen")(&actions, 5, "/", 0, 0);
        wanted("posix_spawn_file_actions_addchdir_np")(&actions, "/");
    } else if (same(kind, "posix_spawn/SETSCHEDULER") || same(kind, "posix_spawn/SETSCHEDPARAM")) {
        static int priority;
        flag = same(kind, "posix_spawn/SETSCHEDULER") ? 0x20 : 0x10;
        wanted("posix_spawnattr_setschedpolicy")(&attributes, 0);
        wanted("posix_spawnattr_setschedparam")(&attributes, &priority);
    } else if (same(kind, "posix_spawn/ENOENT"))
        path = "/forklore-no-such-program";
    else if (same(kind, "posix_spawn/SETCGROUP")) {
        long fd = sys(NR_openat, -100, (long)"/sys/fs/cgroup", 0, 0, 0);
        flag = SPAWN_SETCGROUP;
        wanted("posix_spawnattr_setcgroup_np")(&attributes, (int)fd);
    }
    flags(&attributes, flag);
    begin();
    long result = (int)function(&pid, path, with_actions ? &actions : 0, &attributes, argv, environment);
    returned(result);
    if (!result)
        sys(NR_wait4, -1, 0, WALL, 0, 0);
}

static void call_system(void)
{
    any *function = wanted("system");
    begin();
    returned((int)function("exit 7"));
}

static void call_popen(void)
{
    any *function = wanted("popen"), *close = wanted("pclose");
    begin();
    void *stream = (void *)function("exit 7", "r");
    returned(stream != 0);
    if (stream)
        close(stream);
}

static void call_wordexp(void)
{
    any *function = wanted("wordexp");
    begin();
    returned((int)function("$(exit 7)", &object, 0));
}

static void call_forkpty(void)
{
    any *function = wanted("forkpty");
    int master = -1;
    begin();
    long pid = (int)function(&master, 0, 0, 0);
    if (pid == 0) {
        user_code();
        quit(0);
    }
    returned(pid);
    reap(pid);
}

static void call_daemon(int keep)
{
    any *function = wanted("daemon");
    begin();
    long result = (int)function(keep, keep);
    if (result == 0)
        user_code();
    else
        returned(result);
}

/* Threads */

static void *in_thread(void *unused)
{
    (void)unused;
    user_code();
    wake();
    return 0;
}

static int in_c11_thread(void *unused)
{
    in_thread(unused);
    return 0;
}

static void *idle(void *unused)
{
    static int never;
    (void)unused;
    wake();
    for (;;)
        sys(NR_futex, (long)&never, 0, 0, 0, 0);
    return 0;
}

static void call_thread(const char *kind)
{
    any *function = wanted("pthread_create");
    long thread = 0;
    int detached = same(kind, "pthread_create/detached");
    confine();
    wanted("pthread_attr_init")(&attributes);
    if (same(kind, "pthread_create/scheduling"))
        wanted("pthread_attr_setinheritsched")(&attributes, 1 /* PTHREAD_EXPLICIT_SCHED */);
    if (detached)
        wanted("pthread_attr_setdetachstate")(&attributes, 1);
    else if (same(kind, "pthread_create/stack")) {
        say(SAY_STACK, (long)stack, STACK, 0);
        wanted("pthread_attr_setstack")(&attributes, stack, (unsigned long)STACK);
    } else if (same(kind, "pthread_create/affinity")) {
        static unsigned long cpus[16];
        wanted("sched_getaffinity")(0, sizeof cpus, cpus);
        wanted("pthread_attr_setaffinity_np")(&attributes, sizeof cpus, cpus);
    }
    any *join = wanted("pthread_join");
    begin();
    long result = (int)function(&thread, &attributes, in_thread, 0);
    returned(result);
    if (!result) {
        wait_done();
        if (!detached)
            join(thread, 0);
    }
}

static void call_thrd(void)
{
    any *function = wanted("thrd_create");
    long thread = 0;
    begin();
    long result = (int)function(&thread, in_c11_thread, 0);
    returned(result);
    if (!result)
        wait_done();
}

static void notified(sigval unused)
{
    (void)unused;
    user_code();
    wake();
}

static struct sigevent by_thread(void)
{
    struct sigevent event = { .notify = 2 /* SIGEV_THREAD */, .function = notified };
    return event;
}

static void call_timer(void)
{
    any *function = wanted("timer_create"), *set = wanted("timer_settime");
    struct sigevent event = by_thread();
    struct itimerspec soon = { .value = { 0, 1000000 } };
    void *timer = 0;
    begin();
    long result = (int)function(1 /* CLOCK_MONOTONIC */, &event, &timer);
    returned(result);
    if (!result && !set(timer, 0, &soon, 0))
        wait_done();
}

static void call_mq(void)
{
    static const char name[] = "/forklore-audit-probe";
    any *function = wanted("mq_notify"), *open = wanted("mq_open"), *send = wanted("mq_send");
    struct sigevent event = by_thread();
    int queue = (int)open(name, 02 | 0100 /* O_RDWR|O_CREAT */, 0600, 0);
    if (queue < 0)
        cannot(1, error());
    wanted("mq_unlink")(name);
    begin();
    long result = (int)function(queue, &event);
    returned(result);
    if (!result && !send(queue, "x", 1ul, 0))
        wait_done();
}

static void call_getaddrinfo_a(void)
{
    /* struct addrinfo: AI_NUMERICHOST, so that nothing but the text is looked at */
    static const struct { int flags, rest[16]; } numeric = { .flags = 4 };
    static struct gai request = { .name = "127.0.0.1", .request = &numeric };
    static struct gai *list[] = { &request };
    any *function = wanted("getaddrinfo_a");
    begin();
    returned((int)function(0 /* GAI_WAIT */, list, 1, 0));
}

static void call_aio(const char *name)
{
    static struct aio request;
    static char byte;
    const struct aio *list[] = { &request };
    any *function = wanted(name), *suspend = wanted("aio_suspend");
    long fd = sys(NR_openat, -100, (long)"/dev/zero", 2 /* O_RDWR */, 0, 0);
    if (fd < 0)
        cannot(1, -fd);
    request.fd = (int)fd;
    request.buffer = &byte;
    request.size = 1;
    request.event.notify = 1; /* SIGEV_NONE */
    begin();
    long result = (int)function(&request);
    returned(result);
    if (!result)
        suspend(list, 1, 0);
}

static void call(const char *name)
{
    if (same(name, "fork") || same(name, "_Fork") || same(name, "vfork"))
        call_fork(name);
    else if (same(name, "clone"))
        call_clone(0);
    else if (same(name, "clone/VM"))
        call_clone(CLONE_VM);
    else if (same(name, "system"))
        call_system();
    else if (same(name, "popen"))
        call_popen();
    else if (same(name, "wordexp"))
        call_wordexp();
    else if (same(name, "forkpty"))
        call_forkpty();
    else if (same(name, "daemon"))
        call_daemon(1);
    else if (same(name, "daemon/null"))
        call_daemon(0);
    else if (same(name, "thrd_create"))
        call_thrd();
    else if (same(name, "timer_create"))
        call_timer();
    else if (same(name, "mq_notify"))
        call_mq();
    else if (same(name, "getaddrinfo_a"))
        call_getaddrinfo_a();
    else if (same(name, "aio_read") || same(name, "aio_write"))
        call_aio(name);
    else if (name[0] == 'p' && name[1] == 't')
        call_thread(name);
    else
        call_spawn(name);
}

static int run(int count, char **words, char **env)
{
    if (count < 4)
        quit(2);
    start_clean();
    program = words[3];
    environment = env;
    libc_errno = wanted("__errno_location");
    libc_getpid = wanted("getpid");
    libc_gettid = loaded("gettid");
    libc_self = loaded("pthread_self");
    self = libc_self ? libc_self() : 0;
    find_tid();
    if (tid_offset < 0 && count > 4)
        tid_offset = number(words[4]);
    if (same(words[2], "multi")) {
        long thread;
        long result = (int)wanted("pthread_create")(&thread, 0, idle, 0);
        if (result)
            cannot(0, result);
        wait_done();
        done = 0;
    }
    for (const char *hex = count > 5 ? words[5] : ""; *hex && filter_bytes < sizeof filter; hex += 2)
        filter[filter_bytes++] = (unsigned char)((hex[0] - 'a') << 4 | (hex[1] - 'a'));
    any *atfork = loaded("__register_atfork");
    if (atfork)
        atfork(prepare, parent, child, 0);
    else if ((atfork = loaded("pthread_atfork")))
        atfork(prepare, parent, child);
    call(words[1]);
    quit(0);
    return 0;
}

#ifdef STATIC
int main(int count, char **words, char **env)
{
    return run(count, words, env);
}
#endif
