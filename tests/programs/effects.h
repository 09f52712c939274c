/* Effects by which a task finds out whether it shares a thing with another: a value is set in one and looked for in the
 * other. What they share has it, what is a copy has not. Resources are named as `forklore` names them.
 */
#ifndef EFFECTS_H
#define EFFECTS_H

#include "partner.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <time.h>

enum { IOPRIO_WHO_PROCESS_ = 1, IOPRIO_BEST_EFFORT = 2 };
#define TIME_OFFSET 1000000L

union semun_ {
	int value;
	void *buffer;
};

enum { VALUES = 3 }; /* an effect's values are 1 to 3, and 0 before the first */

struct effect {
	const char *resource, *by;
	act *set; /* NULL: only looked at */
	act *look;
};

static volatile int memory_cell;

static inline long set_memory(long value)
{
	memory_cell = (int)value;
	return 0;
}

static inline long look_memory(long unused)
{
	(void)unused;
	return memory_cell;
}

static inline long set_umask(long value)
{
	umask((mode_t)(070 + value));
	return 0;
}

static inline long look_umask(long unused)
{
	(void)unused;
	mode_t now = umask(0);
	umask(now);
	return now > 070 && now <= 070 + VALUES ? (long)now - 070 : 0;
}

static const char *const directories[] = {"", "/", "/proc", "/proc/self"};

static inline long set_directory(long value)
{
	return chdir(directories[value]) == -1 ? -errno : 0;
}

static inline long look_directory(long unused)
{
	(void)unused;
	struct stat here, there;
	if (stat(".", &here) == -1)
		return -errno;
	for (long value = 1; value <= VALUES; value++)
		/* /proc/self is a link to another directory in each process */
		if (value < VALUES ? stat(directories[value], &there) == 0 && here.st_ino == there.st_ino &&
						     here.st_dev == there.st_dev
				   : access("cmdline", F_OK) == 0 && access("version", F_OK) == -1)
			return value;
	return 0;
}

enum { FIRST_DESCRIPTOR = 210 };

/* Of the descriptors 211 to 213, closes all and opens one. */
static inline long set_descriptor(long value)
{
	for (int i = 1; i <= VALUES; i++)
		close(FIRST_DESCRIPTOR + i);
	int fd = open("/", O_RDONLY | O_DIRECTORY);
	if (fd == -1 || dup2(fd, FIRST_DESCRIPTOR + (int)value) == -1)
		return -errno;
	close(fd);
	return 0;
}

static inline long look_descriptor(long unused)
{
	(void)unused;
	for (int i = 1; i <= VALUES; i++)
		if (fcntl(FIRST_DESCRIPTOR + i, F_GETFD) != -1)
			return i;
	return 0;
}

static inline void handler_1(int signal) { (void)signal; }
static inline void handler_2(int signal) { (void)signal; }

static inline long set_handler(long value)
{
	struct sigaction action = {.sa_handler = value == 1 ? handler_1 : value == 2 ? handler_2 : SIG_IGN};
	return sigaction(SIGUSR1, &action, NULL) == -1 ? -errno : 0;
}

static inline long look_handler(long unused)
{
	(void)unused;
	struct sigaction now;
	if (sigaction(SIGUSR1, NULL, &now) == -1)
		return -errno;
	return now.sa_handler == handler_1 ? 1 : now.sa_handler == handler_2 ? 2 : now.sa_handler == SIG_IGN ? 3 : 0;
}

/* Limits are the thread group's. */
static inline long set_limit(long value)
{
	struct rlimit limit;
	getrlimit(RLIMIT_MSGQUEUE, &limit);
	limit.rlim_cur = (rlim_t)value;
	return setrlimit(RLIMIT_MSGQUEUE, &limit) == -1 ? -errno : 0;
}

static inline long look_limit(long unused)
{
	(void)unused;
	struct rlimit limit;
	getrlimit(RLIMIT_MSGQUEUE, &limit);
	return limit.rlim_cur <= VALUES ? (long)limit.rlim_cur : 0;
}

/* The priority is in the io_context, which this creates if the task has none (block/ioprio.c: set_task_ioprio). */
static inline long set_ioprio(long value)
{
	return syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS_, 0, IOPRIO_BEST_EFFORT << 13 | (4 + value)) == -1 ? -errno : 0;
}

static inline long look_ioprio(long unused)
{
	(void)unused;
	long now = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS_, 0);
	if (now == -1)
		return -errno;
	return now >> 13 == IOPRIO_BEST_EFFORT && (now & 7) > 4 ? (now & 7) - 4 : 0;
}

static inline long set_hostname(long value)
{
	char name[] = "value-0";
	name[6] = (char)('0' + value);
	return sethostname(name, sizeof name - 1) == -1 ? -errno : 0;
}

static inline long look_hostname(long unused)
{
	(void)unused;
	char name[256] = "";
	gethostname(name, sizeof name - 1);
	return strncmp(name, "value-", 6) == 0 ? name[6] - '0' : 0;
}

enum { SEMAPHORE_KEY = 0x666f726b };

static inline long set_semaphore(long value)
{
	int id = semget(SEMAPHORE_KEY, 1, IPC_CREAT | 0600);
	return id == -1 || semctl(id, 0, SETVAL, (union semun_){.value = (int)value}) == -1 ? -errno : 0;
}

