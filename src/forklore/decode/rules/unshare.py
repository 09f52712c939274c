"""What unshare, setns, close_range and setsid refuse, each in the kernel's order."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from forklore.abi import flags as f
from forklore.decode.calls import CloseRange, Setns, Unshare
from forklore.decode.rules.creation import NEW_ALL, USER_NAMESPACE, without_admin
from forklore.decode.rules.rule import (
    AnyCall,
    Context,
    Judge,
    Rule,
    all_of,
    at_least,
    has_all,
    has_any,
    negate,
    perhaps,
    possible_if,
)

_UNSHARE: Final = "kernel/fork.c: ksys_unshare"
_CHECK: Final = "kernel/fork.c: check_unshare_flags"
_SETNS: Final = "kernel/nsproxy.c: setns"
_GROUP: Final = f.CLONE_THREAD | f.CLONE_SIGHAND | f.CLONE_VM
_VALID: Final = _GROUP | f.CLONE_FS | f.CLONE_FILES | f.CLONE_SYSVSEM | NEW_ALL | f.CLONE_NEWUSER


def _unknown_bit(call: AnyCall, context: Context) -> bool | None:
    if not isinstance(call, Unshare) or call.flags.raw is None:
        return None
    if call.flags.raw & ~(_VALID | f.UNSHARE_EMPTY_MNTNS):
        return True
    if call.flags.raw & f.UNSHARE_EMPTY_MNTNS:
        return negate(at_least(context, (7, 1)))
    if call.flags.raw & f.CLONE_NEWTIME:
        return negate(at_least(context, (5, 6)))
    return False


def _many_threads(call: AnyCall, context: Context) -> bool | None:
    several = None if context.threads is None else context.threads > 1
    return all_of(has_any(_GROUP)(call, context), several)


def _fd(call: AnyCall, _context: Context) -> bool | None:
    return None if not isinstance(call, Setns) or call.fd is None or call.fd >= 0 else True


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


def _r(call: str, id_: str, errno: str, judge: Judge, text: str, advice: str, source: str) -> Rule:
    return Rule(id_, errno, (call,), source, text, advice, judge)


UNSHARE: Final = (
    _r("unshare", "unshare-unknown-flag", "EINVAL", _unknown_bit,
       "a flag is set that unshare does not take, or not on this kernel (CLONE_NEWTIME: 5.6, "
       "UNSHARE_EMPTY_MNTNS: 7.1)",
       "unshare takes THREAD, FS, SIGHAND, VM, FILES, SYSVSEM and the namespaces", _CHECK),
    _r("unshare", "unshare-threaded", "EINVAL", _many_threads,
       "CLONE_THREAD, CLONE_SIGHAND, CLONE_VM and what implies them (CLONE_NEWUSER) need a process with one "
       "thread",
       "call it before the first thread is made", _CHECK),
    _r("unshare", "unshare-sighand-shared", "EINVAL", possible_if(has_any(f.CLONE_SIGHAND | f.CLONE_VM)),
       "another process shares the signal actions, and unshare cannot separate "
       "them", "exec separates them", _CHECK),
    _r("unshare", "unshare-vm-shared", "EINVAL", possible_if(has_all(f.CLONE_VM)),
       "another process shares the memory, and unshare cannot separate it", "exec separates it", _CHECK),
    *(replace(rule, id=f"unshare-{rule.id}", calls=("unshare",)) for rule in USER_NAMESPACE),
    _r("unshare", "unshare-userns-sysctl", "EPERM", possible_if(has_all(f.CLONE_NEWUSER)),
       "a distribution's sysctl kernel.unprivileged_userns_clone is 0 and the caller lacks CAP_SYS_ADMIN",
       "sysctl kernel.unprivileged_userns_clone=1, as root (Debian's kernels have "
       "it)", "Debian's patch of " + _UNSHARE),
    _r("unshare", "unshare-memory", "ENOMEM", perhaps,
       "no memory for the private copy or the namespace", "look at the memory cgroup and at free "
                                                          "memory", _UNSHARE),
    _r("unshare", "unshare-files-limit", "EMFILE", possible_if(has_all(f.CLONE_FILES)),
       "the descriptor table has grown beyond what fs.nr_open allows now", "close the high descriptors first",
       "fs/file.c: dup_fd"),
    _r("unshare", "unshare-privilege", "EPERM", without_admin,
       "a new namespace other than a user namespace needs CAP_SYS_ADMIN in the user namespace that will own "
       "it",
       "add CLONE_NEWUSER, or run with CAP_SYS_ADMIN", "kernel/nsproxy.c: unshare_nsproxy_namespaces"),
    _r("unshare", "unshare-namespace-limit", "ENOSPC", possible_if(has_any(NEW_ALL)),
       "the user has as many namespaces of that type as /proc/sys/user/max_*_namespaces allows, or pid "
       "namespaces "
       "are nested 32 deep", "raise that sysctl, or let go of some", "kernel/ucount.c: inc_ucount"),
    _r("unshare", "unshare-newpid-again", "EINVAL", possible_if(has_all(f.CLONE_NEWPID)),
       "the caller has made a pid namespace for its children already, or entered one with setns",
       "fork first: the child may", "kernel/pid_namespace.c: copy_pid_ns"),
    _r("unshare", "unshare-not-built", "EINVAL", possible_if(has_any(NEW_ALL | f.CLONE_NEWUSER)),
       "this kernel was built without that type of namespace",
       "look for CONFIG_*_NS in the kernel's configuration; ls /proc/self/ns shows what there is",
       "unshare(2)"),
    _r("unshare", "unshare-seccomp", "EPERM", perhaps,
       "a seccomp filter answers the call with EPERM, as container runtimes do without CAP_SYS_ADMIN",
       "allow the call in the profile", "kernel/seccomp.c: __seccomp_filter"),
)  # fmt: skip

SETNS: Final = (
    _r("setns", "setns-descriptor", "EBADF", _fd,
       "the descriptor is not open", "open /proc/PID/ns/NAME, or a pidfd", _SETNS),
    _r("setns", "setns-type", "EINVAL", perhaps,
       "the descriptor is neither a namespace nor a pidfd, or a namespace of another type than nstype says, "
       "or nstype "
       "for a pidfd is 0 or has an unknown bit", "pass 0 for a namespace's descriptor, the types for a "
                                                 "pidfd", _SETNS),
    _r("setns", "setns-dead", "ESRCH", perhaps,
       "the process of the pidfd has ended", "hold the namespace by /proc/PID/ns/NAME instead", _SETNS),
    _r("setns", "setns-pidfd-access", "EPERM", perhaps,
       "the caller may not inspect the process of the pidfd as ptrace would", "run with CAP_SYS_PTRACE",
       "kernel/nsproxy.c: validate_nsset"),
    _r("setns", "setns-capability", "EPERM", perhaps,
       "the caller lacks CAP_SYS_ADMIN over the target namespace or in its own user namespace (a mount "
       "namespace wants "
       "CAP_SYS_CHROOT too)", "enter the owning user namespace first", "the install functions of each "
                                                                       "namespace"),
    _r("setns", "setns-user", "EINVAL", perhaps,
       "a user namespace: it is the caller's own already, or the caller has several threads or shares root "
       "and "
       "working directory (CLONE_FS)", "call it from a process with one thread", "kernel/user_namespace.c: "
                                                                                 "userns_install"),
    _r("setns", "setns-mount-shared-fs", "EINVAL", perhaps,
       "a mount namespace, and root and working directory are shared with another task (threads share them)",
       "unshare(CLONE_FS) first", "fs/namespace.c: mntns_install"),
    _r("setns", "setns-pid-outside", "EINVAL", perhaps,
       "a pid namespace that is neither the caller's nor inside "
       "it", "one can only go down", "kernel/pid_namespace.c: pidns_install"),
    _r("setns", "setns-time-threaded", "EUSERS", perhaps,
       "a time namespace, and the caller has several threads", "call it before the first thread is made",
       "kernel/time/namespace.c: timens_install"),
)  # fmt: skip

OTHERS: Final = (
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
    _r("setsid", "setsid-leader", "EPERM", perhaps,
       "the caller leads a process group already, or another group has its pid as its number",
       "fork first: the child leads none", "kernel/sys.c: ksys_setsid"),
)  # fmt: skip
