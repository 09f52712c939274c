"""What unshare, setns, close_range, setsid and ptrace refuse, each in the kernel's order."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from forklore.abi import flags as f
from forklore.abi.ptrace import Request
from forklore.abi.resources import NSTYPES
from forklore.decode.calls import CloseRange, Ptrace, Setns, Unshare
from forklore.decode.rules.creation import (
    USER_NAMESPACE,
    newuser_sysctl,
    none_allowed,
    not_built,
    without_admin,
)
from forklore.decode.rules.rule import (
    AnyCall,
    Context,
    Judge,
    Kernel,
    Numbers,
    Rule,
    all_of,
    any_of,
    at_least,
    both,
    certainly,
    has_all,
    has_any,
    known,
    negate,
    perhaps,
    possible_if,
)
from forklore.decode.unsharing import linked
from forklore.decode.versions import vocabulary

_UNSHARE: Final = "kernel/fork.c: ksys_unshare"
_CHECK: Final = "kernel/fork.c: check_unshare_flags"
_SETNS: Final = "kernel/nsproxy.c: setns"
_GROUP: Final = f.CLONE_THREAD | f.CLONE_SIGHAND | f.CLONE_VM


def _unknown_bit(call: AnyCall, context: Context) -> bool | None:
    if not isinstance(call, Unshare) or call.flags.raw is None:
        return None
    if call.flags.unknown or call.flags.raw & ~f.UNSHARE.mask:
        return True
    if context.kernel is not None:
        return bool(call.flags.raw & ~vocabulary("unshare", context.kernel).mask)
    return None if call.flags.raw & (f.UNSHARE_EMPTY_MNTNS | f.CLONE_NEWTIME) else False


def _many_threads(call: AnyCall, context: Context) -> bool | None:
    return all_of(has_any(_GROUP)(call, context), context.several_threads)


def _shared(judge: Judge, *names: str) -> Judge:
    """The judge of something that another process may share, by the names that the context has for it."""

    def shared(call: AnyCall, context: Context) -> bool | None:
        return all_of(judge(call, context), any_of(*(context.fact(name) for name in names)))

    return shared


def _fd(call: AnyCall, context: Context) -> bool | None:
    if not isinstance(call, Setns) or (call.fd is not None and call.fd < 0):
        return isinstance(call, Setns)
    # One that is open was opened with O_PATH (kernel/nsproxy.c: fdget).
    return True if context.fact("fd_open") is False else None




def entered(call: AnyCall, context: Context) -> int | None:
    """The flags of the namespace types that a setns is about; 0: its descriptor is of none. None: not known."""
    if not isinstance(call, Setns) or context.target is None:
        return None
    found = linked(context.target)
    if found is not None:
        return NSTYPES[found[0]]
    return call.flags.raw if _is_pidfd(context.target) else 0


def _is_pidfd(target: str) -> bool:
    # fs/pidfs.c since 6.9, an anonymous inode before.
    return target.startswith(("pidfd:", "anon_inode:[pidfd]"))


def _setns_thing(call: AnyCall, context: Context) -> bool | None:
    """Whether the descriptor is neither a namespace nor a pidfd."""
    if context.target is None:
        return None
    return not _is_pidfd(context.target) and not entered(call, context)


def _setns_type(call: AnyCall, context: Context) -> bool | None:
    """Whether a namespace is of another type than nstype says."""
    if not isinstance(call, Setns) or call.flags.raw is None or call.flags.raw == 0:
        return False if isinstance(call, Setns) and call.flags.raw == 0 else None
    if context.target is None:
        return None
    kind = entered(call, context)
    return False if _is_pidfd(context.target) or not kind else call.flags.raw != kind


def _setns_pidfd(call: AnyCall, context: Context) -> bool | None:
    """Whether nstype names no type of namespace, or none that there is, for a pidfd."""
    if not isinstance(call, Setns) or call.flags.raw is None:
        return None
    wrong = not call.flags.raw or bool(call.flags.unknown)
    return all_of(None if context.target is None else _is_pidfd(context.target), wrong)


def _entering(flags: int) -> Judge:
    """The judge of a setns into a namespace of one of these types."""

    def judge(call: AnyCall, context: Context) -> bool | None:
        types = entered(call, context)
        if types is None and isinstance(call, Setns) and call.flags.raw:
            types = call.flags.raw
        return None if types is None else bool(types & flags)

    return judge


def _of_pidfd(_call: AnyCall, context: Context) -> bool | None:
    return None if context.target is None or _is_pidfd(context.target) else False


def _setns_capability(call: AnyCall, context: Context) -> bool | None:
    # Entering a user namespace gives the capabilities that the rest asks for (kernel/nsproxy.c: validate_nsset).
    needs = all_of(_entering(f.NAMESPACES)(call, context), negate(_entering(f.CLONE_NEWUSER)(call, context)))
    if needs is False:
        return None
    lacking = any_of(
        negate(context.capable("CAP_SYS_ADMIN")),
        all_of(_entering(f.CLONE_NEWNS)(call, context), negate(context.capable("CAP_SYS_CHROOT"))),
    )
    return True if needs and lacking else None


def _own_user(call: AnyCall, context: Context) -> bool | None:
    own, found = context.limits.get("user_ns"), linked(context.target)
    return None if own is None or found is None or found[0] != "user" else found[1] == own


def _setns_target(context: Context) -> str | None:
    return None if context.target is None else f"it is {context.target}"


def _range_order(call: AnyCall, _context: Context) -> bool | None:
    if not isinstance(call, CloseRange) or call.first is None or call.last is None:
        return None
    return call.first > call.last


def _range_flags(call: AnyCall, context: Context) -> bool | None:
    if not isinstance(call, CloseRange) or call.flags.raw is None:
        return None
    if call.flags.unknown:
        return True
    return negate(at_least(context, (5, 11))) if call.flags.raw & f.CLOSE_RANGE_CLOEXEC else False


def _range_copies(call: AnyCall, _context: Context) -> bool | None:
    return False if isinstance(call, CloseRange) and call.unshares is False else None


def _is_traced(call: AnyCall, context: Context) -> bool | None:
    # Who asks to be traced is seen to by its tracer, so that it has one.
    return True if isinstance(call, Ptrace) and call.request == Request.TRACEME else context.fact("traced")


def _asks_for_another(call: AnyCall, _context: Context) -> bool | None:
    return None if isinstance(call, Ptrace) and call.request != Request.TRACEME else False


def _r(call: str, id_: str, errno: str, judge: Judge, text: str, advice: str, source: str, *,
       since: Kernel | None = None, until: Kernel | None = None, numbers: Numbers | None = None) -> Rule:  # fmt: skip
    return Rule(id_, errno, (call,), source, text, advice, judge, since, until, numbers)


UNSHARE: Final = (
    _r("unshare", "unshare-unknown", "ENOSYS", certainly,
       "this kernel has no unshare, which came with Linux 2.6.16", "do without it", "unshare(2)", until=(2, 6, 16)),
    _r("unshare", "unshare-unknown-flag", "EINVAL", _unknown_bit,
       ("a flag is set that unshare does not take, or not on this kernel (CLONE_NEWUSER and CLONE_NEWPID came with"
        " 3.8, CLONE_NEWCGROUP with 4.6, CLONE_NEWTIME with 5.6, UNSHARE_EMPTY_MNTNS with 7.1)"),
       "unshare takes THREAD, FS, SIGHAND, VM, FILES, SYSVSEM and the namespaces", _CHECK),
    _r("unshare", "unshare-threaded", "EINVAL", _many_threads,
       "CLONE_THREAD, CLONE_SIGHAND, CLONE_VM and what implies them (CLONE_NEWUSER) need a process with one thread",
       "call it before the first thread is made", _CHECK),
    _r("unshare", "unshare-sighand-shared", "EINVAL", _shared(has_any(f.CLONE_SIGHAND | f.CLONE_VM), "sighand_shared"),
       "another process shares the signal actions, and unshare cannot separate them", "exec separates them", _CHECK),
    _r("unshare", "unshare-vm-shared", "EINVAL", _shared(has_all(f.CLONE_VM), "mm_shared"),
       "another process shares the memory, and unshare cannot separate it", "exec separates it", _CHECK),
    *(replace(rule, id=f"unshare-{rule.id}", calls=("unshare",)) for rule in USER_NAMESPACE),
    _r("unshare", "unshare-userns-sysctl", "EPERM", newuser_sysctl,
       "a distribution's sysctl kernel.unprivileged_userns_clone is 0 and the caller lacks CAP_SYS_ADMIN",
       "sysctl kernel.unprivileged_userns_clone=1, as root (Debian's kernels have it)",
       "Debian's patch of " + _UNSHARE),
    _r("unshare", "unshare-memory", "ENOMEM", perhaps,
       "no memory for the private copy or the namespace", "look at the memory cgroup and at free memory", _UNSHARE),
    _r("unshare", "unshare-files-limit", "EMFILE", possible_if(has_all(f.CLONE_FILES)),
       "the descriptor table has grown beyond what fs.nr_open allows now", "close the high descriptors first",
       "fs/file.c: dup_fd"),
    _r("unshare", "unshare-privilege", "EPERM", without_admin,
       "a new namespace other than a user namespace needs CAP_SYS_ADMIN in the user namespace that will own it",
       "add CLONE_NEWUSER, or run with CAP_SYS_ADMIN", "kernel/nsproxy.c: unshare_nsproxy_namespaces"),
    _r("unshare", "unshare-namespace-limit", "ENOSPC", none_allowed,
       ("the user has as many namespaces of that type as /proc/sys/user/max_*_namespaces allows, or pid namespaces"
        " are nested 32 deep"),
       "raise that sysctl, or let go of some", "kernel/ucount.c: inc_ucount"),
    _r("unshare", "unshare-newpid-again", "EINVAL", both(has_all(f.CLONE_NEWPID), known("pid_pending")),
       "the caller has made a pid namespace for its children already, or entered one with setns",
       "fork first: the child may", "kernel/pid_namespace.c: copy_pid_ns"),
    _r("unshare", "unshare-not-built", "EINVAL", not_built,
       "this kernel was built without that type of namespace",
       "look for CONFIG_*_NS in the kernel's configuration; ls /proc/self/ns shows what there is",
       "unshare(2)"),
)  # fmt: skip

SETNS: Final = (
    _r("setns", "setns-unknown", "ENOSYS", certainly,
       "this kernel has no setns, which came with Linux 3.0", "do without it", "setns(2)", until=(3, 0)),
    _r("setns", "setns-descriptor", "EBADF", _fd,
       "the descriptor is not open", "open /proc/PID/ns/NAME, or a pidfd", _SETNS),
    _r("setns", "setns-thing", "EINVAL", _setns_thing,
       "the descriptor is neither a namespace nor a pidfd", "open /proc/PID/ns/NAME, or a pidfd", _SETNS,
       numbers=_setns_target),
    _r("setns", "setns-type", "EINVAL", _setns_type,
       "the descriptor is a namespace of another type than nstype says", "pass 0, which fits any", _SETNS,
       numbers=_setns_target),
    _r("setns", "setns-pidfd-type", "EINVAL", _setns_pidfd,
       "the descriptor is a pidfd, and nstype is 0 or has a bit that is no type of namespace",
       "name the types to enter", "kernel/nsproxy.c: check_setns_flags", since=(5, 8)),
    _r("setns", "setns-dead", "ESRCH", _of_pidfd,
       "the process of the pidfd has ended", "hold the namespace by /proc/PID/ns/NAME instead", _SETNS),
    _r("setns", "setns-pidfd-access", "EPERM", lambda c, x: all_of(_of_pidfd(c, x), negate(x.fact("fd_own"))),
       "the caller may not inspect the process of the pidfd as ptrace would", "run with CAP_SYS_PTRACE",
       "kernel/nsproxy.c: validate_nsset"),
    _r("setns", "setns-capability", "EPERM", _setns_capability,
       ("the caller lacks CAP_SYS_ADMIN over the target namespace or in its own user namespace (a mount namespace "
        "wants CAP_SYS_CHROOT too)"),
       "enter the owning user namespace first", "the install functions of each namespace"),
    _r("setns", "setns-user", "EINVAL", lambda c, x: all_of(
           _entering(f.CLONE_NEWUSER)(c, x), any_of(_own_user(c, x), x.several_threads, x.fact("fs_shared"))),
       ("a user namespace: it is the caller's own already, or the caller has several threads or shares root and "
        "working directory (CLONE_FS)"),
       "call it from a process with one thread", "kernel/user_namespace.c: userns_install"),
    _r("setns", "setns-mount-shared-fs", "EINVAL", both(_entering(f.CLONE_NEWNS), known("fs_shared")),
       "a mount namespace, and root and working directory are shared with another task (threads share them)",
       "unshare(CLONE_FS) first", "fs/namespace.c: mntns_install"),
    _r("setns", "setns-pid-outside", "EINVAL", possible_if(_entering(f.CLONE_NEWPID)),
       "a pid namespace that is neither the caller's nor inside it", "one can only go down",
       "kernel/pid_namespace.c: pidns_install"),
    _r("setns", "setns-time-threaded", "EUSERS", both(_entering(f.CLONE_NEWTIME), lambda _c, x: x.several_threads),
       "a time namespace, and the caller has several threads", "call it before the first thread is made",
       "kernel/time/namespace.c: timens_install"),
)  # fmt: skip

OTHERS: Final = (
    _r("close_range", "close-range-unknown", "ENOSYS", certainly,
       "this kernel has no close_range, which came with Linux 5.9", "close the descriptors one by one",
       "close_range(2)", until=(5, 9)),
    _r("close_range", "close-range-flags", "EINVAL", _range_flags,
       "a flag is set that close_range does not take (CLOSE_RANGE_CLOEXEC came with 5.11)",
       "use CLOSE_RANGE_UNSHARE and CLOSE_RANGE_CLOEXEC only", "fs/file.c: sys_close_range"),
    _r("close_range", "close-range-order", "EINVAL", _range_order,
       "the first descriptor is greater than the last", "swap them", "fs/file.c: sys_close_range"),
    _r("close_range", "close-range-memory", "ENOMEM", _range_copies,
       "no memory for the private descriptor table", "look at free memory", "fs/file.c: dup_fd"),
    _r("close_range", "close-range-limit", "EMFILE", _range_copies,
       "the descriptor table has grown beyond what fs.nr_open allows now", "close the high descriptors first",
       "fs/file.c: dup_fd"),
    _r("setsid", "setsid-leader", "EPERM", known("group"),
       "the caller leads a process group already, or another group has its pid as its number",
       "fork first: the child leads none", "kernel/sys.c: ksys_setsid"),
    _r("ptrace", "ptrace-traced", "EPERM", _is_traced,
       "forklore traces the task already, and a task has one tracer",
       "run the program without forklore, or leave the task to its own tracer with --follow",
       "kernel/ptrace.c: ptrace_traceme, ptrace_attach"),
    _r("ptrace", "ptrace-access", "EPERM", _asks_for_another,
       "the caller may not trace the task: another user's or set-id, or Yama allows descendants only",
       "see kernel.yama.ptrace_scope, or run with CAP_SYS_PTRACE", "kernel/ptrace.c: __ptrace_may_access"),
    _r("ptrace", "ptrace-no-task", "ESRCH", _asks_for_another,
       "there is no such task, or it is ending", "nothing: it is gone", "kernel/ptrace.c: ptrace_attach"),
)  # fmt: skip
