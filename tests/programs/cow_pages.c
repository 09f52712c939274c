/* cow_pages N M [K=0] [exit|exec]: N pages that the parent wrote; its fork child writes the first M of them and the
 * parent the last K; then both are held while the kernel's own count of pages that only one of them has
 * (/proc/self/pagemap, bit 56) is compared, and the child exits or executes this program.
 */
#include "programs.h"

static unsigned char *pages;
static size_t page_bytes;
static long total;

static void write_pages(long from, long count, unsigned char value)
{
	for (long i = from; i < from + count; i++)
		((volatile unsigned char *)pages)[(size_t)i * page_bytes] = value;
}

static void expect_pages(long from, long count, unsigned char value, const char *what)
{
	for (long i = from; i < from + count; i++)
		expect(((volatile unsigned char *)pages)[(size_t)i * page_bytes] == value, what);
}

/* Pages of this process's that no other has; -1 where the kernel does not tell. */
static long exclusive(void)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return -1;
	long count = 0;
	for (long i = 0; i < total; i++) {
		uint64_t entry;
		off_t at = (off_t)((ADDRESS(pages) / page_bytes + (uint64_t)i) * sizeof entry);
		if (pread(fd, &entry, sizeof entry, at) != (ssize_t)sizeof entry) {
			count = -1;
			break;
		}
		count += (entry >> 56 & 1) && entry >> 63;
	}
	close(fd);
	return count;
}

int main(int argc, char **argv)
{
	end_if_leaf(argc, argv);
	total = number(argc, argv, 1, 101);
	long by_child = number(argc, argv, 2, 23), by_parent = number(argc, argv, 3, 0);
	int execs = chosen(argc, argv, 4, "exec");
	if (by_child + by_parent > total || total == 0)
		usage("cow_pages N M [K=0] [exit|exec], with M + K <= N");
	const char *path = own_path();
	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	pages = mmap(NULL, (size_t)total * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	expect(pages != MAP_FAILED, "mmap");
	madvise(pages, (size_t)total * page_bytes, MADV_NOHUGEPAGE);
	write_pages(0, total, 1);

	struct gate child_wrote = make_gate(), parent_wrote = make_gate(), compared = make_gate();
	int report[2];
	must(pipe2(report, O_CLOEXEC), "pipe2");
	pid_t child = (pid_t)must(fork(), "fork");
	if (child == 0) {
		drop_key(parent_wrote);
		drop_key(compared);
		expect_pages(0, total, 1, "a fork child starts with its parent's pages");
		write_pages(0, by_child, 2);
		drop_key(child_wrote);
		wait_at(parent_wrote);
		expect_pages(0, by_child, 2, "the child's pages have what it wrote");
		expect_pages(by_child, total - by_child, 1, "the others are as they were");
		long own = exclusive();
		put(report[1], &own, sizeof own);
		wait_at(compared);
		if (execs)
			execl(path, "cow_pages", "leaf", "0", (char *)NULL);
		_exit(execs ? 127 : 0);
	}
	drop_key(child_wrote);
	wait_at(child_wrote);
	write_pages(total - by_parent, by_parent, 3);
	drop_key(parent_wrote);
	long child_own, own;
	expect(get(report[0], &child_own, sizeof child_own), "the child's count");
	own = exclusive();
	expect_pages(total - by_parent, by_parent, 3, "the parent's pages have what it wrote");
	expect_pages(0, total - by_parent, 1, "the others are as they were");
	say("cow address=0x%llx page=%zu pages=%ld child_wrote=%ld parent_wrote=%ld common=%ld pid=%d child=%d\n",
	    (unsigned long long)ADDRESS(pages), page_bytes, total, by_child, by_parent, total - by_child - by_parent,
	    (int)getpid(), (int)child);
	if (own == -1 || child_own == -1)
		say("pagemap exclusive=unknown\n");
	else
		say("pagemap parent_has=%ld child_has=%ld\n", own, child_own);
	expect(own == child_own, "both have as many pages of their own");
	expect(own == -1 || own == by_child + by_parent, "a page that one of them wrote is each one's own, and no other");
	drop_key(compared);
	expect_exit(child, 0);
	own = exclusive();
	expect(own == -1 || own == total, "with the child's end, all pages are the parent's own");
	say("ok pid=%d child=%d\n", (int)getpid(), (int)child);
	return 0;
}
