// Threads that wait for locks which nobody will unlock.
#include "hangs.h"

static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER, second = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t table = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t meeting;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t items;
static pthread_t others[3];
static int gate[2];

static pthread_t start(void *(*routine)(void *), void *argument) {
    pthread_t thread;
    must(pthread_create(&thread, NULL, routine, argument) == 0, "pthread_create");
    return thread;
}

static void of_kind(int type, int robust, int protocol) {
    pthread_mutexattr_t attribute;
    pthread_mutexattr_init(&attribute);
    pthread_mutexattr_settype(&attribute, type);
    pthread_mutexattr_setrobust(&attribute, robust);
    pthread_mutexattr_setprotocol(&attribute, protocol);
    must(pthread_mutex_init(&first, &attribute) == 0, "pthread_mutex_init");
    must(pthread_mutex_init(&second, &attribute) == 0, "pthread_mutex_init");
}

static void relock(void) {
    pthread_mutex_lock(&first);
    blocks("futex");
    ask(getpid(), 1);
    pthread_mutex_lock(&first);
}

static void *second_then_first(void *unused) {
    pthread_mutex_lock(&second);
    tell(gate[1]);
    blocks("futex");
    pthread_mutex_lock(&first);
    return unused;
}

static void abba(void) {
    piped(gate);
    pthread_mutex_lock(&first);
    start(second_then_first, NULL);
    until(gate[0]);
    blocks("futex");
    ask(getpid(), 2);
    pthread_mutex_lock(&second);
}

static void abba_recursive(void) {
    of_kind(PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    pthread_mutex_lock(&first);
    abba();
}

static void abba_errorcheck(void) {
    of_kind(PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    abba();
}

static void abba_adaptive(void) {
#ifdef PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP
    of_kind(PTHREAD_MUTEX_ADAPTIVE_NP, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
#endif
    abba();
}

static void abba_robust(void) {
    of_kind(PTHREAD_MUTEX_DEFAULT, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    abba();
}

static void *locks_first(void *unused) {
    blocks("futex");
    pthread_mutex_lock(&first);
    return unused;
}

// The kernel finds cycles of such mutexes itself; this one has a join in it, of which it knows nothing.
static void inherit_join(void) {
    of_kind(PTHREAD_MUTEX_DEFAULT, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
    pthread_mutex_lock(&first);
    pthread_t other = start(locks_first, NULL);
    blocks("futex");
    ask(getpid(), 2);
    pthread_join(other, NULL);
}

static void *locks_and_ends(void *unused) {
    pthread_mutex_lock(&first);
    return unused;
}

static void owner_ended(void) {
    pthread_join(start(locks_and_ends, NULL), NULL);
    blocks("futex");
    ask(getpid(), 1);
    pthread_mutex_lock(&first);
}

static void *writes_table(void *unused) {
    pthread_rwlock_wrlock(&table);
    tell(gate[1]);
    blocks("futex");
    pthread_mutex_lock(&first);
    return unused;
}

static void rwlock_writer(void) {
    piped(gate);
    pthread_mutex_lock(&first);
    start(writes_table, NULL);
    until(gate[0]);
    blocks("futex");
    ask(getpid(), 2);
    pthread_rwlock_rdlock(&table);
}

static void *joins(void *which) {
    until(gate[0]);
    blocks("futex");
    pthread_join(others[(long)which], NULL);
    return NULL;
}

// glibc refuses two threads that join each other, and does not look further.
static void join_ring(void) {
    piped(gate);
    for (long number = 0; number < 3; number++) others[number] = start(joins, (void *)((number + 1) % 3));
    for (int number = 0; number < 3; number++) tell(gate[1]);
    blocks("futex");
    ask(getpid(), 4);
    pthread_join(others[0], NULL);
}

static void semaphore(void) {
    sem_init(&items, 0, 0);
    blocks("futex");
    ask(getpid(), 1);
    sem_wait(&items);
}

static void condition(void) {
    pthread_mutex_lock(&first);
    blocks("futex");
    ask(getpid(), 1);
    pthread_cond_wait(&changed, &first);
}

static void *waits_changed(void *unused) {
    pthread_mutex_lock(&first);
    blocks("futex");
    pthread_cond_wait(&changed, &first);
    return unused;
}

// Each waits for the other to signal.
static void lost_wakeup(void) {
    start(waits_changed, NULL);
    pthread_mutex_lock(&second);
    static pthread_cond_t other = PTHREAD_COND_INITIALIZER;
    blocks("futex");
    ask(getpid(), 2);
    pthread_cond_wait(&other, &second);
}

static void *meets(void *unused) {
    blocks("futex");
    pthread_barrier_wait(&meeting);
    return unused;
}

static void barrier(void) {
    pthread_barrier_init(&meeting, NULL, 3);
    start(meets, NULL);
    blocks("futex");
    ask(getpid(), 2);
    pthread_barrier_wait(&meeting);
}

static void initialise(void) {
    blocks("futex");
    ask(getpid(), 1);
    pthread_once(&once, initialise);
}

static void once_recursive(void) { pthread_once(&once, initialise); }

static void *takes_stdout(void *unused) {
    flockfile(stderr);
    return unused;
}

static void stdio(void) {
    pthread_join(start(takes_stdout, NULL), NULL);
    blocks("futex");
    ask(getpid(), 1);
    fputs("never", stderr);
}

static void *sleeps(void *unused) {
    blocks("pause");
    say("wait %d ended\n", getpid());
    idle();
    return unused;
}

static void leader_ended(void) {
    start(sleeps, NULL);
    ask(getpid(), 2);
    pthread_exit(NULL);
}

int main(int argc, char **argv) {
    static const struct scenario all[] = {
        {"relock", relock}, {"abba", abba}, {"abba_recursive", abba_recursive}, {"abba_errorcheck", abba_errorcheck},
        {"abba_adaptive", abba_adaptive}, {"abba_robust", abba_robust}, {"inherit_join", inherit_join},
        {"owner_ended", owner_ended}, {"rwlock_writer", rwlock_writer}, {"join_ring", join_ring},
        {"semaphore", semaphore}, {"condition", condition}, {"lost_wakeup", lost_wakeup}, {"barrier", barrier},
        {"once_recursive", once_recursive}, {"stdio", stdio}, {"leader_ended", leader_ended}, {NULL, NULL}};
    return chosen(all, argc, argv);
}
