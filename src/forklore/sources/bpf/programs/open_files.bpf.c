// SPDX-License-Identifier: GPL-2.0-or-later
/* Who has the wanted files open, of all processes that are in sight of whoever asks, with what the kernel counts of each
 * open file: so it shows whether that is all who have it. It runs once over all descriptors, holds nobody and changes
 * nothing. */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 14);
	__type(key, __u64); /* inode number */
	__type(value, __u32);
} wanted SEC(".maps");

/* One descriptor. Addresses only tell one object from another. */
struct opened {
	__u64 file;
	__u64 inode;
	__u64 table;
	__u64 number; /* the inode's */
	__s64 references; /* to the open file, without the iterator's own */
	__u32 device;
	__u32 file_mode; /* FMODE_READ, FMODE_WRITE, … */
	__u32 readers; /* open files of a pipe; 0 of another file */
	__u32 writers;
	__u32 tasks; /* that use the table */
	__u32 process;
	__u32 task;
	__u32 fd;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pipe_inode_info {
	unsigned int readers, writers;
};
struct inode___more {
	unsigned short i_mode;
	struct pipe_inode_info *i_pipe;
};
typedef struct {
	long counter;
} atomic_long;
/* before Linux 6.13, and since (fs: "fs: add file_ref") */
struct file___old {
	unsigned int f_mode;
	atomic_long f_count;
};
struct file_ref {
	atomic_long refcnt;
};
struct file___new {
	struct file_ref f_ref;
};
struct files_struct___more {
	atomic_t count;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};
#pragma clang attribute pop

enum { PIDTYPE_TGID = 1, S_IFMT_ = 0170000, S_IFIFO_ = 0010000 };

static __always_inline __u32 number_of(struct pid *pid, __u32 level)
{
	void *numbers = (void *)pid + bpf_core_field_offset(struct pid, numbers);
	struct upid *where = numbers + bpf_core_type_size(struct upid) * (level & 31);
	return BPF_CORE_READ(where, nr);
}

static __always_inline __s64 references_of(struct file *file)
{
	struct file___new *new = (void *)file;
	struct file___old *old = (void *)file;
	/* The iterator has one (kernel/bpf/task_iter.c: task_file_seq_get_next). file_ref_t is 0 where one is left. */
	if (bpf_core_field_exists(new->f_ref))
		return BPF_CORE_READ(new, f_ref.refcnt.counter);
	return BPF_CORE_READ(old, f_count.counter) - 1;
}

SEC("iter/task_file")
int open_files(struct bpf_iter__task_file *context)
{
	struct task_struct *task = context->task, *me = bpf_get_current_task_btf();
	struct file *file = context->file;
	struct opened o = {};
	if (!task || !file)
		return 0;
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	o.number = BPF_CORE_READ(inode, i_ino);
	if (!bpf_map_lookup_elem(&wanted, &o.number))
		return 0;
	__u32 level = BPF_CORE_READ(me, thread_pid, level);
	struct files_struct *table = BPF_CORE_READ(task, files);
	o.file = (__u64)file;
	o.inode = (__u64)inode;
	o.table = (__u64)table;
	o.references = references_of(file);
	o.device = BPF_CORE_READ(inode, i_sb, s_dev);
	o.file_mode = BPF_CORE_READ((struct file___old *)file, f_mode);
	if ((BPF_CORE_READ((struct inode___more *)inode, i_mode) & S_IFMT_) == S_IFIFO_) {
		struct pipe_inode_info *pipe = BPF_CORE_READ((struct inode___more *)inode, i_pipe);
		o.readers = BPF_CORE_READ(pipe, readers);
		o.writers = BPF_CORE_READ(pipe, writers);
	}
	o.tasks = BPF_CORE_READ((struct files_struct___more *)table, count.counter);
	o.process = number_of(BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]), level);
	o.task = number_of(BPF_CORE_READ(task, thread_pid), level);
	o.fd = context->fd;
	bpf_seq_write(context->meta->seq, &o, sizeof o);
	return 0;
}
