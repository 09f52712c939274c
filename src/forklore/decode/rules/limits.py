"""What a creation can lack although its arguments are right: a place, memory, a pid, or leave to make the
call."""

from __future__ import annotations

from typing import Final

from forklore.abi import flags as f
from forklore.abi.errors import errno_number
from forklore.abi.syscalls import CREATIONS
from forklore.decode.calls import CALLS, Unshare
from forklore.decode.creation import Creation
from forklore.decode.rules.rule import (
    AnyCall,
    Context,
    Judge,
    Numbers,
    Rule,
    all_of,
    at_least,
    both,
    has_all,
    has_any,
    lacks,
    negate,
    perhaps,
    possible_if,
    reached,
)

_COPY: Final = "kernel/fork.c: copy_process"
SECCOMP: Final = "kernel/seccomp.c: __seccomp_filter"
"""Where filters are run, before the call: the source of every rule about them."""
_FILTERS: Final = (3, 5)
"""The first kernel with filters (seccomp(2): SECCOMP_SET_MODE_FILTER)."""
_OTHERS: Final = tuple(CALLS.values())
_NAMESPACES: Final = f.NAMESPACES & ~f.CLONE_NEWTIME
_STRICT: Final = 2
_MODES: Final = {0: "heuristic", _STRICT: "strict"}
SCHED_DEADLINE: Final = 6
"""The policy of that name (include/uapi/linux/sched.h)."""


def _no_clone3(call: AnyCall, context: Context) -> bool | None:
    if not isinstance(call, Creation) or call.call != "clone3":
        return False
    return negate(at_least(context, (5, 3)))


def answers(name: str) -> Judge:
    """The judge of a seccomp filter that answers with the error of that name."""
    number = errno_number(name)

    def judge(_call: AnyCall, context: Context) -> bool | None:
        if context.filtered is False or context.fact("seccomp_tracer"):
            return False
        told = context.limits.get("seccomp_errno")
        return None if told is None else told == number

    return judge


def _is_flagged(call: AnyCall) -> bool:
    """Whether namespace flags of the call make a container's filter refuse it."""
    return isinstance(call, Unshare) or (isinstance(call, Creation) and call.call == "clone")


def _no_tracer(_call: AnyCall, context: Context) -> bool | None:
    if context.filtered is False or context.fact("seccomp_errno"):
        return False
    return context.fact("seccomp_tracer")


def _nproc(call: AnyCall, context: Context) -> bool | None:
    """RLIMIT_NPROC binds neither root nor a caller with one of two capabilities, in the first user namespace."""
    exempt = context.capable("CAP_SYS_RESOURCE", "CAP_SYS_ADMIN")
    if context.fact("user_ns_first") is False:
        exempt = False
    if context.user == 0 or exempt:
        return False
    # Without its capabilities known, an ordinary user is taken to have none of these two.
    bound = None if context.user is None and exempt is None else True
    return all_of(reached("rlimit_nproc", "user_tasks")(call, context), bound)


def _deadline(_call: AnyCall, context: Context) -> bool | None:
    policy = context.limits.get("policy")
    # The value has the reset-on-fork bit in it (kernel/sched/syscalls.c: sched_getscheduler).
    return None if policy is None else policy == SCHED_DEADLINE


def _nproc_numbers(context: Context) -> str | None:
    limit, tasks = context.limits.get("rlimit_nproc"), context.limits.get("user_tasks")
    if limit is None:
        return None
    user = "the user" if context.user is None else f"user {context.user}"
    has = "" if tasks is None else f" and {user} has {tasks} tasks"
    return f"RLIMIT_NPROC is {limit}{has}"


def _threads_numbers(context: Context) -> str | None:
    most, now = context.limits.get("threads_max"), context.limits.get("threads_now")
    if most is None:
        return None
    return f"kernel.threads-max is {most}" + ("" if now is None else f" and the machine has {now} tasks")


def _pids_numbers(context: Context) -> str | None:
    most, now = context.limits.get("pids_max"), context.limits.get("pids_current")
    if most is None:
        return None
    return f"pids.max is {most}" + ("" if now is None else f" and the cgroup has {now} tasks")


def _pid_max_numbers(context: Context) -> str | None:
    most, now = context.limits.get("pid_max"), context.limits.get("threads_now")
    if most is None:
        return None
    return f"kernel.pid_max is {most}" + ("" if now is None else f" and the machine has {now} tasks")


def _init_ended(_call: AnyCall, context: Context) -> bool | None:
    # The caller's own namespace has an init: its end kills the caller (kernel/pid_namespace.c: zap_pid_ns_processes).
    return False if context.fact("pid_pending") is False else context.fact("init_ended")


def _overcommit(call: AnyCall, context: Context) -> bool | None:
    copies, limits = lacks(f.CLONE_VM)(call, context), context.limits
    mode, most, now = limits.get("overcommit_memory"), limits.get("commit_limit"), limits.get("committed")
    wanted = limits.get("private")
    if mode == 1 or not copies:
        return False if mode == 1 else copies
    if mode != _STRICT or most is None or now is None or wanted is None:
        return None
    return True if now + wanted > most else None


def _overcommit_numbers(context: Context) -> str | None:
    limits = context.limits
    mode, most, now = limits.get("overcommit_memory"), limits.get("commit_limit"), limits.get("committed")
    if mode is None:
        return None
    text = f"vm.overcommit_memory is {mode} ({_MODES.get(mode, 'unknown')})"
    if mode != _STRICT or most is None or now is None or "private" not in limits:
        return text
    return f"{text}, {now} of {most} kB are committed and the caller's pages are {limits['private']} kB more"


