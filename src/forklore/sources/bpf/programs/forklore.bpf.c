// SPDX-License-Identifier: GPL-2.0-or-later
/* What forklore's bpf engine runs in the kernel: at each event of a task that is followed, a record is written to one
 * ring. Nothing is held and nothing is changed. */
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "records.h"

char LICENSE[] SEC("license") = "GPL";

/* Set before the programs are loaded. */
const volatile __u32 stack_bytes = 0; /* how much of each creator's stack is copied */
const volatile __u32 wake_bytes = 1 << 20; /* the reader is woken when so much waits for it; it looks by itself, too */
const volatile __u32 everything = 0; /* follow whoever matches below, not just what descends from marked tasks */
const volatile __u32 only_uid = 0;
const volatile __u32 by_uid = 0;
const volatile __u32 by_comm = 0;
const volatile __u64 only_cgroup = 0; /* with what is below it */
const volatile char only_comm[16] = {};
const volatile __u32 no_arguments = 0;
const volatile __u32 late_arguments = 0; /* from the new memory, where sched_prepare_exec is not there */
const volatile __u32 environment = 0;

#define MOST_STACK 8192
#define BELOW 32 /* of a child's own stack: below its stack pointer, */
#define ABOVE 64 /* and above */
#define DESCRIPTOR 1280 /* of a thread's descriptor: glibc has the routine some 900 bytes behind the tid */
#define FRAMES 64 /* of an interpreter */
#define FRAME 128 /* bytes of one, at most */
#define THREADS 256 /* that are looked through for the one that calls */
#define MOST_BESIDE (MOST_STACK + BELOW + ABOVE + DESCRIPTOR)
#define MOST_MORE (MOST_BESIDE + FRAMES * FRAME)
#define ROUND 16384 /* of text, until it is written */
#define PIECE 8192 /* of a string, at once */
#define MOST_ARGUMENTS 8192 /* pieces of them */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 26);
} ring SEC(".maps");

struct state {
	__u32 id;
	__u32 late; /* the arguments of the exec that it is in are still to be read */
	__u32 tid;
	__u32 pad;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 18);
	__type(key, __u64); /* task_struct */
	__type(value, struct state);
} tasks SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 16);
	__type(key, __u32); /* tgid, in the reader's pid namespace */
	__type(value, __u32);
} marked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 14);
	__type(key, __u32); /* tgid, in the reader's pid namespace */
	__type(value, struct interpreter);
} interpreters SEC(".maps");

/* What a loop knows from one round to the next. It lies in a map: of what lies on the stack the verifier follows each
 * value through the rounds, at ten times the price. */
struct reading {
	__u64 next; /* the pointer to the next string */
	__u64 string; /* what is left of the current one; 0: none */
	__u64 used;
	__u32 task;
	__s32 error;
	__u32 whole;
};
struct climbing {
	struct dentry *dentry;
	struct mount *mount;
	__u64 used;
};
struct copying {
	__u64 start, end;
	__u32 task, what;
};
struct walking {
	__u64 next; /* thread or frame */
	__u64 wanted; /* the thread's id */
	__u64 used;
	__u32 count, size, end;
	__u16 step, id;
};

/* Of each processor, one for each program that runs with preemption off: it runs nowhere twice at once. RETURNING is for
 * function_returns, which may be preempted: `busy` keeps out the next that returns on the same processor. */
enum { MAKING, RETURNING, ROOMS };
#define SCRATCH(name, record, more)                                                                                    \
	struct name##_room {                                                                                           \
		__u64 busy;                                                                                            \
		union {                                                                                                \
			struct reading reading;                                                                        \
			struct climbing climbing;                                                                      \
			struct copying copying;                                                                        \
			struct walking walking;                                                                        \
		};                                                                                                     \
		struct record r;                                                                                       \
		char more_[more];                                                                                      \
	};                                                                                                             \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                                               \
		__uint(max_entries, ROOMS);                                                                            \
		__type(key, __u32);                                                                                    \
		__type(value, struct name##_room);                                                                     \
	} name SEC(".maps")
SCRATCH(creating, create, MOST_MORE);
SCRATCH(preparing, executing, 4096);
SCRATCH(arguing, text, ROUND + PIECE);
SCRATCH(executed, exec, 8192 + 4096);
SCRATCH(executed_text, text, ROUND);

/* Of who reads the records: found by the kernel, for in a pid namespace it cannot know. */
__u32 level = 0; /* of its pid namespace */
__u32 reader = 0; /* its tgid: never followed by what matches */

/* The reader looks at these. */
__u64 numbers = 0; /* records so far, lost or not */
__u64 lost[KINDS] = {}; /* of each kind */
__u64 overlooked = 0; /* tasks that found no room among those that are followed */
__u32 last_task = 0;
__s32 alive = 0; /* tasks that are followed and have not ended */

/* So that the type information has the layout of every record, for the test that compares it with the reader's. */
const struct {
	struct create create;
	struct executing executing;
	struct text text;
	struct exec exec;
	struct exit exit;
	struct signal signal;
	struct name name;
	struct begin begin;
	struct returned returned;
	struct job job;
	struct interpreter interpreter;
} *layouts = 0;

/* The compiler must not see through it: the verifier would not follow. */
#define CLAMP(v, most) asm volatile("if %[x] <= %[m] goto +1\n\t%[x] = %[m]" : [x] "+r"(v) : [m] "i"(most))

static __always_inline struct state *state_of(struct task_struct *task)
{
	__u64 key = (__u64)task;
	return bpf_map_lookup_elem(&tasks, &key);
}

