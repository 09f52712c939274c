/* nproc_eagain [UID=65534] [LIMIT=7] [REFUSALS=1]: as an ordinary user, forks until RLIMIT_NPROC refuses so often. */
#include "programs.h"

int main(int argc, char **argv)
{
	uid_t user = (uid_t)number(argc, argv, 1, 65534);
	rlim_t limit = (rlim_t)number(argc, argv, 2, 7);
	if (getuid() == 0) {
		must(setresgid(user, user, user), "setresgid");
		must(setresuid(user, user, user), "setresuid");
	}
	struct rlimit nproc = {limit, limit};
	must(setrlimit(RLIMIT_NPROC, &nproc), "setrlimit RLIMIT_NPROC");
	struct gate gate = make_gate();
	pid_t children[1024], child = 0;
	int made = 0;
	while (made < 1024 && (child = raw_fork()) > 0)
		children[made++] = child;
	if (child == 0) {
		drop_key(gate);
		wait_at(gate);
		_exit(0);
	}
	int error = errno;
	expect(child == -1, "a fork is refused before the 1024th child");
	for (int more = number(argc, argv, 3, 1); more > 1; more--)
		expect(raw_fork() == -1 && errno == error, "the next fork is refused, too");
	drop_key(gate);
	for (int i = 0; i < made; i++)
		expect_exit(children[i], 0);
	expect(error == EAGAIN, "the refusal is EAGAIN");
	say("refused errno=%s made=%d limit=%d uid=%d\n", errno_name(error), made, (int)limit, (int)getuid());
	say("ok\n");
	return 0;
}
