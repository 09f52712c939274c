/* What the programs flag_* and later_* are made of: proofs that two tasks share a resource or do not, said as lines
 * `shared resource=.. answer=yes|no by=EFFECT when=.. pid=.. child=..`, and surroundings where an effect harms nobody.
 */
#ifndef SHARING_H
#define SHARING_H

#include "effects.h"

#include <grp.h>

enum { ORDINARY_USER = 65534, CAPABLE = 1 };
#define NEW_NAMESPACES                                                                                                \
	((uint64_t)(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET |         \
		    CLONE_NEWCGROUP | CLONE_NEWTIME))

/* What `from` sets, as `to` then sees it. */
static inline int arrives(const struct effect *effect, const struct task *from, const struct task *to)
{
	long there = tell_must(to, effect->look, 0, effect->by), here = tell_must(from, effect->look, 0, effect->by);
	long value = 1;
	while (value == there || value == here)
		value++;
	tell_must(from, effect->set, value, effect->by);
	expect(tell_must(from, effect->look, 0, effect->by) == value, "a task sees what it set itself");
	long now = tell_must(to, effect->look, 0, effect->by);
	if (now != value && now != there)
		die("%s by %s: neither the old value %ld nor the new %ld but %ld", effect->resource, effect->by, there,
		    value, now);
	return now == value;
}

/* Whether the two share it, by its effect in both directions. */
static inline int shared(const struct effect *effect, const struct task *a, const struct task *b)
{
	if (effect->set == NULL) { /* clocks go on between the two looks */
		long apart = tell_must(a, effect->look, 0, effect->by) - tell_must(b, effect->look, 0, effect->by);
		return labs(apart) < TIME_OFFSET / 2;
	}
	int there = arrives(effect, b, a), back = arrives(effect, a, b);
	expect(there == back, "an effect goes both ways or none");
	return there;
}

/* Says whether the two share it, and dies if that is not `expected`. */
static inline void prove(const char *when, const struct effect *effect, int expected, const struct task *a,
			 const struct task *b)
{
	int is = shared(effect, a, b);
	say("shared resource=%s answer=%s by=%s when=%s pid=%d child=%d\n", effect->resource, is ? "yes" : "no",
	    effect->by, when, (int)a->pid, (int)b->pid);
	if (is != expected)
		die("%s by %s: %s although it has to be %s", effect->resource, effect->by, is ? "shared" : "separate",
		    expected ? "shared" : "separate");
}

/* Says the outcome of another proof than an effect's, and dies if it is not `expected`. */
static inline void claim(const char *when, const char *resource, const char *by, int is, int expected, pid_t pid,
			 pid_t child)
{
	say("shared resource=%s answer=%s by=%s when=%s pid=%d child=%d\n", resource, is ? "yes" : "no", by, when,
	    (int)pid, (int)child);
	if (is != expected)
		die("%s by %s: not as it has to be", resource, by);
}

/* What a program can be asked for by name: the flag that makes or shares it, and its effect. */
struct resource {
	const char *name, *link; /* link: in /proc/PID/ns */
	unsigned long flag;
	const struct effect *effect;
};

static const struct resource resources[] = {
	{"fs", NULL, CLONE_FS, &effect_umask},
	{"files", NULL, CLONE_FILES, &effect_descriptor},
	{"sysvsem", NULL, CLONE_SYSVSEM, NULL},
	{"mm", NULL, CLONE_VM, &effect_memory},
	{"sighand", NULL, CLONE_VM | CLONE_SIGHAND, &effect_handler},
	{"io", NULL, CLONE_IO, &effect_ioprio},
	{"uts", "uts", CLONE_NEWUTS, &effect_hostname},
	{"ipc", "ipc", CLONE_NEWIPC, &effect_semaphore},
	{"mnt", "mnt", CLONE_NEWNS, &effect_mount},
	{"net", "net", CLONE_NEWNET, &effect_mtu},
	{"user", "user", CLONE_NEWUSER, &effect_user_limit},
	{"cgroup", "cgroup", CLONE_NEWCGROUP, &effect_cgroup},
	{"pid", "pid", CLONE_NEWPID, NULL},
	{"time", "time", CLONE_NEWTIME, &effect_clock},
};

__attribute__((noreturn)) static inline void wrong_arguments(const char *right)
{
	dprintf(STDERR_FILENO, "usage: %s %s\n", program_invocation_short_name, right);
	_exit(2);
}

/* The resource of the first argument, one of the words of `among`. */
static inline const struct resource *resource_asked(int argc, char **argv, const char *among)
{
	for (size_t i = 0; i < sizeof resources / sizeof *resources; i++)
		if (chosen(argc, argv, 1, resources[i].name) && strstr(among, resources[i].name))
			return &resources[i];
	char right[256];
	snprintf(right, sizeof right, "RESOURCE [user], where RESOURCE is one of: %s", among);
	wrong_arguments(right);
}

/* What SEM_UNDO undoes shows only when a list of undoings ends, and so it is no `struct effect`. */
enum { RAISE = 5 };