def _r(id_: str, errno: str, judge: Judge, text: str, advice: str, source: str = _COPY, *,
       calls: tuple[str, ...] = CREATIONS, since: tuple[int, int] | None = None,
       numbers: Numbers | None = None) -> Rule:  # fmt: skip
    return Rule(id_, errno, calls, source, text, advice, judge, since=since, numbers=numbers)


ENTRY: Final = (
    _r("clone3-unknown", "ENOSYS", _no_clone3,
       "this kernel has no clone3, which came with Linux 5.3", "fall back to clone, as C libraries do",
       "clone(2)"),
    _r("seccomp-enosys", "ENOSYS", answers("ENOSYS"),
       ("a seccomp filter answers the call with ENOSYS; container runtimes do so for clone3, whose flags a filter "
        "cannot read"),
       "nothing, if the program falls back to clone; else allow the call in the profile", SECCOMP, since=_FILTERS),
    _r("seccomp-enosys-other", "ENOSYS", answers("ENOSYS"),
       "a seccomp filter answers the call with ENOSYS", "allow the call in the profile", SECCOMP,
       calls=_OTHERS, since=_FILTERS),
    _r("seccomp-no-tracer", "ENOSYS", _no_tracer,
       "a seccomp filter hands the call to a tracer (SECCOMP_RET_TRACE) and there is none any more",
       "filters outlive the tracer that installed them: start the program anew", SECCOMP,
       calls=CREATIONS + _OTHERS, since=_FILTERS),
    _r("seccomp-eperm", "EPERM", both(answers("EPERM"), has_any(_NAMESPACES)),
       ("a seccomp filter answers the call with EPERM; container runtimes do so for clone and unshare with "
        "namespace flags"),
       "allow the call in the profile, or give the container CAP_SYS_ADMIN", SECCOMP, calls=("clone", "unshare"),
       since=_FILTERS),
    _r("seccomp-eperm-clone3", "EPERM", answers("EPERM"),
       ("a seccomp filter answers clone3 with EPERM, as those of container runtimes do that are older than the "
        "call; C libraries fall back to clone on ENOSYS only"),
       "use a newer container runtime, or let its profile answer clone3 with ENOSYS", SECCOMP, calls=("clone3",),
       since=_FILTERS),
    _r("seccomp-eperm-plain", "EPERM",
       lambda c, x: all_of(answers("EPERM")(c, x), negate(has_any(_NAMESPACES)(c, x)) if _is_flagged(c) else True),
       "a seccomp filter answers the call with EPERM", "allow the call in the profile", SECCOMP,
       calls=("fork", "vfork", "clone", *_OTHERS), since=_FILTERS),
)  # fmt: skip
"""What happens before the kernel looks at the arguments."""

ALLOCATE: Final = (
    _r("task-memory", "ENOMEM", perhaps,
       "no memory for the task or its kernel stack, or the memory cgroup is at its limit",
       "look at memory.max of the cgroup and at free memory", "kernel/fork.c: dup_task_struct"),
)  # fmt: skip

TASKS: Final = (
    _r("rlimit-nproc", "EAGAIN", _nproc,
       "the user has as many tasks, threads included, as RLIMIT_NPROC allows",
       "raise ulimit -u, or end some of the user's tasks", numbers=_nproc_numbers),
    _r("threads-max", "EAGAIN", reached("threads_max", "threads_now"),
       "the machine has as many tasks as kernel.threads-max allows",
       "raise the sysctl kernel.threads-max", numbers=_threads_numbers),
    _r("deadline-parent", "EAGAIN", _deadline,
       "the caller runs under SCHED_DEADLINE, which children must not inherit",
       "set SCHED_FLAG_RESET_ON_FORK", "kernel/sched/core.c: sched_fork", since=(3, 14)),
    _r("fs-in-exec", "EAGAIN", possible_if(has_all(f.CLONE_FS)),
       "another thread that shares root and working directory is inside execve at this moment",
       "try again", "kernel/fork.c: copy_fs"),
    _r("memory-overcommit", "ENOMEM", _overcommit,
       ("copying the caller's memory would commit more than the overcommit rule allows: every writable private "
        "page counts, though none is copied yet"),
       "use vfork or posix_spawn, which copy nothing, or see vm.overcommit_memory", "mm/mmap.c: dup_mmap",
       numbers=_overcommit_numbers),
    _r("killed-in-copy", "EINTR", possible_if(lacks(f.CLONE_VM)),
       "the caller was killed while it waited for its memory map", "nothing: no user code sees this",
       "mm/mmap.c: dup_mmap"),
)  # fmt: skip

PIDS: Final = (
    _r("pids-exhausted", "EAGAIN", reached("pid_max", "threads_now"),
       "no pid is free: every number below kernel.pid_max is in use (zombies, sessions and groups hold theirs)",
       "raise the sysctl kernel.pid_max", "kernel/pid.c: alloc_pid", numbers=_pid_max_numbers),
    _r("pidns-init-dead", "ENOMEM", _init_ended,
       "the init of the pid namespace that the child would be in has ended: nothing can be created there any more",
       "after unshare(CLONE_NEWPID), keep the first child alive", "kernel/pid.c: alloc_pid"),
)  # fmt: skip

CGROUP_LIMIT: Final = (
    _r("pids-max", "EAGAIN", reached("pids_max", "pids_current"),
       "the cgroup, or one above it, has as many tasks as pids.max allows",
       "raise pids.max (systemd: TasksMax=; docker: --pids-limit)", "kernel/cgroup/pids.c: pids_can_fork",
       since=(4, 3), numbers=_pids_numbers),
    _r("killed-late", "EINTR", perhaps,
       "the caller got SIGKILL during the call", "nothing: no user code sees this"),
)  # fmt: skip
