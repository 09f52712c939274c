// Hangs as C++ programs have them.
#include "hangs.h"
#include <condition_variable>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <thread>

static std::mutex accounts, journal;
static std::recursive_mutex nested;
static std::shared_mutex table;
static int gate[2];

static void abba() {
    piped(gate);
    accounts.lock();
    std::thread other([] {
        std::lock_guard<std::mutex> held(journal);
        tell(gate[1]);
        blocks("futex");
        std::lock_guard<std::mutex> wanted(accounts);
    });
    until(gate[0]);
    blocks("futex");
    ask(getpid(), 2);
    journal.lock();
}

// The thread that is joined waits for what the joining one has locked.
static void join_under_lock() {
    std::lock_guard<std::recursive_mutex> held(nested);
    std::thread other([] {
        blocks("futex");
        std::lock_guard<std::recursive_mutex> wanted(nested);
    });
    blocks("futex");
    ask(getpid(), 2);
    other.join();
}

static void broken_promise() {
    std::promise<int> promise;
    std::future<int> result = promise.get_future();
    blocks("futex");
    ask(getpid(), 1);
    result.get();
}

static void shared_then_exclusive() {
    table.lock_shared();
    blocks("futex");
    ask(getpid(), 1);
    table.lock();
}

static void no_notify() {
    std::condition_variable ready;
    std::unique_lock<std::mutex> held(accounts);
    blocks("futex");
    ask(getpid(), 1);
    ready.wait(held);
}

int main(int argc, char **argv) {
    static const struct scenario all[] = {
        {"abba", abba}, {"join_under_lock", join_under_lock}, {"broken_promise", broken_promise},
        {"shared_then_exclusive", shared_then_exclusive}, {"no_notify", no_notify}, {nullptr, nullptr}};
    return chosen(all, argc, argv);
}