static __always_inline void write_head(struct head *head, __u16 kind, __u32 task, struct task_struct *who)
{
	head->kind = kind;
	head->cpu = bpf_get_smp_processor_id();
	head->time = bpf_ktime_get_ns();
	head->task = task;
	head->tid = BPF_CORE_READ(who, pid);
	head->tgid = BPF_CORE_READ(who, tgid);
	head->number = __sync_fetch_and_add(&numbers, 1);
}

static __always_inline __u64 wake(void)
{
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >= wake_bytes ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

static __always_inline void output(void *record, __u64 size, __u32 kind)
{
	if (bpf_ringbuf_output(&ring, record, size, wake()))
		__sync_fetch_and_add(&lost[kind & (KINDS - 1)], 1);
}

#define RESERVED(type, kind, task, who)                                                                                \
	({                                                                                                             \
		struct head h_;                                                                                        \
		write_head(&h_, kind, task, who);                                                                      \
		struct type *r_ = bpf_ringbuf_reserve(&ring, sizeof(struct type), 0);                                  \
		if (r_)                                                                                                \
			r_->head = h_;                                                                                 \
		else                                                                                                   \
			__sync_fetch_and_add(&lost[kind], 1);                                                          \
		r_;                                                                                                    \
	})

static __always_inline struct upid number_in(struct pid *pid, __u32 at)
{
	struct upid upid = {};
	void *numbers_ = (void *)pid + bpf_core_field_offset(struct pid, numbers);
	__u64 size = bpf_core_type_size(struct upid);
	struct upid *where = numbers_ + size * (at & 31);
	upid.nr = BPF_CORE_READ(where, nr);
	upid.ns = BPF_CORE_READ(where, ns);
	return upid;
}

static __always_inline __u32 pid_levels(__s32 *pids, struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	__u32 below = BPF_CORE_READ(pid, level) - level;
	for (int i = 0; i < 8; i++) {
		pids[i] = 0;
		if (i <= below)
			pids[i] = number_in(pid, level + i).nr;
	}
	return below;
}

static __always_inline void objects_of(struct objects *o, struct task_struct *task)
{
	o->mm = (__u64)BPF_CORE_READ(task, mm);
	o->files = (__u64)BPF_CORE_READ(task, files);
	o->fs = (__u64)BPF_CORE_READ(task, fs);
	o->sighand = (__u64)BPF_CORE_READ(task, sighand);
	o->sysvsem = (__u64)BPF_CORE_READ(task, sysvsem.undo_list);
	o->io = (__u64)BPF_CORE_READ(task, io_context);
}

enum { PIDTYPE_TGID = 1, PIDTYPE_PGID, PIDTYPE_SID };

/* A process's own number, its group's or its session's, in the reader's pid namespace; 0: it is not seen there. */
static __always_inline __s32 process_number(struct task_struct *task, int type)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct pid *pid = BPF_CORE_READ(signal, pids[type]);
	return BPF_CORE_READ(pid, level) < level ? 0 : number_in(pid, level).nr;
}

static __always_inline void stands(struct standing *s, struct task_struct *task)
{
	struct nsproxy *n = BPF_CORE_READ(task, nsproxy);
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	s->ppid = process_number(parent, PIDTYPE_TGID);
	s->pgrp = process_number(task, PIDTYPE_PGID);
	s->session = process_number(task, PIDTYPE_SID);
	s->exit_signal = BPF_CORE_READ(task, exit_signal);
	s->no_new_privs = BPF_CORE_READ(task, atomic_flags) & 1;
	s->seccomp = BPF_CORE_READ(task, seccomp.mode);
	s->seccomp_filters = BPF_CORE_READ(task, seccomp.filter_count.counter);
	s->umask = BPF_CORE_READ(task, fs, umask);
	s->cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	s->mnt = BPF_CORE_READ(n, mnt_ns, ns.inum);
	s->uts = BPF_CORE_READ(n, uts_ns, ns.inum);
	s->ipc = BPF_CORE_READ(n, ipc_ns, ns.inum);
	s->net = BPF_CORE_READ(n, net_ns, ns.inum);
	s->pid_for_children = BPF_CORE_READ(n, pid_ns_for_children, ns.inum);
	s->time = BPF_CORE_READ(n, time_ns, ns.inum);
	s->time_for_children = BPF_CORE_READ(n, time_ns_for_children, ns.inum);
	s->cgroup_ns = BPF_CORE_READ(n, cgroup_ns, ns.inum);
	s->user = BPF_CORE_READ(task, real_cred, user_ns, ns.inum);
	struct pid_namespace *own = number_in(pid, BPF_CORE_READ(pid, level)).ns;
	s->pid = BPF_CORE_READ(own, ns.inum);
}

static long one_cgroup(__u32 i, void *context)
{
	struct kernfs_node **at = context, *kn = *at;
	if (!kn || BPF_CORE_READ(kn, id) == only_cgroup)
		return 1;
	if (bpf_core_field_exists(((struct kernfs_node___new *)0)->__parent))
		*at = BPF_CORE_READ((struct kernfs_node___new *)kn, __parent);
	else
		*at = BPF_CORE_READ((struct kernfs_node___old *)kn, parent);
	return 0;
}

static __always_inline bool below_cgroup(struct task_struct *task)
{
	struct kernfs_node *kn = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
	bpf_loop(64, one_cgroup, &kn, 0);
	return kn && BPF_CORE_READ(kn, id) == only_cgroup;
}

static __always_inline bool named_so(struct task_struct *task)
{
	char comm[16];
	bpf_probe_read_kernel(comm, sizeof(comm), (void *)task + bpf_core_field_offset(struct task_struct, comm));
	for (int i = 0; i < 16; i++) {
		if (comm[i] != only_comm[i])
			return 0;
		if (!comm[i])
			break;
	}
	return 1;
}

