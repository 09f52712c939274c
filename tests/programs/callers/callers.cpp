// Makes children in closures that a compiler inlines into functions of the C++ library.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

static volatile int made;

// Each with another number, or the compiler makes one function of several.
static inline __attribute__((always_inline)) void count(int number) { made += number; }

static void reap(pid_t child)
{
	if (child == 0)
		_exit(0);
	if (child < 0 || waitpid(child, nullptr, 0) != child)
		exit(1);
}

static inline void helper()
{
	reap(fork()); count(1);
}

static void work() { reap(fork()); count(2); }

struct Crew {
	void pull() { reap(fork()); count(3); }
};

template <typename Call> static void twice(Call call)
{
	call();
	call();
}

int main()
{
	std::thread([] { reap(fork()); count(4); }).join();
	std::thread([] { helper(); }).join();
	std::thread(work).join();
	Crew crew;
	std::thread(&Crew::pull, &crew).join();
	std::thread([] { std::thread([] { reap(fork()); count(5); }).join(); }).join();
	std::vector<int> numbers{2, 1};
	std::for_each(numbers.begin(), numbers.end(), [](int) { reap(fork()); count(6); });
	std::sort(numbers.begin(), numbers.end(), [](int one, int other) { reap(fork()); count(7); return one < other; });
	std::function<void()> held = [] { reap(fork()); count(8); };
	held();
	twice([] { reap(fork()); count(9); });
	std::vector<std::thread> threads;
	threads.emplace_back([] { reap(fork()); count(10); });
	threads.back().join();
	int answer = std::async(std::launch::async, [] { reap(fork()); count(11); return 42; }).get();
	std::printf("ok %d\n", answer);
	return 0;
}
