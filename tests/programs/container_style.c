/* container_style [user]: as a container runtime starts a container. The runtime has a partner in a UTS and an IPC
 * namespace of its own; stage 0 makes stage 1 by CLONE_PARENT, so that it is the runtime's child, and writes its id maps.
 * Stage 1 enters the partner's namespaces by setns, takes a user, a mount, a network and a pid namespace by unshare, and
 * makes stage 2 by CLONE_PARENT, the first process of the pid namespace, which executes the container's program.
 * All wait until standard input ends. At each step a task says by /proc/self/ns where it is:
 * `namespaces stage=.. when=.. tid=.. nspid=.. inodes=mnt:..,uts:..,..`, without a namespace that is not there yet.
 */
#include "sharing.h"

enum { JOINED = CLONE_NEWUTS | CLONE_NEWIPC, OWN = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID };

static struct gate gate; /* opens when standard input has ended */

/* The number in the pid namespace of /proc, which stays the runtime's. */
static int outer_pid(void)
{
	char target[32];
	target[must(readlink("/proc/self", target, sizeof target - 1), "readlink /proc/self")] = '\0';
	return atoi(target);
}

static void say_namespaces(const char *stage, const char *when)
{
	static const char *const names[] = {"mnt", "uts", "ipc", "net", "pid", "user", "cgroup", "time",
					    "pid_for_children", "time_for_children"};
	char line[512], path[64], target[64];
	int length = 0;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
		ssize_t size = readlink(path, target, sizeof target - 1);
		if (size == -1 && errno == ENOENT)
			continue;
		target[must(size, path)] = '\0';
		length += snprintf(line + length, sizeof line - (size_t)length, "%s%s:%ld", i ? "," : "", names[i],
				   strtol(strchr(target, '[') + 1, NULL, 10));
	}
	say("namespaces stage=%s when=%s tid=%d nspid=%d inodes=%s\n", stage, when, outer_pid(),
	    (int)syscall(SYS_getpid), line);
}

static void enter(pid_t pid, const char *name, int kind)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, name);
	int fd = (int)allowed(open(path, O_RDONLY | O_CLOEXEC), path);
	allowed(syscall(SYS_setns, fd, kind), "setns");
	must(close(fd), "close");
}

static pid_t start_partner(void)
{
	struct gate settled = make_gate();
	pid_t partner_pid = (pid_t)must(raw_fork(), "fork");
	if (partner_pid == 0) {
		drop_key(gate);
		say_namespaces("partner", "created");
		allowed(unshare(JOINED), "unshare(CLONE_NEWUTS|CLONE_NEWIPC)");
		say_namespaces("partner", "unshared");
		drop_key(settled);
		wait_at(gate);
		_exit(0);
	}
	drop_key(settled);
	wait_at(settled);
	close(settled.wait);
	return partner_pid;
}

/* Stage 2 is process 1 of its pid namespace: it becomes the container's program. */
static void stage_2(char *const *again)
{
	say_namespaces("2", "created");
	expect(syscall(SYS_getpid) == 1, "the first process of a pid namespace");
	must(setsid(), "setsid");
	must(dup2(gate.wait, STDIN_FILENO), "dup2"); /* without close-on-exec */
	execv(own_path(), again);
	die("execv: %s", strerror(errno));
}

static void stage_1(pid_t partner_pid, struct gate mapped, int ask, int report, char *const *again)
{
	char byte = 'm';
	say_namespaces("1", "created");
	enter(partner_pid, "uts", CLONE_NEWUTS);
	enter(partner_pid, "ipc", CLONE_NEWIPC);
	say_namespaces("1", "joined");
	allowed(unshare(CLONE_NEWUSER), "unshare(CLONE_NEWUSER)");
	put(ask, &byte, 1);
	wait_at(mapped);
	must(setresuid(0, 0, 0), "setresuid");
	must(setresgid(0, 0, 0), "setresgid");
	must(unshare(OWN), "unshare(CLONE_NEWNS|CLONE_NEWNET|CLONE_NEWPID)");
	say_namespaces("1", "unshared");
	pid_t child = (pid_t)must(raw_clone(CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0), "clone of stage 2");
	if (child == 0)
		stage_2(again);
	put(report, &child, sizeof child);
	say_namespaces("1", "over");
	_exit(0);
}

static void write_map(pid_t pid, const char *name, const char *text)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	write_file(path, text);
}

static void stage_0(pid_t partner_pid, int report, char *const *again)
{
	int asked[2];
	char byte, map[64];
	struct gate mapped = make_gate();
	must(pipe2(asked, O_CLOEXEC), "pipe2");
	drop_key(gate);
	say_namespaces("0", "created");
	pid_t child = (pid_t)must(raw_clone(CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0), "clone of stage 1");
	if (child == 0) {
		close(asked[0]);
		drop_key(mapped);
		stage_1(partner_pid, mapped, asked[1], report, again);
	}
	put(report, &child, sizeof child);
	close(asked[1]);
	if (!get(asked[0], &byte, 1))
		_exit(0); /* the end of stage 1 says why */
	write_map(child, "setgroups", "deny");
	snprintf(map, sizeof map, "0 %u 1", geteuid());
	write_map(child, "uid_map", map);
	snprintf(map, sizeof map, "0 %u 1", getegid());
	write_map(child, "gid_map", map);
	drop_key(mapped);
	_exit(0);
}

/* The end of a stage, whose reason for a skip is this program's own. */
static void expect_end(pid_t child)
{
	int status = ended(child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		_exit(SKIPPED);
	expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a stage that ends well");
}

int main(int argc, char **argv)
{
	char byte, *again[] = {argv[0], "contained", NULL};
	pid_t children[2];
	int report[2];
	if (chosen(argc, argv, 1, "contained")) {
		say_namespaces("2", "executed");
		while (read(STDIN_FILENO, &byte, 1) > 0)
			;
		return 0;
	}
	if (argc > 1 && !chosen(argc, argv, 1, "user"))
		usage("container_style [user]");
	prepare(argc > 1, 1, 0);
	gate = make_gate();
	pid_t partner_pid = start_partner();
	must(pipe2(report, O_CLOEXEC), "pipe2");
	say_namespaces("runtime", "created");
	pid_t first = (pid_t)must(raw_fork(), "fork");
	if (first == 0)
		stage_0(partner_pid, report[1], again);
	close(report[1]);
	for (int i = 0; i < 2; i++)
		if (!get(report[0], &children[i], sizeof children[i]))
			children[i] = 0;
	expect_end(first);
	if (children[0])
		expect_end(children[0]);
	expect(children[1] != 0, "a stage 2");
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	drop_key(gate);
	/* Stage 1 reported the number that its own pid namespace gives. */
	expect_end(children[1]);
	expect_end(partner_pid);
	say("ok\n");
	return 0;
}