/* What gettid() gives in a task. */
static __always_inline __u32 innermost(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	return number_in(pid, BPF_CORE_READ(pid, level)).nr;
}

static __always_inline void forget_interpreter(struct task_struct *task)
{
	__u32 process = process_number(task, PIDTYPE_TGID);
	bpf_map_delete_elem(&interpreters, &process);
}

/* Whether a task that nothing leads to is to be followed. */
static __always_inline bool matches(struct task_struct *task)
{
	__u32 number = process_number(task, PIDTYPE_TGID);
	if (bpf_map_lookup_elem(&marked, &number))
		return 1;
	if (!everything || BPF_CORE_READ(task, tgid) == reader)
		return 0;
	if (only_cgroup && !below_cgroup(task))
		return 0;
	if (by_uid && BPF_CORE_READ(task, real_cred, uid.val) != only_uid)
		return 0;
	if (by_comm && !named_so(task))
		return 0;
	return 1;
}

#define EEXIST 17
#define CLONE_VM 0x100
#define CLONE_THREAD 0x10000
#define CLONE_PARENT_SETTID 0x100000

/* `*known`: another processor has met it meanwhile, or the look at what was there did. */
static __always_inline __u32 follow(struct task_struct *task, bool *known)
{
	struct state new = {}, *old;
	__u64 key = (__u64)task;
	new.id = __sync_fetch_and_add(&last_task, 1) + 1;
	new.tid = BPF_CORE_READ(task, pid);
	*known = 0;
	long problem = bpf_map_update_elem(&tasks, &key, &new, BPF_NOEXIST);
	if (problem == -EEXIST) {
		old = bpf_map_lookup_elem(&tasks, &key);
		if (old && old->tid == new.tid) {
			*known = 1;
			return old->id;
		}
		/* The end of the one that had this address before was not seen. */
		problem = bpf_map_update_elem(&tasks, &key, &new, BPF_ANY);
		if (!problem)
			return new.id; /* and the number of those alive is right */
	}
	if (problem) {
		__sync_fetch_and_add(&overlooked, 1);
		return 0;
	}
	__sync_fetch_and_add(&alive, 1);
	return new.id;
}

static __always_inline __u32 introduce(struct task_struct *task, __u32 late)
{
	bool known;
	__u32 id = follow(task, &known);
	if (!id || known)
		return id;
	struct begin *r = RESERVED(begin, BEGIN, id, task);
	if (!r)
		return id;
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	r->ppid = process_number(parent, PIDTYPE_TGID);
	r->level = pid_levels(r->pids, task);
	r->late = late;
	r->process = process_number(task, PIDTYPE_TGID);
	r->pad = 0;
	r->kernel_flags = BPF_CORE_READ(task, flags);
	objects_of(&r->objects, task);
	stands(&r->standing, task);
	bpf_probe_read_kernel(r->comm, 16, (void *)task + bpf_core_field_offset(struct task_struct, comm));
	bpf_ringbuf_submit(r, wake());
	return id;
}

/* The number of a task, which becomes known where it is to be followed. 0: it is not. */
static __always_inline __u32 followed(struct task_struct *task)
{
	struct state *state = state_of(task);
	if (state)
		return state->id;
	return everything && matches(task) ? introduce(task, 1) : 0;
}

static __always_inline void call_of(struct call *c, struct task_struct *me)
{
	bpf_probe_read_kernel(c->words, sizeof(c->words), (void *)bpf_task_pt_regs(me));
	c->struct_error = c->set_tid_error = 0;
	c->struct_size = c->set_tid_count = c->compat = c->struct_copied = 0;
	c->fs_base = 0;
#if defined(__TARGET_ARCH_x86)
	c->fs_base = BPF_CORE_READ(me, thread.fsbase);
	c->compat = BPF_CORE_READ(me, thread_info.status) & 2; /* TS_COMPAT */
#endif
	if (NR(c->words) != CLONE3 && !c->compat)
		return;
	/* clone3 has one number on every arch (include/uapi/asm-generic/unistd.h), but for i386's registers. */
	__u64 where = FIRST(c->words), size = SECOND(c->words);
	if (c->compat) {
#if defined(__TARGET_ARCH_x86)
		if (NR(c->words) != CLONE3)
			return;
		where = (__u32)c->words[5];
		size = (__u32)c->words[11];
#endif
	}
	c->struct_size = size > 0xffffffff ? 0xffffffff : size;
	CLAMP(size, 128);
	c->struct_error = bpf_probe_read_user(c->clone_args, size, (void *)where);
	if (c->struct_error) {
		__u64 here = 4096 - (where & 4095); /* up to the end of the page */
		if (here >= size)
			return;
		size = here;
		CLAMP(size, 128);
		c->struct_error = bpf_probe_read_user(c->clone_args, size, (void *)where);
		if (c->struct_error)
			return;
	}
	c->struct_copied = size;
	if (size < 80)
		return;
	__u64 set_tid = *(__u64 *)(c->clone_args + 64), count = *(__u64 *)(c->clone_args + 72);
	if (!set_tid || !count || count > 32)
		return;
	c->set_tid_count = count;
	CLAMP(count, 32);
	c->set_tid_error = bpf_probe_read_user(c->set_tid, count * 4, (void *)set_tid);
}

/* Page by page, so that one that is not there ends it and does not spoil what lies before. */
static __always_inline __u64 copy_stack(char *to, __u64 sp)
{
	__u64 got = 0;
	for (int i = 0; i < 3; i++) {
		__u64 size = 4096 - ((sp + got) & 4095), left = stack_bytes - got;
		if (got >= stack_bytes)
			break;
		if (size > left)
			size = left;
		CLAMP(size, 4096);
		CLAMP(got, MOST_STACK - 4096);
		if (bpf_probe_read_user(to + got, size, (void *)(sp + got)))
			break;
		got += size;
	}
	CLAMP(got, MOST_STACK);
	return got;
}

