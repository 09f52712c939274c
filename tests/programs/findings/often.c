/* often WHAT [N]: does one thing again and again that a rule of `forklore check` finds, or what looks like it and is
 * right.
 */
#include "programs.h"

#include <spawn.h>
#include <time.h>

extern char **environ;

static void pass_time(long ms)
{
	struct timespec span = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&span, NULL);
}

/* Processes that are made at once: all of them live until the last is there. */
static void storm(long count)
{
	struct gate gate = make_gate();
	for (long i = 0; i < count; i++)
		if (must(fork(), "fork") == 0) {
			drop_key(gate);
			wait_at(gate);
			_exit(0);
		}
	drop_key(gate);
	for (long i = 0; i < count; i++)
		must(wait(NULL), "wait");
}

/* As many, made by several processes of which each makes a part. */
static void storm_of_several(long count)
{
	for (int i = 0; i < 4; i++) {
		pid_t part = (pid_t)must(fork(), "fork");
		if (part == 0) {
			storm(count / 4);
			_exit(0);
		}
		expect_exit(part, 0);
	}
}

static struct gate pool;

static void *works(void *waits)
{
	if (waits)
		wait_at(pool);
	return NULL;
}

/* Threads one after the other, or all of them waiting for work. */
static void threads(long count, int in_a_pool)
{
	pthread_t *made = calloc((size_t)count, sizeof *made);
	pthread_attr_t small;
	expect(made != NULL, "memory");
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 * 1024);
	pool = make_gate();
	for (long i = 0; i < count; i++) {
		expect(pthread_create(&made[i], &small, works, in_a_pool ? &pool : NULL) == 0, "a thread");
		if (!in_a_pool)
			pthread_join(made[i], NULL);
	}
	if (in_a_pool)
		pass_time(100);
	drop_key(pool);
	for (long i = 0; in_a_pool && i < count; i++)
		pthread_join(made[i], NULL);
}

static void shells(long count, const char *command)
{
	char line[128];
	for (long i = 0; i < count; i++) {
		snprintf(line, sizeof line, command, i);
		expect(system(line) == 0, "the command succeeds");
	}
}

static void commands(long count, int alike)
{
	for (long i = 0; i < count; i++) {
		char text[24];
		snprintf(text, sizeof text, "%ld", alike ? 0 : i);
		char *const words[] = {"true", text, NULL};
		pid_t child;
		expect(posix_spawn(&child, "/bin/true", NULL, NULL, words, environ) == 0, "posix_spawn");
		expect_exit(child, 0);
	}
}

/* A directory of PATH that is not there, so often, and then the usual ones. */
static void searches(long count, const char *name, int code)
{
	char path[4096] = "";
	for (long i = 0; i < count; i++)
		snprintf(path + strlen(path), sizeof path - strlen(path), "/nowhere/%ld:", i);
	strcat(path, "/usr/bin:/bin");
	must(setenv("PATH", path, 1), "setenv");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		execlp(name, name, (char *)NULL);
		_exit(127);
	}
	expect_exit(child, code);
}

/* A large memory, and children that only execute. */
static void large(long mebibytes, int spawned)
{
	size_t size = (size_t)mebibytes << 20;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(memory != MAP_FAILED, "memory");
	madvise(memory, size, MADV_NOHUGEPAGE);
	for (size_t at = 0; at < size; at += 4096)
		memory[at] = 1;
	pid_t child;
	if (spawned) {
		char *const words[] = {"true", NULL};
		expect(posix_spawn(&child, "/bin/true", NULL, NULL, words, environ) == 0, "posix_spawn");
	} else if ((child = (pid_t)must(fork(), "fork")) == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	expect_exit(child, 0);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		usage("WHAT [N]");
	const char *what = argv[1];
	if (!strcmp(what, "storm"))
		storm(number(argc, argv, 2, 211));
	else if (!strcmp(what, "storm-of-several"))
		storm_of_several(number(argc, argv, 2, 211));
	else if (!strcmp(what, "churn"))
		threads(number(argc, argv, 2, 211), 0);
	else if (!strcmp(what, "pool"))
		threads(number(argc, argv, 2, 211), 1);
	else if (!strcmp(what, "shells"))
		shells(number(argc, argv, 2, 11), "/bin/true %ld");
	else if (!strcmp(what, "shells-with-work"))
		shells(number(argc, argv, 2, 11), "/bin/true %ld > /dev/null");
	else if (!strcmp(what, "same"))
		commands(number(argc, argv, 2, 23), 1);
	else if (!strcmp(what, "different"))
		commands(number(argc, argv, 2, 23), 0);
	else if (!strcmp(what, "search"))
		searches(number(argc, argv, 2, 13), "true", 0);
	else if (!strcmp(what, "search-in-vain"))
		searches(number(argc, argv, 2, 13), "no-such-program", 127);
	else if (!strcmp(what, "large"))
		large(number(argc, argv, 2, 1024), 0);
	else if (!strcmp(what, "large-both")) {
		large(number(argc, argv, 2, 1024), 0);
		large(1, 1);
	} else if (!strcmp(what, "large-spawned"))
		large(number(argc, argv, 2, 1024), 1);
	else
		usage("WHAT [N]");
	say("ok pid=%d\n", (int)getpid());
	return 0;
}
