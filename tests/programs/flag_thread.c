/* flag_thread with|without [user]: is the child a thread, with its creator's limits? */
#include "sharing.h"

int main(int argc, char **argv)
{
	return flag_program(argc, argv, "CLONE_THREAD", CLONE_THREAD, CLONE_VM | CLONE_SIGHAND, 0, EFFECTS(&effect_limit));
}