/* What a child is given to run lies on its own stack, a thread's in its descriptor, which CLONE_PARENT_SETTID points into,
 * too. Both are in memory that its creator has, or that is a copy of its creator's. */
static __always_inline __u64 copy_beside(struct creating_room *room, struct task_struct *child, __u64 flags, __u64 got)
{
	struct create *r = &room->r;
	__u64 words[WORDS];
	bpf_probe_read_kernel(words, sizeof(words), (void *)bpf_task_pt_regs(child));
	__u64 sp = SP(words), tid = 0;
	if (sp == SP(r->call.words))
		return got;
	CLAMP(got, MOST_STACK);
	r->child_stack_at = sp;
	if (!bpf_probe_read_user(room->more_ + got, BELOW, (void *)sp - BELOW)) {
		r->child_stack_at = sp - BELOW;
		r->child_stack_bytes = BELOW;
		got += BELOW;
	}
	__u64 above = 4096 - (sp & 4095);
	if (above > ABOVE)
		above = ABOVE;
	CLAMP(above, ABOVE);
	CLAMP(got, MOST_STACK + BELOW);
	if (!bpf_probe_read_user(room->more_ + got, above, (void *)sp)) {
		r->child_stack_bytes += above;
		got += above;
	}
	if (!(flags & CLONE_THREAD) || !(flags & CLONE_PARENT_SETTID))
		return got;
	if (NR(r->call.words) == CLONE3)
		tid = *(__u64 *)(r->call.clone_args + 24);
	else
		tid = THIRD(r->call.words);
	CLAMP(got, MOST_STACK + BELOW + ABOVE);
	if (!bpf_probe_read_user(room->more_ + got, DESCRIPTOR, (void *)tid)) {
		r->descriptor_at = tid;
		r->descriptor_bytes = DESCRIPTOR;
		got += DESCRIPTOR;
	}
	return got;
}

static __always_inline __u64 word_at(__u64 address)
{
	__u64 word = 0;
	return bpf_probe_read_user(&word, sizeof(word), (void *)address) ? 0 : word;
}

static long one_thread(__u32 i, void *context)
{
	__u32 zero = MAKING;
	struct creating_room *room = bpf_map_lookup_elem(&creating, &zero);
	if (!room)
		return 1;
	struct walking *on = &room->walking;
	if (!on->next || word_at(on->next + on->id) == on->wanted)
		return 1;
	on->next = word_at(on->next + on->step);
	return 0;
}

static long one_frame(__u32 i, void *context)
{
	__u32 zero = MAKING;
	struct creating_room *room = bpf_map_lookup_elem(&creating, &zero);
	if (!room)
		return 1;
	struct walking *on = &room->walking;
	__u64 used = on->used, size = on->size;
	if (!on->next) {
		on->end = OUTERMOST;
		return 1;
	}
	CLAMP(used, MOST_MORE - FRAME);
	CLAMP(size, FRAME);
	if (bpf_probe_read_user(room->more_ + used, size, (void *)on->next)) {
		on->end = UNREADABLE;
		return 1;
	}
	on->next = word_at(on->next + on->step);
	on->used = used + size;
	on->count++;
	return 0;
}

