/* flag_fs with|without [user]: do umask and chdir in the child change them in its creator? */
#include "sharing.h"

int main(int argc, char **argv)
{
	return flag_program(argc, argv, "CLONE_FS", CLONE_FS, 0, 0, EFFECTS(&effect_umask, &effect_directory));
}
