/* unshare_setns: unshare and setns, successful and not, each in a process of its own. */
#include "programs.h"

static void report(const char *call, const char *what, unsigned long flags, int result)
{
	int error = result == -1 ? errno : 0;
	say("%s pid=%d what=%s flags=0x%lx result=%d errno=%s\n", call, (int)getpid(), what, flags, result,
	    errno_name(error));
}

static void unshare_one(const char *what, unsigned long flags)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		report("unshare", what, flags, (int)syscall(SYS_unshare, flags));
		_exit(0);
	}
	expect_exit(child, 0);
}

static void setns_one(const char *what, const char *path, unsigned long type)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		int fd = path ? (int)must(open(path, O_RDONLY | O_CLOEXEC), path) : -1;
		report("setns", what, type, (int)syscall(SYS_setns, fd, type));
		_exit(0);
	}
	expect_exit(child, 0);
}

static void setns_to_pidfd(const char *what, unsigned long flags)
{
#ifdef SYS_pidfd_open
	pid_t parent = getpid(), child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		int fd = (int)must(syscall(SYS_pidfd_open, parent, 0), "pidfd_open");
		report("setns", what, flags, (int)syscall(SYS_setns, fd, flags));
		_exit(0);
	}
	expect_exit(child, 0);
#else
	(void)what, (void)flags;
#endif
}

/* Into a namespace that is not the caller's own: a child makes it and holds it open. */
static void setns_to_new(void)
{
	struct gate ready = make_gate(), done = make_gate();
	pid_t holder = (pid_t)must(fork(), "fork");
	if (holder == 0) {
		drop_key(done);
		report("unshare", "NEWUTS-held", CLONE_NEWUTS, unshare(CLONE_NEWUTS));
		drop_key(ready);
		wait_at(done);
		_exit(0);
	}
	drop_key(ready);
	wait_at(ready);
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/ns/uts", (int)holder);
	setns_one("uts-of-child", path, CLONE_NEWUTS);
	drop_key(done);
	expect_exit(holder, 0);
}

int main(void)
{
	char parent_uts[64];
	snprintf(parent_uts, sizeof parent_uts, "/proc/%d/ns/uts", (int)getpid());
	unshare_one("nothing", 0);
	unshare_one("FS", CLONE_FS);
	unshare_one("FILES", CLONE_FILES);
	unshare_one("SYSVSEM", CLONE_SYSVSEM);
	unshare_one("FS|FILES|SYSVSEM", CLONE_FS | CLONE_FILES | CLONE_SYSVSEM);
	unshare_one("THREAD", CLONE_THREAD);
	unshare_one("VM", CLONE_VM);
	unshare_one("NEWUTS", CLONE_NEWUTS);
	unshare_one("NEWIPC", CLONE_NEWIPC);
	unshare_one("NEWNS", CLONE_NEWNS);
	unshare_one("NEWPID", CLONE_NEWPID);
	unshare_one("NEWCGROUP", CLONE_NEWCGROUP);
	unshare_one("NEWTIME", CLONE_NEWTIME);
	unshare_one("NEWUSER", CLONE_NEWUSER);
	unshare_one("PTRACE", CLONE_PTRACE);
	unshare_one("VFORK", CLONE_VFORK);
	unshare_one("SETTLS", CLONE_SETTLS);

	setns_one("uts-of-self", "/proc/self/ns/uts", CLONE_NEWUTS);
	setns_one("uts-of-parent", parent_uts, 0);
	setns_one("ipc-of-self", "/proc/self/ns/ipc", CLONE_NEWIPC);
	setns_one("pid-of-self", "/proc/self/ns/pid", CLONE_NEWPID);
	setns_one("mnt-of-self", "/proc/self/ns/mnt", CLONE_NEWNS);
	setns_one("user-of-self", "/proc/self/ns/user", CLONE_NEWUSER);
	setns_one("wrong-type", "/proc/self/ns/uts", CLONE_NEWIPC);
	setns_one("not-a-namespace", "/proc/self/status", CLONE_NEWUTS);
	setns_one("bad-descriptor", NULL, CLONE_NEWUTS);
	setns_to_pidfd("pidfd", CLONE_NEWUTS | CLONE_NEWIPC);
	setns_to_pidfd("pidfd-without-flags", 0);
	setns_to_new();
	say("ok\n");
	return 0;
}
