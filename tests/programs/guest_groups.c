/* guest_groups kill|own|deathsig|terminal|pidfd: process groups that are killed, parents that die, a terminal's session. */
#include "programs.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

/* A group of five is killed by one of them, or by their parent. */
static void killed(int by_itself)
{
	signal(SIGTERM, SIG_DFL);
	struct gate gate = make_gate();
	pid_t first = 0, members[5];
	for (int i = 0; i < 5; i++) {
		members[i] = (pid_t)must(fork(), "fork");
		if (members[i] == 0) {
			drop_key(gate);
			wait_at(gate);
			if (by_itself && i == 3)
				kill(0, SIGTERM);
			for (;;)
				pause();
		}
		first = first ? first : members[i];
		must(setpgid(members[i], first), "setpgid");
	}
	drop_key(gate);
	if (!by_itself)
		must(kill(-first, SIGKILL), "kill");
	for (int i = 0; i < 5; i++)
		say("member %d signal=%d\n", i, WTERMSIG(ended(members[i])));
}

static void death_signal(void)
{
	int told[2], started[2];
	must(pipe2(told, O_CLOEXEC), "pipe2");
	must(pipe2(started, O_CLOEXEC), "pipe2");
	must(prctl(PR_SET_CHILD_SUBREAPER, 1), "subreaper");
	pid_t middle = (pid_t)must(fork(), "fork");
	if (middle == 0) {
		pid_t inner = (pid_t)must(fork(), "fork");
		if (inner == 0) {
			sigset_t set;
			sigemptyset(&set);
			sigaddset(&set, SIGUSR1);
			must(sigprocmask(SIG_BLOCK, &set, NULL), "sigprocmask");
			must(prctl(PR_SET_PDEATHSIG, SIGUSR1), "PR_SET_PDEATHSIG");
			put(started[1], "x", 1);
			siginfo_t info;
			int number = sigwaitinfo(&set, &info);
			int seen[3] = {number, info.si_code, info.si_pid == getppid()};
			put(told[1], seen, sizeof seen);
			_exit(0);
		}
		char byte;
		expect(get(started[0], &byte, 1), "the inner one's word");
		_exit(0);
	}
	expect_exit(middle, 0);
	int seen[3];
	expect(get(told[0], seen, sizeof seen), "the signal");
	expect(ended(-1) == 0, "the orphan ends");
	say("deathsig number=%d code=%d from-the-new-parent=%d\n", seen[0], seen[1], seen[2]);
}

/* A session of its own on a new terminal: a background read stops, the foreground one is interrupted, a hang-up kills. */
static void terminal(void)
{
	int master = (int)must(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), "posix_openpt");
	must(grantpt(master), "grantpt");
	must(unlockpt(master), "unlockpt");
	int told[2], status;
	must(pipe2(told, O_CLOEXEC), "pipe2");
	pid_t leader = (pid_t)must(fork(), "fork");
	if (leader == 0) {
		signal(SIGHUP, SIG_DFL); /* whoever started us may ignore them */
		signal(SIGINT, SIG_DFL);
		must(setsid(), "setsid");
		int tty = (int)must(open(ptsname(master), O_RDWR | O_CLOEXEC), "open the terminal");
		close(master);
		must(ioctl(tty, TIOCSCTTY, 0), "TIOCSCTTY");
		pid_t job = (pid_t)must(fork(), "fork");
		if (job == 0) {
			char byte;
			setpgid(0, 0);
			_exit(read(tty, &byte, 1) == 1 ? 3 : 4);
		}
		must(setpgid(job, job) == -1 && errno != EACCES ? -1 : 0, "setpgid");
		must(waitpid(job, &status, WUNTRACED), "waitpid");
		int seen[2] = {WIFSTOPPED(status) ? WSTOPSIG(status) : 0, 0};
		must(tcsetpgrp(tty, job), "tcsetpgrp");
		must(kill(-job, SIGCONT), "kill");
		must(waitpid(job, &status, WCONTINUED), "waitpid");
		seen[1] = WIFCONTINUED(status);
		put(told[1], seen, sizeof seen);
		must(waitpid(job, &status, 0), "waitpid");
		seen[0] = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
		put(told[1], seen, sizeof seen);
		for (;;)
			pause();
	}
	int seen[2];
	expect(get(told[0], seen, sizeof seen), "the stop");
	say("background stopped-by=%d continued=%d\n", seen[0], seen[1]);
	put(master, "\003", 1);
	expect(get(told[0], seen, sizeof seen), "the end of the job");
	say("foreground killed-by=%d\n", seen[0]);
	must(close(master), "close");
	status = ended(leader);
	say("leader killed-by=%d\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
}

/* Whether a child whose pidfd is readable can be waited for at once. */
static void pidfds(void)
{
	int late = 0;
	for (int i = 0; i < 101; i++) {
		pid_t child = (pid_t)must(fork(), "fork");
		if (child == 0)
			_exit(8);
		int pidfd = (int)must(syscall(SYS_pidfd_open, child, 0), "pidfd_open");
		must(poll(&(struct pollfd){.fd = pidfd, .events = POLLIN}, 1, -1), "poll");
		siginfo_t info;
		memset(&info, 0, sizeof info);
		must(waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG), "waitid");
		if (info.si_pid == 0) {
			late++;
			expect_exit(child, 8);
		}
		close(pidfd);
	}
	say("pidfd some-were-late=%d\n", late != 0);
}

int main(int argc, char **argv)
{
	if (chosen(argc, argv, 1, "kill") || chosen(argc, argv, 1, "own"))
		killed(chosen(argc, argv, 1, "own"));
	else if (chosen(argc, argv, 1, "deathsig"))
		death_signal();
	else if (chosen(argc, argv, 1, "terminal"))
		terminal();
	else if (chosen(argc, argv, 1, "pidfd"))
		pidfds();
	else
		usage("guest_groups kill|own|deathsig|terminal|pidfd");
	say("ok\n");
	return 0;
}
