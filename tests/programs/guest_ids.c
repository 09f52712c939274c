/* guest_ids undumpable|drop|chroot|setid: a process that puts itself out of others' reach, then forks and executes;
 * what it is and may at each step.
 */
#include "programs.h"
#include <grp.h>
#include <sys/auxv.h>

static void stand(const char *when)
{
	uid_t real, effective, saved;
	gid_t rgid, egid, sgid;
	must(getresuid(&real, &effective, &saved), "getresuid");
	must(getresgid(&rgid, &egid, &sgid), "getresgid");
	say("%s uids=%u,%u,%u gids=%u,%u,%u dumpable=%d secure=%lu groups=%d\n", when, real, effective, saved, rgid, egid,
	    sgid, prctl(PR_GET_DUMPABLE), getauxval(AT_SECURE), getgroups(0, NULL));
}

static void fork_and_execute(const char *path)
{
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		stand("forked");
		int own = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
		say("forked own-status errno=%s\n", errno_name(own == -1 ? errno : 0));
		execl(path, path, "executed", NULL);
		say("execl errno=%s\n", errno_name(errno));
		_exit(9);
	}
	say("child status=0x%x\n", ended(child));
}

static int root_of_a_namespace(void)
{
	return geteuid() == 0 || unshare(CLONE_NEWUSER) == 0;
}

/* A copy of this program with the set-id bits of its owner. */
static void set_id(void)
{
	char name[] = "/tmp/guest_ids.XXXXXX", text[65536];
	int from = (int)must(open(own_path(), O_RDONLY | O_CLOEXEC), "open"), to = (int)must(mkstemp(name), "mkstemp");
	for (ssize_t got; (got = must(read(from, text, sizeof text), "read")) > 0;)
		put(to, text, (size_t)got);
	must(fchmod(to, 06755), "fchmod");
	must(close(to), "close");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		if (geteuid() == 0) {
			must(setgroups(0, NULL), "setgroups");
			must(setresgid(65534, 65534, 65534), "setresgid");
			must(setresuid(65534, 65534, 65534), "setresuid");
		}
		execl(name, name, "executed", NULL);
		die("execl: %s", strerror(errno));
	}
	int status = ended(child);
	must(unlink(name), "unlink");
	say("child status=0x%x\n", status);
}

int main(int argc, char **argv)
{
	if (chosen(argc, argv, 1, "executed")) {
		stand("executed");
		return 4;
	}
	own_path();
	stand("start");
	if (chosen(argc, argv, 1, "undumpable")) {
		must(prctl(PR_SET_DUMPABLE, 0), "PR_SET_DUMPABLE");
		fork_and_execute(own_path());
	} else if (chosen(argc, argv, 1, "drop")) {
		if (geteuid() == 0) {
			must(setgroups(0, NULL), "setgroups");
			must(setresgid(65534, 65534, 65534), "setresgid");
			must(setresuid(65534, 65534, 65534), "setresuid");
		}
		stand("dropped");
		fork_and_execute(own_path());
	} else if (chosen(argc, argv, 1, "chroot")) {
		char empty[] = "/tmp/guest_root.XXXXXX";
		expect(mkdtemp(empty) != NULL, "a directory");
		int outside = (int)must(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open");
		if (!root_of_a_namespace() || chroot(empty) == -1) {
			rmdir(empty);
			say("skip reason=%s\n", errno_name(errno));
			return 77;
		}
		must(chdir("/"), "chdir");
		fork_and_execute(own_path());
		must(fchdir(outside), "fchdir");
		say("outside unlinkat=%s\n", errno_name(unlinkat(outside, empty + 1, AT_REMOVEDIR) ? errno : 0));
	} else if (chosen(argc, argv, 1, "setid"))
		set_id();
	else
		usage("guest_ids undumpable|drop|chroot|setid");
	say("ok\n");
	return 0;
}