static inline long look_semaphore(long unused)
{
	(void)unused;
	int id = semget(SEMAPHORE_KEY, 1, 0);
	if (id == -1)
		return errno == ENOENT ? 0 : -errno;
	return semctl(id, 0, GETVAL);
}

/* A new file system each time: one from before the namespace would be the same in both. */
static inline long set_mount(long value)
{
	char path[] = "/sys/value-0";
	path[11] = (char)('0' + value);
	if (mount("none", "/sys", "tmpfs", 0, NULL) == -1)
		return -errno;
	return mkdir(path, 0700) == -1 ? -errno : 0;
}

static inline long look_mount(long unused)
{
	(void)unused;
	char path[] = "/sys/value-0";
	for (int i = 1; i <= VALUES; i++) {
		path[11] = (char)('0' + i);
		if (access(path, F_OK) == 0)
			return i;
	}
	return 0;
}

enum { FIRST_MTU = 50000 };

static inline long interface(unsigned long request, int *mtu)
{
	struct ifreq about = {.ifr_name = "lo"};
	about.ifr_mtu = *mtu;
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	long result = fd == -1 || ioctl(fd, (int)request, &about) == -1 ? -errno : 0;
	close(fd);
	*mtu = about.ifr_mtu;
	return result;
}

static inline long set_mtu(long value)
{
	int mtu = FIRST_MTU + (int)value;
	return interface(SIOCSIFMTU, &mtu);
}

static inline long look_mtu(long unused)
{
	(void)unused;
	int mtu = 0;
	long result = interface(SIOCGIFMTU, &mtu);
	if (result < 0)
		return result;
	return mtu > FIRST_MTU && mtu <= FIRST_MTU + VALUES ? mtu - FIRST_MTU : 0;
}

/* Limits on namespaces belong to a user namespace, and whoever opens the file sees his own. */
#define LIMIT_FILE "/proc/sys/user/max_uts_namespaces"
enum { FIRST_LIMIT = 4000 };

static inline long set_user_limit(long value)
{
	char text[16];
	int length = snprintf(text, sizeof text, "%ld", FIRST_LIMIT + value);
	int fd = open(LIMIT_FILE, O_WRONLY | O_CLOEXEC);
	long result = fd == -1 || write(fd, text, (size_t)length) != length ? -errno : 0;
	close(fd);
	return result;
}

static inline long look_user_limit(long unused)
{
	(void)unused;
	char text[32] = "";
	int fd = open(LIMIT_FILE, O_RDONLY | O_CLOEXEC);
	long result = fd == -1 || read(fd, text, sizeof text - 1) == -1 ? -errno : 0;
	close(fd);
	long limit = strtol(text, NULL, 10);
	return result < 0 ? result : limit > FIRST_LIMIT && limit <= FIRST_LIMIT + VALUES ? limit - FIRST_LIMIT : 0;
}

/* Whether /proc shows this task a cgroup below the root of its cgroup namespace. */
static inline long look_cgroup(long unused)
{
	(void)unused;
	char line[PATH_MAX];
	long below = 0;
	FILE *file = fopen("/proc/self/cgroup", "re");
	if (file == NULL)
		return -errno;
	while (fgets(line, sizeof line, file)) {
		const char *path = strrchr(line, ':');
		below |= path != NULL && strcmp(path, ":/\n") != 0;
	}
	fclose(file);
	return below ? TIME_OFFSET : 0;
}

static inline long look_clock(long unused)
{
	(void)unused;
	struct timespec now;
	return clock_gettime(CLOCK_BOOTTIME, &now) == -1 ? -errno : (long)now.tv_sec;
}

/* For the time namespace that the caller's children are born into, before the first of them. */
static inline long act_set_offset(long unused)
{
	(void)unused;
	char text[64];
	int length = snprintf(text, sizeof text, "boottime %ld 0", TIME_OFFSET);
	int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	long result = fd == -1 || write(fd, text, (size_t)length) != length ? -errno : 0;
	close(fd);
	return result;
}

static const struct effect effect_memory = {"mm", "variable", set_memory, look_memory};
static const struct effect effect_umask = {"fs", "umask", set_umask, look_umask};
static const struct effect effect_directory = {"fs", "chdir", set_directory, look_directory};
static const struct effect effect_descriptor = {"files", "open-and-close", set_descriptor, look_descriptor};
static const struct effect effect_handler = {"sighand", "sigaction", set_handler, look_handler};
static const struct effect effect_limit = {"thread", "setrlimit", set_limit, look_limit};
static const struct effect effect_ioprio = {"io", "ioprio_set", set_ioprio, look_ioprio};
static const struct effect effect_hostname = {"uts_ns", "sethostname", set_hostname, look_hostname};
static const struct effect effect_semaphore = {"ipc_ns", "semaphore", set_semaphore, look_semaphore};
static const struct effect effect_mount = {"mnt_ns", "mount", set_mount, look_mount};
static const struct effect effect_mtu = {"net_ns", "mtu", set_mtu, look_mtu};
static const struct effect effect_user_limit = {"user_ns", "sysctl", set_user_limit, look_user_limit};
static const struct effect effect_cgroup = {"cgroup_ns", "path", NULL, look_cgroup};
static const struct effect effect_clock = {"time_ns", "clock", NULL, look_clock};

#endif