/* Innermost first, as they are while the thread makes the call; what they refer to is read later. */
static __always_inline __u64 copy_frames(struct creating_room *room, struct interpreter *its, __u32 tid, __u64 got)
{
	struct create *r = &room->r;
	struct walking *on = &room->walking;
	__u64 wanted = its->by_tid ? tid : r->call.fs_base;
	__u64 python = word_at(its->runtime + its->interpreters_head), thread;
	/* Who makes a call has the lock, as a rule, or had it last. */
	if (its->current_thread != NOWHERE)
		thread = word_at(its->runtime + its->current_thread);
	else
		thread = word_at(word_at(python + its->gil) + its->gil_holder);
	if (!thread || word_at(thread + its->thread_id) != wanted) {
		on->next = word_at(python + its->threads_head);
		on->wanted = wanted;
		on->step = its->thread_next;
		on->id = its->thread_id;
		bpf_loop(THREADS, one_thread, 0, 0);
		thread = on->next;
		if (!thread || word_at(thread + its->thread_id) != wanted) {
			r->frames_end = NO_THREAD;
			return got;
		}
	}
	on->next = word_at(thread + its->thread_frame);
	if (on->next && its->inner != NOWHERE)
		on->next = word_at(on->next + its->inner);
	on->used = got;
	on->size = its->frame_bytes;
	on->step = its->frame_back;
	on->count = 0;
	on->end = DEEPER;
	bpf_loop(FRAMES, one_frame, 0, 0);
	r->frames = on->count;
	r->frame_bytes = on->size;
	r->frames_end = on->end == DEEPER && !on->next ? OUTERMOST : on->end;
	return on->used;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(task_newtask, struct task_struct *child, u64 flags)
{
	struct task_struct *me = bpf_get_current_task_btf();
	__u32 zero = 0, creator = followed(me);
	if (!creator)
		return 0;
	bool known;
	__u32 id = follow(child, &known);
	if (!id || known) /* known: it stands in the trace as one that was there already */
		return 0;
	struct creating_room *room = bpf_map_lookup_elem(&creating, &zero);
	if (!room)
		return 0;
	struct create *r = &room->r;
	write_head(&r->head, CREATE, creator, me);
	r->flags = flags;
	r->child = id;
	r->child_tid = BPF_CORE_READ(child, pid);
	r->child_tgid = BPF_CORE_READ(child, tgid);
	r->kernel_flags = BPF_CORE_READ(child, flags);
	r->exit_signal = BPF_CORE_READ(child, exit_signal);
	r->level = pid_levels(r->pids, child);
	objects_of(&r->creators, me);
	objects_of(&r->childs, child);
	r->apart = BPF_CORE_READ(me, nsproxy) != BPF_CORE_READ(child, nsproxy) ||
		   BPF_CORE_READ(me, cgroups) != BPF_CORE_READ(child, cgroups) ||
		   BPF_CORE_READ(me, real_cred, user_ns) != BPF_CORE_READ(child, real_cred, user_ns) ||
		   BPF_CORE_READ(me, thread_pid, level) != BPF_CORE_READ(child, thread_pid, level);
	/* A thread is where its process is. */
	if (!(flags & CLONE_THREAD))
		stands(&r->standing, child);
	call_of(&r->call, me);
	bpf_probe_read_kernel(r->comm, 16, (void *)child + bpf_core_field_offset(struct task_struct, comm));
	__u64 stack = stack_bytes ? copy_stack(room->more_, SP(r->call.words)) : 0;
	CLAMP(stack, MOST_STACK);
	r->stack_bytes = stack;
	r->child_stack_at = r->descriptor_at = 0;
	r->child_stack_bytes = r->descriptor_bytes = 0;
	if (stack_bytes && !r->call.compat)
		stack = copy_beside(room, child, flags, stack);
	r->frames = r->frame_bytes = r->frames_end = r->pad = 0;
	if (stack_bytes && !r->call.compat) {
		__u32 process = process_number(me, PIDTYPE_TGID);
		struct interpreter *its = bpf_map_lookup_elem(&interpreters, &process);
		if (its) {
			CLAMP(stack, MOST_BESIDE);
			stack = copy_frames(room, its, innermost(me), stack);
			__u32 new = process_number(child, PIDTYPE_TGID);
			if (!(flags & CLONE_VM)) /* its memory begins as a copy */
				bpf_map_update_elem(&interpreters, &new, its, BPF_ANY);
		}
	}
	CLAMP(stack, MOST_MORE);
	output(r, sizeof(*r) + stack, CREATE);
	return 0;
}

/* A loop's body by bpf_loop is verified once, however often it runs (Linux 5.17). Its context says which room. */
static __always_inline void write_text(struct text *r, struct reading *on, __u32 last)
{
	__u64 used = on->used;
	CLAMP(used, ROUND + PIECE);
	r->what = ARGV;
	r->bytes = used;
	r->last = last;
	r->error = on->error;
	write_head(&r->head, TEXT, on->task, bpf_get_current_task_btf());
	output(r, sizeof(*r) + used, TEXT);
}

static long one_argument(__u32 i, void *context)
{
	__u32 which = *(__u32 *)context;
	struct arguing_room *room = bpf_map_lookup_elem(&arguing, &which);
	if (!room)
		return 1;
	struct reading *on = &room->reading;
	if (!on->string) {
		__u64 string = 0;
		on->error = bpf_probe_read_user(&string, 8, (void *)on->next);
		if (on->error || !string) {
			on->whole = 1;
			return 1;
		}
		on->string = string;
		on->next += 8;
	}
	if (on->used >= ROUND) {
		write_text(&room->r, on, 0);
		on->used = 0;
	}
	__u64 used = on->used;
	CLAMP(used, ROUND);
	long got = bpf_probe_read_user_str(room->more_ + used, PIECE, (void *)on->string);
	if (got < 0) {
		on->error = got;
		return 1;
	}
	if (got == PIECE) { /* it goes on: the NUL is written over */
		on->used = used + PIECE - 1;
		on->string += PIECE - 1;
	} else {
		on->used = used + got;
		on->string = 0;
	}
	return 0;
}

/* The arguments as they were given: the old memory is still there, and the kernel has just read all of it
 * (fs/exec.c: copy_strings), so that nothing of it is paged out. */
static __always_inline void arguments(__u32 task, __u64 argv, __u32 which)
{
	struct arguing_room *room = bpf_map_lookup_elem(&arguing, &which);
	if (!room)
		return;
	struct reading *on = &room->reading;
	on->next = argv;
	on->task = task;
	on->string = on->used = 0;
	on->error = on->whole = 0;
	bpf_loop(MOST_ARGUMENTS, one_argument, &which, 0);
	write_text(&room->r, on, on->whole ? WHOLE : MORE);
}

/* The names on the way from a file up to the root, innermost first, each with a NUL, are written to ``scratch``. */
#define CLIMB(scratch, function, most)                                                                                 \
	static long function##_step(__u32 i, void *context)                                                            \
	{                                                                                                              \
		__u32 which = *(__u32 *)context;                                                                       \
		struct scratch##_room *room = bpf_map_lookup_elem(&scratch, &which);                                   \
		if (!room)                                                                                             \
			return 1;                                                                                      \
		struct climbing *on = &room->climbing;                                                                 \
		struct dentry *dentry = on->dentry, *parent = BPF_CORE_READ(dentry, d_parent);                         \
		struct mount *mount = on->mount;                                                                       \
		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root)) {                                                    \
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);                                        \
			on->dentry = BPF_CORE_READ(mount, mnt_mountpoint);                                             \
			on->mount = above;                                                                             \
			return above == mount;                                                                         \
		}                                                                                                      \
		__u64 used = on->used;                                                                                 \
		CLAMP(used, most - 256);                                                                               \
		long got = bpf_probe_read_kernel_str(room->more_ + used, 256, BPF_CORE_READ(dentry, d_name.name));     \
		if (got < 0)                                                                                           \
			return 1;                                                                                      \
		on->used = used + got;                                                                                 \
		on->dentry = parent;                                                                                   \
		return parent == dentry; /* a file in no directory: memfd */                                           \
	}                                                                                                              \
	static __always_inline __u64 function(struct scratch##_room *room, struct file *file, __u32 which)             \
	{                                                                                                              \
		struct climbing *on = &room->climbing;                                                                 \
		struct vfsmount *vfs = BPF_CORE_READ(file, f_path.mnt);                                                \
		on->dentry = BPF_CORE_READ(file, f_path.dentry);                                                       \
		on->mount = (void *)vfs - bpf_core_field_offset(struct mount, mnt);                                    \
		on->used = 0;                                                                                          \
		bpf_loop(128, function##_step, &which, 0);                                                             \
		__u64 used = on->used;                                                                                 \
		CLAMP(used, most);                                                                                     \
		return used;                                                                                           \
	}
CLIMB(executed, names_of_executed, 8192)
CLIMB(arguing, names_of_directory, 8192)

/* What the descriptor of an execveat refers to: where the path begins, or the file itself. */
static __always_inline void directory(__u32 task, struct task_struct *me, __s32 fd, __u32 which)
{
	struct fdtable *table = BPF_CORE_READ(me, files, fdt);
	struct file **files = BPF_CORE_READ(table, fd), *file = 0;
	struct arguing_room *room = bpf_map_lookup_elem(&arguing, &which);
	if (!room || fd < 0 || fd >= BPF_CORE_READ(table, max_fds))
		return;
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	if (!file)
		return;
	struct text *r = &room->r;
	__u64 used = names_of_directory(room, file, which);
	CLAMP(used, 8192);
	r->what = DIRECTORY;
	r->bytes = used;
	r->last = BPF_CORE_READ(file, f_inode, i_nlink) ? WHOLE : MORE; /* MORE: it is deleted */
	r->error = 0;
	write_head(&r->head, TEXT, task, me);
	output(r, sizeof(*r) + used, TEXT);
}

/* Linux 6.10. */
SEC("tp_btf/sched_prepare_exec")
int BPF_PROG(sched_prepare_exec, struct task_struct *task, struct linux_binprm *bprm)
{
	struct task_struct *me = bpf_get_current_task_btf();
	__u64 words[WORDS];
	__u32 zero = 0, id = followed(me);
	if (!id)
		return 0;
	struct preparing_room *room = bpf_map_lookup_elem(&preparing, &zero);
	if (!room)
		return 0;
	struct executing *r = &room->r;
	bpf_probe_read_kernel(words, sizeof(words), (void *)bpf_task_pt_regs(me));
	write_head(&r->head, EXECUTING, id, me);
	r->argc = BPF_CORE_READ(bprm, argc);
	__u32 at = NR(words) == EXECVEAT, plain = NR(words) == EXECVE;
#if defined(__TARGET_ARCH_x86)
	if (BPF_CORE_READ(me, thread_info.status) & 2)
		at = plain = 0; /* i386's: pointers of 4 bytes */
#endif
	r->at = at;
	r->fd = at ? (__s32)FIRST(words) : -100;
	r->at_flags = at ? FIFTH(words) : 0;
	r->pad = 0;
	__u64 path = at ? SECOND(words) : FIRST(words), argv = at ? THIRD(words) : SECOND(words);
	long got;
	if (at || plain)
		got = bpf_probe_read_user_str(room->more_, 4096, (void *)path);
	else
		got = bpf_probe_read_kernel_str(room->more_, 4096, BPF_CORE_READ(bprm, filename));
	r->path_bytes = got;
	__u64 size = got < 0 ? 0 : got;
	CLAMP(size, 4096);
	output(r, sizeof(*r) + size, EXECUTING);
	struct state *state = state_of(me);
	if (state)
		state->late = !(at || plain);
	if (at && r->fd != -100)
		directory(id, me, r->fd, MAKING);
	if (!no_arguments && (at || plain))
		arguments(id, argv, MAKING);
	return 0;
}

static long one_block(__u32 i, void *context)
{
	__u32 zero = MAKING;
	struct executed_text_room *room = bpf_map_lookup_elem(&executed_text, &zero);
	if (!room)
		return 1;
	struct copying *on = &room->copying;
	struct text *r = &room->r;
	__u64 size = on->end - on->start;
	r->what = on->what;
	r->last = size <= ROUND ? WHOLE : 0;
	CLAMP(size, ROUND);
	r->error = bpf_probe_read_user(room->more_, size, (void *)on->start);
	if (r->error) {
		size = 0;
		r->last = WHOLE;
	}
	r->bytes = size;
	write_head(&r->head, TEXT, on->task, bpf_get_current_task_btf());
	output(r, sizeof(*r) + size, TEXT);
	on->start += ROUND;
	return r->last != 0;
}

static __always_inline void memory_text(__u32 task, __u32 what, __u64 start, __u64 end)
{
	__u32 zero = MAKING;
	struct executed_text_room *room = bpf_map_lookup_elem(&executed_text, &zero);
	if (!room)
		return;
	room->copying.start = start;
	room->copying.end = end;
	room->copying.task = task;
	room->copying.what = what;
	bpf_loop(512, one_block, 0, 0);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *task, pid_t former, struct linux_binprm *bprm)
{
	__u32 zero = 0, id = followed(task);
	if (!id)
		return 0;
	struct executed_room *room = bpf_map_lookup_elem(&executed, &zero);
	if (!room)
		return 0;
	struct mm_struct *mm = (struct mm_struct *)BPF_CORE_READ(task, mm);
	forget_interpreter(task);
	struct state *state = state_of(task);
	if (!no_arguments && (late_arguments || (state && state->late)))
		memory_text(id, ARGV, BPF_CORE_READ(mm, arg_start), BPF_CORE_READ(mm, arg_end));
	if (environment)
		memory_text(id, ENVP, BPF_CORE_READ(mm, env_start), BPF_CORE_READ(mm, env_end));
	struct exec *r = &room->r;
	struct file *file = BPF_CORE_READ(mm, exe_file);
	write_head(&r->head, EXEC, id, task);
	r->former_tid = former;
	r->script = BPF_CORE_READ(bprm, interp) != BPF_CORE_READ(bprm, filename);
	r->argc = BPF_CORE_READ(bprm, argc);
	r->links = BPF_CORE_READ(file, f_inode, i_nlink);
	r->apart = 0;
	r->pad = 0;
	objects_of(&r->objects, task);
	stands(&r->standing, task);
	bpf_probe_read_kernel(r->comm, 16, (void *)task + bpf_core_field_offset(struct task_struct, comm));
	__u64 used = names_of_executed(room, file, MAKING);
	CLAMP(used, 8192);
	r->file_bytes = used;
	long got = bpf_probe_read_kernel_str(room->more_ + used, 4096, BPF_CORE_READ(bprm, filename));
	__u64 path = got < 0 ? 0 : got;
	CLAMP(path, 4096);
	r->path_bytes = path;
	output(r, sizeof(*r) + used + path, EXEC);
	return 0;
}

struct ancestry {
	struct task_struct *above, *init, *found;
};

static long one_ancestor(__u32 i, void *context)
{
	struct ancestry *on = context;
	/* Not on->init in BPF_CORE_READ: our own struct would be looked for in the kernel. */
	struct task_struct *above = on->above, *init = on->init;
	struct signal_struct *its = BPF_CORE_READ(above, signal);
	__s32 tgid = BPF_CORE_READ(above, tgid);
	if (its == BPF_CORE_READ(init, signal) || tgid <= 1)
		return 1;
	if (BPF_CORE_READ_BITFIELD_PROBED(its, is_child_subreaper) && BPF_CORE_READ(its, live.counter) > 0) {
		on->found = above;
		return 1;
	}
	on->above = BPF_CORE_READ(above, real_parent);
	return 0;
}

/* Who waits for the children of a process whose last thread ends (kernel/exit.c: find_new_reaper). */
static __always_inline __s32 reaper_of(struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	struct pid *pid = BPF_CORE_READ(task, thread_pid);
	struct pid_namespace *own = number_in(pid, BPF_CORE_READ(pid, level)).ns;
	struct task_struct *init = BPF_CORE_READ(own, child_reaper);
	struct ancestry on = { .init = init };
	if (BPF_CORE_READ_BITFIELD_PROBED(signal, has_child_subreaper)) {
		on.above = BPF_CORE_READ(task, real_parent);
		bpf_loop(1024, one_ancestor, &on, 0);
		if (on.found)
			init = on.found;
	}
	return process_number(init, PIDTYPE_TGID);
}

static __always_inline int ends(struct task_struct *task, bool last)
{
	__u32 id = followed(task);
	__u64 key = (__u64)task;
	if (!id)
		return 0;
	/* Before anything can fail: the address is used again, and a stranger would be followed. */
	bpf_map_delete_elem(&tasks, &key);
	__s32 left = __sync_fetch_and_add(&alive, -1) - 1;
	if (last)
		forget_interpreter(task);
	struct exit *r = RESERVED(exit, EXIT, id, task);
	if (!r)
		return 0;
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	r->code = BPF_CORE_READ(task, exit_code);
	r->group_code = BPF_CORE_READ(signal, group_exit_code);
	r->signal_flags = BPF_CORE_READ(signal, flags);
	r->last = last;
	r->pad = 0;
	r->reaper = -1;
	if (last) {
		void *children = (void *)task + bpf_core_field_offset(struct task_struct, children);
		if ((void *)BPF_CORE_READ(task, children.next) != children)
			r->reaper = reaper_of(task);
	}
	bpf_ringbuf_submit(r, left <= 0 ? BPF_RB_FORCE_WAKEUP : wake());
	return 0;
}

/* Linux 6.16. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task, bool group_dead)
{
	return ends(task, group_dead);
}

/* Before: of two threads that end at the same time both may find that none is left. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit_before, struct task_struct *task)
{
	return ends(task, BPF_CORE_READ(task, signal, live.counter) == 0);
}

#define SIGKILL 9
#define SIGCHLD 17
#define SIGCONT 18
#define SIGURG 23
#define SIGWINCH 28
#define CLD_STOPPED 5
#define CLD_CONTINUED 6

static __always_inline void job(struct kernel_siginfo *info, int code)
{
	/* current is the process that stopped or goes on, or who sent it there (kernel/signal.c: do_notify_parent_cldstop) */
	struct task_struct *me = bpf_get_current_task_btf();
	struct state *state = state_of(me);
	if (!state)
		return;
	struct job *r = RESERVED(job, JOB, state->id, me);
	if (!r)
		return;
	r->signal = BPF_CORE_READ(info, _sifields._sigchld._status);
	r->continued = code == CLD_CONTINUED;
	bpf_ringbuf_submit(r, wake());
}

SEC("tp_btf/signal_generate")
int BPF_PROG(signal_generate, int signal, struct kernel_siginfo *info, struct task_struct *target, int to_process, int result)
{
	int code = (__u64)info > 1 ? BPF_CORE_READ(info, si_code) : info ? 0x80 : 0;
	if (signal == SIGCHLD) {
		if ((__u64)info > 1 && (code == CLD_STOPPED || code == CLD_CONTINUED))
			job(info, code);
		return 0;
	}
	if (signal == SIGCONT || signal == SIGURG || signal == SIGWINCH || (result != 0 && result != 4))
		return 0;
	struct state *state = state_of(target);
	if (!state)
		return 0;
	struct signal *r = RESERVED(signal, SIGNAL, state->id, target);
	if (!r)
		return 0;
	r->signal = signal;
	r->code = code;
	r->to_process = to_process;
	r->address = 0;
	r->sender = 0;
	if ((__u64)info > 1 && code > 0)
		r->address = (__u64)BPF_CORE_READ(info, _sifields._sigfault._addr);
	else if (code <= 0 || signal == SIGKILL)
		r->sender = process_number((struct task_struct *)bpf_get_current_task(), PIDTYPE_TGID);
	bpf_ringbuf_submit(r, wake());
	return 0;
}

SEC("tp_btf/task_rename")
int BPF_PROG(task_rename, struct task_struct *task, const char *comm)
{
	struct task_struct *me = bpf_get_current_task_btf();
	__u64 words[WORDS];
	struct state *state = state_of(task);
	if (!state)
		return 0;
	bpf_probe_read_kernel(words, sizeof(words), (void *)bpf_task_pt_regs(me));
	if (task == me && IS_EXEC(NR(words)))
		return 0; /* the exec's own record has it */
	struct name *r = RESERVED(name, NAME, state->id, task);
	if (!r)
		return 0;
	bpf_probe_read_kernel_str(r->comm, 16, comm);
	r->by_itself = task == me;
	r->pad = 0;
	bpf_ringbuf_submit(r, wake());
	return 0;
}

#define CLOSE_RANGE 436 /* on every arch */
#define CLOSE_RANGE_UNSHARE 2

/* Whether a call that returns is to be told: a creation or an exec that was refused, or what changes what is shared. */
static __always_inline bool told(__u64 *words, long result)
{
	if (result <= -512 && result >= -516)
		return 0; /* -ERESTART…: it is entered again */
	bpf_probe_read_kernel(words, sizeof(__u64) * WORDS, (void *)bpf_task_pt_regs(bpf_get_current_task_btf()));
	__u64 nr = NR(words);
	if (result >= 0 && (nr == EXECVEAT || nr == EXECVE || MAKES(nr)))
		return 0; /* it has a record of its own */
	return nr != CLOSE_RANGE || THIRD(words) & CLOSE_RANGE_UNSHARE;
}

static __always_inline void told_exec(__u32 id, struct task_struct *me, __u64 *words, __u32 which)
{
	__u32 at = NR(words) == EXECVEAT;
	struct preparing_room *room = bpf_map_lookup_elem(&preparing, &which);
	if (!room)
		return;
	struct executing *r = &room->r;
	write_head(&r->head, EXECUTING, id, me);
	r->argc = 0;
	r->at = at;
	r->fd = at ? (__s32)FIRST(words) : -100;
	r->at_flags = at ? FIFTH(words) : 0;
	r->pad = 0;
	__u64 path = at ? SECOND(words) : FIRST(words), argv = at ? THIRD(words) : SECOND(words);
	long got = bpf_probe_read_user_str(room->more_, 4096, (void *)path);
	r->path_bytes = got;
	__u64 size = got < 0 ? 0 : got;
	CLAMP(size, 4096);
	output(r, sizeof(*r) + size, EXECUTING);
	if (at && r->fd != -100)
		directory(id, me, r->fd, which);
	if (!no_arguments)
		arguments(id, argv, which);
}

static __always_inline int told_return(__u32 id, struct task_struct *me, long result)
{
	struct returned *r = RESERVED(returned, RETURN, id, me);
	if (!r)
		return 0;
	r->result = result;
	objects_of(&r->objects, me);
	stands(&r->standing, me);
	call_of(&r->call, me);
	bpf_ringbuf_submit(r, wake());
	return 0;
}

static __always_inline int returns(long result, __u32 which)
{
	struct task_struct *me = bpf_get_current_task_btf();
	__u64 words[WORDS];
	__u32 id;
	if (!told(words, result) || !(id = followed(me)))
		return 0;
	if (NR(words) != EXECVEAT && NR(words) != EXECVE)
		return told_return(id, me, result);
	struct preparing_room *room = bpf_map_lookup_elem(&preparing, &which);
	if (!room)
		return 0;
	if (which == RETURNING && __sync_lock_test_and_set(&room->busy, 1)) {
		__sync_fetch_and_add(&numbers, 1);
		__sync_fetch_and_add(&lost[RETURN], 1);
		return 0;
	}
	told_exec(id, me, words, which);
	if (which == RETURNING)
		__sync_lock_test_and_set(&room->busy, 0);
	return told_return(id, me, result);
}

/* Attached to sys_exit_clone and its like, one by one. Preemption is off (kernel/trace/trace_syscalls.c). */
SEC("tracepoint/syscalls/sys_exit_clone")
int syscall_returns(struct syscall_exit *context)
{
	return returns(context->ret, MAKING);
}

/* Loaded for each of the functions but those of execs: of all of them the registers are the only argument. What an exec
 * needs takes the verifier ten times as long as the rest. */
SEC("fexit/sys_clone")
int BPF_PROG(function_returns, void *registers, long result)
{
	struct task_struct *me = bpf_get_current_task_btf();
	__u64 words[WORDS];
	__u32 id;
	if (!told(words, result) || !(id = followed(me)))
		return 0;
	return told_return(id, me, result);
}

SEC("fexit/sys_execve")
int BPF_PROG(exec_returns, void *registers, long result)
{
	return returns(result, RETURNING);
}

SEC("iter/task")
int who_reads(struct bpf_iter__task *context)
{
	struct task_struct *me = bpf_get_current_task_btf();
	reader = BPF_CORE_READ(me, tgid);
	level = BPF_CORE_READ(me, thread_pid, level);
	return 0;
}

/* What is there already. */
SEC("iter/task")
int existing(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	if (task && !state_of(task) && matches(task))
		introduce(task, 0);
	return 0;
}
