/* group_signal [SIGNAL [handled|ignored|ended]]: a signal to the own process group, then exit 7.
 *
 * without a signal   SIGUSR1, in a process group of its own, then exit 0
 * handled, ignored   what the program does with it
 * ended              its child handles it, and sends it when the program has ended
 */
#include "programs.h"

static void handler(int number)
{
	(void)number;
}

int main(int argc, char **argv)
{
	if (argc > 3)
		usage("group_signal [SIGNAL [handled|ignored|ended]]");
	if (argc < 2 && getpgrp() != getpid())
		must(setpgid(0, 0), "setpgid");
	const char *way = argc == 3 ? argv[2] : "handled";
	int number = argc < 2 ? SIGUSR1 : atoi(argv[1]);
	must(signal(number, strcmp(way, "ignored") == 0 ? SIG_IGN : handler) == SIG_ERR ? -1 : 0, "signal");
	if (strcmp(way, "ended") == 0) {
		int ends[2];
		must(pipe(ends), "pipe");
		pid_t child = (pid_t)must(fork(), "fork");
		if (child != 0)
			return 7;
		char none;
		must(close(ends[1]), "close");
		must(read(ends[0], &none, 1), "read");
	}
	must(kill(0, number), "kill");
	if (argc < 2) {
		say("ok\n");
		return 0;
	}
	return 7;
}
