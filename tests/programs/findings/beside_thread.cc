// beside_thread fork|joined|spawn: a child that is made beside a std::thread and executes nothing, and what looks like it.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <sched.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

extern char **environ;

class Worker {
public:
	~Worker() { stop(); }
	void stop()
	{
		if (thread_.joinable()) {
			gate_.set_value();
			thread_.join();
		}
	}

private:
	std::promise<void> gate_;
	std::promise<pid_t> tid_;
	std::thread thread_{[this, open = gate_.get_future()]() mutable {
		tid_.set_value(static_cast<pid_t>(syscall(SYS_gettid)));
		open.wait();
	}};

public:
	std::future<pid_t> tid{tid_.get_future()};
};

// A thread is there for a moment after it was joined: the child lives longer than that one, if there is one.
static pid_t forked(pid_t joined)
{
	pid_t child = fork();
	if (child == 0) {
		while (joined != 0 && syscall(SYS_tgkill, getppid(), joined, 0) == 0)
			sched_yield();
		_exit(0);
	}
	return child;
}

static pid_t spawned()
{
	pid_t child = -1;
	char *const words[] = {const_cast<char *>("true"), nullptr};
	return posix_spawn(&child, "/bin/true", nullptr, nullptr, words, environ) == 0 ? child : -1;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		std::fprintf(stderr, "usage: fork|joined|spawn\n");
		return 2;
	}
	Worker worker;
	const bool joined = std::strcmp(argv[1], "joined") == 0;
	const pid_t tid = worker.tid.get();
	if (joined)
		worker.stop();
	pid_t child = std::strcmp(argv[1], "spawn") == 0 ? spawned() : forked(joined ? tid : 0);
	int status = -1;
	if (child == -1 || waitpid(child, &status, 0) != child || status != 0)
		return 1;
	std::printf("ok pid=%d\n", static_cast<int>(getpid()));
	return 0;
}