static inline int new_semaphore(void)
{
	return (int)allowed(semget(IPC_PRIVATE, 1, IPC_CREAT | 0600), "semget");
}

static inline int semaphore(int id)
{
	return (int)must(semctl(id, 0, GETVAL), "semctl GETVAL");
}

/* Its value at last: it would outlive all processes. */
static inline int remove_semaphore(int id)
{
	int value = semaphore(id);
	must(semctl(id, 0, IPC_RMID), "semctl IPC_RMID");
	return value;
}

static inline long act_raise(long id)
{
	struct sembuf raise_ = {0, RAISE, SEM_UNDO};
	return semop((int)id, &raise_, 1) == -1 ? -errno : 0;
}

/* Whether the last argument, behind the `before` that a program needs, asks to become an ordinary user first. */
static inline int wants_user(int argc, char **argv, int before)
{
	return argc > before + 1 && strcmp(argv[argc - 1], "user") == 0;
}

static inline void enter_user_namespace(void)
{
	char map[64];
	unsigned uid = geteuid(), gid = getegid();
	allowed(unshare(CLONE_NEWUSER), "unshare(CLONE_NEWUSER)");
	write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "0 %u 1", uid);
	write_file("/proc/self/uid_map", map);
	snprintf(map, sizeof map, "0 %u 1", gid);
	write_file("/proc/self/gid_map", map);
}

/* Namespaces of this process's own, so that an effect never reaches the machine. An ordinary user who has to be
 * `capable` gets a user namespace first.
 */
static inline void prepare(int user, int capable, unsigned long namespaces)
{
	own_path();
	if (user && geteuid() == 0) {
		allowed(setgroups(0, NULL), "setgroups");
		allowed(setresgid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER), "setresgid");
		allowed(setresuid(ORDINARY_USER, ORDINARY_USER, ORDINARY_USER), "setresuid");
		/* A change of user makes /proc/self root's. */
		must(prctl(PR_SET_DUMPABLE, 1), "prctl PR_SET_DUMPABLE");
	}
	if (namespaces & CLONE_NEWUSER || (capable && geteuid() != 0))
		enter_user_namespace();
	namespaces &= ~(unsigned long)CLONE_NEWUSER;
	if (namespaces)
		allowed(unshare((int)namespaces), "unshare of a namespace to work in");
	if (namespaces & CLONE_NEWNS)
		allowed(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount --make-rprivate /");
}

static inline void need_namespace(const char *name)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/self/ns/%s", name);
	if (access(path, F_OK) == -1)
		skip("no %s: the kernel has no such namespaces", path);
}

static inline ino_t namespace_of(const struct task *task, const char *name)
{
	char path[64];
	struct stat about;
	snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)task->pid, name);
	must(stat(path, &about), path);
	return about.st_ino;
}

/* A task that unshared its time namespace enters it by execve, but not yet in Linux 6.1, where its children do. */
static inline void need_entered_by_execve(struct task *task)
{
	if (namespace_of(task, "time") == namespace_of(task, "time_for_children"))
		return;
	dismiss(task);
	skip("an execve does not enter the time namespace that was made for children in this kernel");
}

/* A cgroup namespace shows only where the path of a cgroup is not / anyway. */
static inline void need_cgroup(void)
{
	need_namespace("cgroup");
	if (look_cgroup(0) == 0)
		skip("every cgroup of this process is the root: a new cgroup namespace shows the same paths");
}

/* Of a namespace, one of its own, unless nothing would be changed in the machine's. */
static inline void prepare_for(const struct resource *what, int user)
{
	unsigned long unchanged = CLONE_NEWCGROUP | CLONE_NEWPID | CLONE_NEWTIME;
	if (what->link != NULL)
		need_namespace(what->link);
	if (what->flag == CLONE_NEWCGROUP)
		need_cgroup();
	prepare(user, what->link != NULL, what->link != NULL ? what->flag & ~unchanged : 0);
}

/* Whether the first argument is `with` rather than `without`. */
static inline int with_flag(int argc, char **argv)
{
	int with = chosen(argc, argv, 1, "with");
	if (!with && !chosen(argc, argv, 1, "without"))
		wrong_arguments("with|without [user]");
	return with;
}

/* The program of one flag: a partner with `always` and, if asked for, the flag; then each effect. */
static inline int flag_program(int argc, char **argv, const char *name, uint64_t flag, uint64_t always,
			       unsigned long namespaces, const struct effect *const effects[])
{
	int with = with_flag(argc, argv);
	prepare(wants_user(argc, argv, 1), (flag & NEW_NAMESPACES) != 0, namespaces);
	struct task me = self(), child = partner(always | (with ? flag : 0));
	for (int i = 0; effects[i] != NULL; i++)
		prove("created", effects[i], flag & NEW_NAMESPACES ? !with : with, &me, &child);
	dismiss(&child);
	say("ok flag=%s set=%s pid=%d child=%d\n", name, with ? "yes" : "no", (int)me.pid, (int)child.pid);
	return 0;
}

#define EFFECTS(...) ((const struct effect *const[]){__VA_ARGS__, NULL})

#endif
