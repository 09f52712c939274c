/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The members of the kernel's structs that the programs read, by name and no more: where they lie in the running
 * kernel, that kernel works out from its own BTF when it loads the programs (CO-RE). */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef __u64 u64;
typedef int pid_t;
typedef _Bool bool;

enum { BPF_MAP_TYPE_HASH = 1, BPF_MAP_TYPE_PERCPU_ARRAY = 6, BPF_MAP_TYPE_RINGBUF = 27 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_ANY, BPF_NOEXIST };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2, BPF_RB_AVAIL_DATA = 0 };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct list_head {
	struct list_head *next;
};
typedef struct {
	int counter;
} atomic_t;
struct ns_common {
	unsigned int inum;
};
struct task_struct;
struct user_namespace {
	struct ns_common ns;
};
struct pid_namespace {
	struct task_struct *child_reaper;
	unsigned int level;
	struct ns_common ns;
};
struct upid {
	int nr;
	struct pid_namespace *ns;
};
struct pid {
	unsigned int level;
	struct upid numbers[1];
};
struct mnt_namespace {
	struct ns_common ns;
};
struct uts_namespace {
	struct ns_common ns;
};
struct ipc_namespace {
	struct ns_common ns;
};
struct net {
	struct ns_common ns;
};
struct time_namespace {
	struct ns_common ns;
};
struct cgroup_namespace {
	struct ns_common ns;
};
struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct time_namespace *time_ns;
	struct time_namespace *time_ns_for_children;
	struct cgroup_namespace *cgroup_ns;
};
typedef struct {
	unsigned int val;
} kuid_t;
struct cred {
	kuid_t uid;
	struct user_namespace *user_ns;
};
struct kernfs_node {
	const char *name;
	u64 id;
};
/* before Linux 6.15, and since (kernfs: "kernfs: Use RCU to access kernfs_node::parent.") */
struct kernfs_node___old {
	struct kernfs_node *parent;
};
struct kernfs_node___new {
	struct kernfs_node *__parent;
};
struct cgroup {
	struct kernfs_node *kn;
};
struct css_set {
	struct cgroup *dfl_cgrp;
};
struct qstr {
	__u32 len;
	const unsigned char *name;
};
struct super_block {
	__u32 s_dev;
};
struct inode {
	unsigned long i_ino;
	unsigned int i_nlink;
	struct super_block *i_sb;
};
struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};
struct vfsmount {
	struct dentry *mnt_root;
};
struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};
struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};
struct file {
	struct path f_path;
	struct inode *f_inode;
};
struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};
struct files_struct {
	struct fdtable *fdt;
};
struct mm_struct {
	unsigned long arg_start, arg_end, env_start, env_end;
	struct file *exe_file;
};
struct fs_struct {
	int umask;
};
struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
	unsigned int is_child_subreaper : 1;
	unsigned int has_child_subreaper : 1;
	struct pid *pids[4];
};
struct sysv_sem {
	void *undo_list;
};
struct seccomp {
	int mode;
	atomic_t filter_count;
};
struct thread_info {
	unsigned long flags;
	__u32 status;
};
struct thread_struct {
	unsigned long fsbase;
};
struct task_struct {
	struct thread_info thread_info;
	unsigned int flags;
	void *mm;
	int exit_code;
	int exit_signal;
	unsigned long atomic_flags;
	pid_t pid, tgid;
	struct task_struct *real_parent;
	struct list_head children;
	struct pid *thread_pid;
	const struct cred *real_cred;
	char comm[16];
	struct sysv_sem sysvsem;
	struct fs_struct *fs;
	struct files_struct *files;
	void *io_context;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	void *sighand;
	struct seccomp seccomp;
	struct css_set *cgroups;
	struct thread_struct thread;
};
struct linux_binprm {
	struct file *file;
	int argc;
	const char *filename;
	const char *interp;
};
struct kernel_siginfo {
	int si_signo;
	int si_code;
	union {
		struct {
			pid_t _pid;
		} _kill;
		struct {
			pid_t _pid;
			unsigned int _uid;
			int _status;
		} _sigchld;
		struct {
			void *_addr;
		} _sigfault;
	} _sifields;
};
struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
	u64 session_id, seq_num;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

/* Of the events syscalls/sys_exit_*, as perf has them for programs. */
struct syscall_exit {
	u64 unused;
	int nr, pad;
	long ret;
};
/* struct pt_regs as words: how many are kept, and which of them a call is made with. What ptrace(2) gives of a task
 * comes first on every arch. */
struct pt_regs;
#if defined(__TARGET_ARCH_x86)
#define WORDS 21
#define NR(w) ((w)[15])
#define FIRST(w) ((w)[14])
#define SECOND(w) ((w)[13])
#define THIRD(w) ((w)[12])
#define FIFTH(w) ((w)[9])
#define SP(w) ((w)[19])
#define CLONE3 435
#define EXECVE 59
#define EXECVEAT 322
#define MAKES(nr) ((nr) == 56 || (nr) == 57 || (nr) == 58 || (nr) == CLONE3)
/* also i386's, which mean munmap and a free number here, and x32's */
#define IS_EXEC(nr) ((nr) == 59 || (nr) == 322 || (nr) == 11 || (nr) == 358 || (nr) == 0x40000208 || (nr) == 0x40000221)
#elif defined(__TARGET_ARCH_arm64)
#define WORDS 36 /* 34: orig_x0; 35: syscallno in its low half (arch/arm64/include/asm/ptrace.h) */
#define NR(w) ((__u32)(w)[35])
#define FIRST(w) ((w)[34])
#define SECOND(w) ((w)[1])
#define THIRD(w) ((w)[2])
#define FIFTH(w) ((w)[4])
#define SP(w) ((w)[31])
#define CLONE3 435
#define EXECVE 221
#define EXECVEAT 281
#define MAKES(nr) ((nr) == 220 || (nr) == CLONE3)
#define IS_EXEC(nr) ((nr) == EXECVE || (nr) == EXECVEAT)
#elif defined(__TARGET_ARCH_riscv)
#define WORDS 36 /* 35: orig_a0 (arch/riscv/include/asm/ptrace.h) */
#define NR(w) ((w)[17])
#define FIRST(w) ((w)[35])
#define SECOND(w) ((w)[11])
#define THIRD(w) ((w)[12])
#define FIFTH(w) ((w)[14])
#define SP(w) ((w)[2])
#define CLONE3 435
#define EXECVE 221
#define EXECVEAT 281
#define MAKES(nr) ((nr) == 220 || (nr) == CLONE3)
#define IS_EXEC(nr) ((nr) == EXECVE || (nr) == EXECVEAT)
#else
#error "no registers known for this arch"
#endif
