/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the programs write, as forklore.sources.bpf.raw reads it: a test holds the two together. Members are naturally
 * aligned and leave no gaps. Texts follow their record. */
#pragma once

enum kind {
	CREATE = 1,
	EXECUTING,
	TEXT,
	EXEC,
	EXIT,
	SIGNAL,
	NAME,
	BEGIN,
	RETURN,
	JOB,
	KINDS = 16,
};

/* What a TEXT belongs to. */
enum { ARGV = 1, ENVP, DIRECTORY };
/* Whether it is the last of its text, and whether that is all of it. */
enum { WHOLE = 1, MORE };

struct head {
	__u16 kind;
	__u16 cpu;
	__u32 tid;
	__u64 time;   /* CLOCK_MONOTONIC */
	__u64 number; /* taken before room is asked for, so that a gap is a loss */
	__u32 task;   /* a number of ours: tids are used again */
	__u32 tgid;
};

/* Which kernel objects a task holds, in the order of kcmp(2)'s types as forklore compares them. Addresses: they are
 * compared by the reader and go no further. */
struct objects {
	__u64 mm, files, fs, sighand, sysvsem, io;
};

struct standing {
	__s32 ppid, pgrp, session, exit_signal;
	__u32 no_new_privs, seccomp, seccomp_filters, umask;
	__u64 cgroup;
	__u32 mnt, uts, ipc, net, pid, pid_for_children, time, time_for_children, cgroup_ns, user;
};

/* A system call as the task's registers have it. */
struct call {
	__u64 words[WORDS];
	__u64 fs_base;
	__s32 struct_error;
	__u32 struct_size; /* as it was given */
	__s32 set_tid_error;
	__u32 set_tid_count;
	__u32 compat; /* x86: the call came by the 32-bit entry */
	__u32 struct_copied; /* fewer than were given where memory ends that is there */
	__u8 clone_args[128];
	__s32 set_tid[32];
};

struct create {
	struct head head;
	__u64 flags; /* the kernel's own, without the exit signal */
	__u32 child, child_tid, child_tgid;
	__u32 kernel_flags; /* PF_* of the child */
	__s32 exit_signal;
	__u32 level; /* how many pid namespaces the child is below ours */
	__u32 apart; /* namespaces, cgroup or user namespace differ from the creator's */
	__u32 stack_bytes;
	__s32 pids[8]; /* in each of these, from ours down */
	struct objects creators, childs;
	struct standing standing;
	struct call call;
	char comm[16];
	__u64 child_stack_at, descriptor_at; /* where these two lie in the memory */
	__u32 child_stack_bytes, descriptor_bytes;
	__u32 frames; /* of an interpreter's frames that were copied */
	__u32 frame_bytes; /* of each */
	__u32 frames_end; /* why there are no more: an enum */
	__u32 pad;
	/* the stack; then of the child's own stack what its clone() takes from there, and of a thread's descriptor what
	 * stands at and behind the place for its tid; then the interpreter's frames, innermost first */
};

/* Why no more frames of an interpreter were copied. */
enum { NO_INTERPRETER, OUTERMOST, DEEPER, UNREADABLE, NO_THREAD };

/* Where an interpreter of Python keeps the frames of its threads, told by the reader for each process. Offsets; NOWHERE:
 * this version has none such. */
struct interpreter {
	__u64 runtime; /* an address: _PyRuntime */
	__u16 interpreters_head, threads_head, thread_next, thread_id, thread_frame;
	__u16 inner; /* from what that leads to, to the frame itself */
	__u16 current_thread; /* from the runtime, to the thread that has the lock; or else from the interpreter */
	__u16 gil, gil_holder;
	__u16 frame_back, frame_bytes;
	__u16 by_tid; /* thread_id: what gettid() gives in it, not what pthread_self() does */
};
#define NOWHERE 0xffff

struct executing {
	struct head head;
	__s32 argc;
	__s32 path_bytes; /* with its NUL; -errno */
	__s32 fd;
	__u32 at_flags;
	__u32 at; /* execveat */
	__u32 pad;
	/* the path as given */
};

struct text {
	struct head head;
	__u32 what;
	__u32 bytes;
	__s32 error; /* of reading what would come next */
	__u32 last; /* 0: more follows */
	/* strings, one after another with their NULs; one may go on in the next record */
};

struct exec {
	struct head head;
	__u32 former_tid;
	__u32 script; /* another file than the one named is executed */
	__s32 argc;
	__u32 links; /* of the file that is executed now; 0: it is deleted */
	__u32 apart;
	__u32 file_bytes; /* of the names on the way up from the executed file */
	__u32 path_bytes; /* of bprm->filename, behind them */
	__u32 pad;
	struct objects objects;
	struct standing standing;
	char comm[16];
	/* both texts */
};

struct exit {
	struct head head;
	__s32 code;
	__s32 group_code;
	__u32 signal_flags;
	__u32 last; /* of its thread group */
	__s32 reaper; /* who inherits its children (0: nobody that is seen); -1: it has none, or is not the last */
	__u32 pad;
};

struct signal {
	struct head head; /* task, tid: the target */
	__s32 signal, code;
	__s32 sender; /* a tgid */
	__u32 to_process;
	__u64 address;
};

struct name {
	struct head head;
	char comm[16];
	__u32 by_itself;
	__u32 pad;
};

struct begin {
	struct head head;
	__s32 ppid;
	__u32 level;
	__u32 late; /* not by the look at what was there, but at the first record of it */
	__u32 kernel_flags;
	__s32 pids[8];
	__s32 process; /* its process's number in our pid namespace */
	__u32 pad;
	struct objects objects;
	struct standing standing;
	char comm[16];
};

struct returned {
	struct head head;
	__s64 result;
	struct objects objects;
	struct standing standing;
	struct call call;
};

struct job {
	struct head head; /* the process that stopped or goes on, where it is known here */
	__s32 signal;
	__u32 continued;
};
