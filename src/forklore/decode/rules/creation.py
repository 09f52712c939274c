"""What the kernel refuses to create, and what it lacks the means for: fork, vfork, clone and clone3.

In groups that :mod:`forklore.decode.rules.table` puts in the order of kernel/fork.c: kernel_clone and
copy_process, with those of :mod:`forklore.decode.rules.limits` between them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.abi.resources import NAMESPACES
from forklore.abi.signals import SIGRTMAX
from forklore.abi.syscalls import CREATIONS
from forklore.abi.units import PID_LIMIT
from forklore.decode.clone_struct import SET_TID_MAX
from forklore.decode.creation import Creation
from forklore.decode.rules.rule import (
    NOTHING_KNOWN,
    AnyCall,
    Context,
    Judge,
    Kernel,
    Rule,
    all_of,
    both,
    flags_of,
    has_all,
    has_any,
    known,
    lacks,
    negate,
    possible_if,
    reached,
)

CLONES: Final = ("clone", "clone3")
NEW_ALL: Final = f.NAMESPACES & ~f.CLONE_NEWUSER
"""Every namespace flag but CLONE_NEWUSER, as clone3 and unshare know them."""
_COPY: Final = "kernel/fork.c: copy_process"
_CLONE: Final = "kernel/fork.c: kernel_clone"
_USERNS: Final = "kernel/user_namespace.c: create_user_ns"
_PID: Final = "kernel/pid.c: alloc_pid"
_PIDNS: Final = "kernel/pid_namespace.c: copy_pid_ns"
_CGROUP: Final = "kernel/cgroup/cgroup.c: cgroup_css_set_fork"
_LAST_LENIENT: Final = (6, 18)
_FIRST_STRICT: Final = (7, 2)


def _on(judge: Callable[[Creation, Context], bool | None]) -> Judge:
    def typed(call: AnyCall, context: Context) -> bool | None:
        return judge(call, context) if isinstance(call, Creation) else False

    return typed


def _same_pointer(c: Creation, _: Context) -> bool | None:
    given = has_all(f.CLONE_PIDFD | f.CLONE_PARENT_SETTID)(c, _)
    if not given or c.call == "clone":
        return given
    if c.words.pidfd is None or c.words.parent_tid is None:
        return None
    return c.words.pidfd == c.words.parent_tid


def _clone_signal(c: Creation, context: Context) -> bool | None:
    """clone(2) took any number up to 6.18 at least, and refuses them from 7.2 at the latest."""
    if c.exit_signal is None or context.kernel is None:
        return None if c.exit_signal is None or c.exit_signal > SIGRTMAX else False
    if c.exit_signal <= SIGRTMAX or context.kernel <= _LAST_LENIENT:
        return False
    return True if context.kernel >= _FIRST_STRICT else None


def newns(c: AnyCall, context: Context) -> bool | None:
    """Whether the call asks for a mount namespace: CLONE_EMPTY_MNTNS implies CLONE_NEWNS."""
    return has_any(NAMESPACES["mnt"].new_by if isinstance(c, Creation) else f.CLONE_NEWNS)(c, context)


def new_namespace(c: AnyCall, context: Context) -> bool | None:
    """Whether the call asks for a namespace other than a user namespace."""
    return True if newns(c, context) else has_any(NEW_ALL)(c, context)


def without_admin(call: AnyCall, context: Context) -> bool | None:
    """Whether a new namespace is asked for without CAP_SYS_ADMIN in the user namespace that will own it."""
    inside = has_any(f.CLONE_NEWUSER)(call, context)
    return all_of(new_namespace(call, context), negate(inside), negate(context.capable("CAP_SYS_ADMIN")))


def _autokill_privilege(call: AnyCall, context: Context) -> bool | None:
    asked = both(has_all(f.CLONE_PIDFD_AUTOKILL), lacks(f.CLONE_NNP))(call, context)
    return all_of(asked, negate(context.capable("CAP_SYS_ADMIN")))


def _autoreap_clash(c: Creation, context: Context) -> bool | None:
    asked = has_all(f.CLONE_AUTOREAP)(c, context)
    if asked and c.exit_signal:
        return True
    clash = has_any(f.CLONE_THREAD | f.CLONE_PARENT)(c, context)
    return None if asked and clash is False and c.exit_signal is None else all_of(asked, clash)


def _autokill_clash(call: AnyCall, context: Context) -> bool | None:
    complete = both(has_all(f.CLONE_PIDFD | f.CLONE_AUTOREAP), lacks(f.CLONE_THREAD))
    return all_of(has_all(f.CLONE_PIDFD_AUTOKILL)(call, context), negate(complete(call, context)))


def _tls_range(c: Creation, context: Context) -> bool | None:
    """x86_64 refuses a thread pointer outside user space; how far that reaches depends on the page tables'
    depth."""
    if c.arch not in (Arch.X86_64, Arch.X32):
        return False
    if c.tls is None:
        return None if c.flags.raw is None or (c.flags.raw & f.CLONE_SETTLS) else False
    if c.tls >= 1 << 56:
        return True
    return None if c.tls >= (1 << 47) - 4096 else False


def _descriptor_tls(c: Creation, context: Context) -> bool | None:
    return has_all(f.CLONE_SETTLS)(c, context) if c.arch is Arch.I386 else False


def _wants_tids(c: Creation, _: Context) -> bool | None:
    return False if c.call != "clone3" else None if c.words.set_tid_size is None else c.words.set_tid_size > 0


def _tid_invalid(c: Creation, context: Context) -> bool | None:
    wanted = _wants_tids(c, context)
    if not wanted:
        return wanted
    if any(t < 1 or t >= PID_LIMIT for t in c.set_tid):
        return True
    # pid_max is the caller's pid namespace's since 6.14: it proves nothing about the inner levels.
    return None


def _tid_privilege(c: Creation, context: Context) -> bool | None:
    inside = has_any(f.CLONE_NEWUSER)(c, context)
    lacking = negate(context.capable("CAP_SYS_ADMIN", "CAP_CHECKPOINT_RESTORE"))
    if lacking is False and context.fact("user_ns_first") is False:
        lacking = None  # the pid namespace may be of a user namespace further out (kernel/pid.c: alloc_pid)
    certain = all_of(_wants_tids(c, context), negate(inside), lacking)
    return None if certain is False and inside and _wants_tids(c, context) else certain


def _null_pidfd(c: Creation, context: Context) -> bool | None:
    asked = c.flags.has(f.CLONE_PIDFD)
    return asked if not asked else True if c.pidfd == 0 else negate(context.fact("pointer_ok"))


def _three_capabilities(call: AnyCall, context: Context) -> bool | None:
    owned = (context.capable(name) for name in ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"))
    return all_of(has_all(f.CLONE_NEWUSER)(call, context), negate(all_of(*owned)))


def newuser_sysctl(call: AnyCall, context: Context) -> bool | None:
    """Whether Debian's sysctl forbids a new user namespace to a caller without CAP_SYS_ADMIN."""
    allowed = context.fact("userns_clone")
    capable = context.capable("CAP_SYS_ADMIN")
    if capable and context.fact("user_ns_first") is False:
        capable = None  # it asks for the capability in the first user namespace
    return all_of(has_all(f.CLONE_NEWUSER)(call, context), negate(capable), negate(allowed))


def none_allowed(call: AnyCall, context: Context) -> bool | None:
    """Whether a namespace is asked for of a type that the user may have none of (/proc/sys/user/max_*)."""
    asked, none = namespaces_asked(call), context.limits.get("ns_none", 0)
    if asked is None:
        return None
    return True if asked & none else None if asked & ~f.CLONE_NEWUSER else False


def namespaces_asked(call: AnyCall) -> int | None:
    """The namespace flags of a call, CLONE_NEWNS where another implies it; None where its flags are not known."""
    raw = flags_of(call)
    if raw is None:
        return None
    if isinstance(call, Creation) and call.call != "clone3":
        return raw & f.NAMESPACES & ~f.CLONE_NEWTIME
    return raw & f.NAMESPACES | (f.CLONE_NEWNS if newns(call, NOTHING_KNOWN) else 0)


def _deepest(_call: AnyCall, context: Context) -> bool | None:
    level = context.limits.get("pid_level")
    return None if level is None else level >= SET_TID_MAX


def not_built(call: AnyCall, context: Context) -> bool | None:
    """Whether the kernel lacks a type of namespace that is asked for."""
    asked, built = namespaces_asked(call), context.limits.get("ns_built")
    if asked is None or built is None:
        return None if asked is None or asked else False
    return bool(asked & ~built)


def _maybe_open(_call: AnyCall, context: Context) -> bool | None:
    return None if context.fact("fd_open") is not False else False


def _r(id_: str, errno: str, judge: Judge, text: str, advice: str, source: str = _COPY, *,
       calls: tuple[str, ...] = CLONES, since: Kernel | None = None, until: Kernel | None = None,
       open: bool = False) -> Rule:  # fmt: skip
    return Rule(id_, errno, calls, source, text, advice, judge, since, until, open=open)


ARGUMENTS: Final = (
    _r("pidfd-and-parent-tid", "EINVAL", _on(_same_pointer),
       "CLONE_PIDFD and CLONE_PARENT_SETTID would store two things at one address; clone(2) has one pointer for both",
       "use clone3 with two pointers, or drop CLONE_PARENT_SETTID: the call returns the tid anyway", _CLONE,
       since=(5, 2)),
    _r("clone-exit-signal-invalid", "EINVAL", _on(_clone_signal),
       "the exit signal in the low byte is no signal; with bit 0x80 it is CLONE_NEWTIME passed to clone(2)",
       "use clone3 or unshare for CLONE_NEWTIME (kernels up to 6.18 create a child with that odd signal instead)",
       _CLONE, calls=("clone",)),
    _r("newns-and-fs", "EINVAL", both(newns, has_all(f.CLONE_FS)),
       "a new mount namespace cannot share root and working directory with the caller's (CLONE_FS)",
       "drop CLONE_FS"),
    _r("newuser-and-fs", "EINVAL", has_all(f.CLONE_NEWUSER | f.CLONE_FS),
       "a new user namespace cannot share root and working directory with the caller's (CLONE_FS)",
       "drop CLONE_FS", since=(3, 9)),
    _r("newuser-three-capabilities", "EPERM", _three_capabilities,
       "before Linux 3.8 a new user namespace needed CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID",
       "run it as root, or on Linux 3.8 or later", "clone(2); kernel/fork.c: do_fork", since=(2, 6, 23), until=(3, 8)),
    _r("newuser-sysctl", "EPERM", newuser_sysctl,
       "a distribution's sysctl kernel.unprivileged_userns_clone is 0 and the caller lacks CAP_SYS_ADMIN",
       "sysctl kernel.unprivileged_userns_clone=1, as root (Debian's kernels have it)", "Debian's patch of " + _COPY),
    _r("thread-without-sighand", "EINVAL", both(has_all(f.CLONE_THREAD), lacks(f.CLONE_SIGHAND)),
       "CLONE_THREAD needs CLONE_SIGHAND: threads share their signal actions",
       "add CLONE_SIGHAND, and CLONE_VM which that needs", since=(2, 5, 35)),
    _r("sighand-without-vm", "EINVAL", both(has_all(f.CLONE_SIGHAND), lacks(f.CLONE_VM)),
       "CLONE_SIGHAND needs CLONE_VM: handlers are addresses in one memory",
       "add CLONE_VM, or drop CLONE_SIGHAND", since=(2, 6, 0)),
    _r("parent-by-init", "EINVAL", both(has_all(f.CLONE_PARENT), known("init")),
       "the init of a pid namespace must not use CLONE_PARENT: its sibling would be outside its care",
       "create the child from another process"),
    _r("thread-and-new-pid-or-user", "EINVAL",
       both(has_all(f.CLONE_THREAD), has_any(f.CLONE_NEWUSER | f.CLONE_NEWPID)),
       "a thread cannot be in another pid or user namespace than its process",
       "drop CLONE_THREAD, or the namespace"),
    _r("thread-after-new-pid", "EINVAL", both(has_all(f.CLONE_THREAD), known("pid_pending")),
       ("after unshare(CLONE_NEWPID) or setns to a pid namespace the caller can no longer make threads: its "
        "children belong to another pid namespace than itself"),
       "make the threads first, or fork and make them in the child", since=(3, 8)),
    _r("vm-after-new-time", "EINVAL", both(has_any(f.CLONE_THREAD | f.CLONE_VM), known("time_pending")),
       ("after unshare(CLONE_NEWTIME) or setns to a time namespace the caller's children belong to another time "
        "namespace than its memory, and before Linux 6.2 could not share that (vfork, posix_spawn, threads)"),
       "use fork, or execute a program first: exec enters the new time namespace from 6.2 on", calls=CREATIONS,
       since=(5, 6),
       until=(6, 2)),
    _r("pidfd-and-detached", "EINVAL", has_all(f.CLONE_PIDFD | f.CLONE_DETACHED),
       "CLONE_DETACHED is reserved together with CLONE_PIDFD",
       "drop CLONE_DETACHED; it does nothing", calls=("clone",), since=(5, 2)),
    _r("pidfd-and-thread", "EINVAL", has_all(f.CLONE_PIDFD | f.CLONE_THREAD),
       "before Linux 6.9 a pidfd could not stand for a thread",
       "drop CLONE_PIDFD on older kernels", since=(5, 2), until=(6, 9)),
    _r("autoreap-clash", "EINVAL", _on(_autoreap_clash),
       ("CLONE_AUTOREAP goes with a process that nobody waits for: not with CLONE_THREAD, CLONE_PARENT or an exit "
        "signal"),
       "set exit_signal to 0 and drop the other flag", calls=("clone3",),
       since=(7, 1)),
    _r("parent-of-autoreaped", "EINVAL", possible_if(has_all(f.CLONE_PARENT)),
       "a caller that was itself made with CLONE_AUTOREAP must not use CLONE_PARENT",
       "drop CLONE_PARENT", since=(7, 1)),
    _r("nnp-and-thread", "EINVAL", has_all(f.CLONE_NNP | f.CLONE_THREAD),
       "CLONE_NNP is for processes, not for threads",
       "let the thread call prctl(PR_SET_NO_NEW_PRIVS)", calls=("clone3",), since=(7, 1)),
    _r("autokill-incomplete", "EINVAL", _autokill_clash,
       "CLONE_PIDFD_AUTOKILL needs CLONE_PIDFD and CLONE_AUTOREAP, and a process",
       "add both, and drop CLONE_THREAD", calls=("clone3",), since=(7, 1)),
    _r("autokill-privilege", "EPERM", _autokill_privilege,
       "CLONE_PIDFD_AUTOKILL needs CLONE_NNP or CAP_SYS_ADMIN: else it could kill a set-user-id program",
       "add CLONE_NNP", calls=("clone3",), since=(7, 1)),
)  # fmt: skip
"""What is checked before anything is allocated, in the kernel's order."""

USER_NAMESPACE: Final = (
    _r("newuser-limit", "ENOSPC", lambda c, x: all_of(
           has_all(f.CLONE_NEWUSER)(c, x), True if x.limits.get("ns_none", 0) & f.CLONE_NEWUSER else None),
       "user namespaces are nested 32 deep, or the user has as many as /proc/sys/user/max_user_namespaces allows",
       "raise that sysctl, or let go of some", _USERNS, since=(4, 9)),
    _r("newuser-limit-old", "EUSERS", possible_if(has_all(f.CLONE_NEWUSER)),
       "user namespaces are nested 32 deep", "nest them less", _USERNS, since=(3, 11), until=(4, 9)),
    _r("newuser-chrooted", "EPERM", both(has_all(f.CLONE_NEWUSER), known("chrooted")),
       "the caller is in a chroot: a user namespace would give it the means to leave",
       "use pivot_root in a mount namespace instead of chroot", _USERNS, since=(3, 9)),
    _r("newuser-unmapped", "EPERM",
       lambda c, x: all_of(has_all(f.CLONE_NEWUSER)(c, x), negate(x.fact("id_mapped"))),
       "the caller's user or group id has no mapping in its own user namespace",
       "write uid_map and gid_map first", _USERNS),
    _r("newuser-lsm", "EPERM", possible_if(has_all(f.CLONE_NEWUSER)),
       "a security module forbids user namespaces to this program",
       "look for a denial in the kernel log (AppArmor: kernel.apparmor_restrict_unprivileged_userns)", _USERNS,
       open=True),
)  # fmt: skip

RESOURCES: Final = (
    _r("namespace-privilege", "EPERM", without_admin,
       "a new namespace other than a user namespace needs CAP_SYS_ADMIN in the user namespace that will own it",
       "add CLONE_NEWUSER, or run with CAP_SYS_ADMIN", "kernel/nsproxy.c: copy_namespaces"),
    _r("newipc-and-sysvsem", "EINVAL", has_all(f.CLONE_NEWIPC | f.CLONE_SYSVSEM),
       "a new ipc namespace has none of the semaphores that a shared undo list (CLONE_SYSVSEM) refers to",
       "drop CLONE_SYSVSEM", "kernel/nsproxy.c: copy_namespaces"),
    _r("namespace-limit", "ENOSPC", none_allowed,
       "the user has as many namespaces of that type as /proc/sys/user/max_*_namespaces allows",
       "raise that sysctl, or let go of some", "kernel/ucount.c: inc_ucount", since=(4, 9)),
    _r("newpid-nesting", "ENOSPC", both(has_all(f.CLONE_NEWPID), _deepest),
       "pid namespaces are nested 32 deep", "nest them less", "kernel/pid_namespace.c: create_pid_namespace",
       since=(3, 7)),
    _r("newpid-again", "EINVAL", both(has_all(f.CLONE_NEWPID), known("pid_pending")),
       "after unshare(CLONE_NEWPID) or setns to a pid namespace, the caller cannot make another one for its children",
       "fork first: the child may", _PIDNS),
    _r("newpid-not-inside", "EINVAL", possible_if(has_all(f.CLONE_NEWPID)),
       "the pid namespace belongs to a user namespace that is not an ancestor of the new one's",
       "enter the pid namespace's user namespace first", "kernel/pid_namespace.c: create_pid_namespace"),
    _r("namespace-not-built", "EINVAL", not_built,
       "this kernel was built without that type of namespace",
       "look for CONFIG_*_NS in the kernel's configuration; ls /proc/self/ns shows what there is", "clone(2)"),
    _r("shadow-stack", "ENOMEM", possible_if(both(has_all(f.CLONE_VM), lacks(f.CLONE_VFORK))),
       "the shadow stack of the new thread could not be allocated", "check memory and address-space limits",
       "arch/x86/kernel/shstk.c: shstk_alloc_thread_stack", since=(6, 6)),
    _r("tls-range", "EPERM", _on(_tls_range),
       "the tls argument is not an address in user space",
       "pass the thread's pointer with CLONE_SETTLS", "arch/x86/kernel/process_64.c: do_arch_prctl_64"),
    _r("tls-descriptor", "EINVAL",
       possible_if(_on(_descriptor_tls)),
       "the struct user_desc that tls points to is not a valid TLS descriptor",
       "pass entry_number -1 or a TLS slot, and a valid base", "arch/x86/kernel/tls.c: do_set_thread_area"),
    _r("tls-unreadable", "EFAULT",
       possible_if(_on(_descriptor_tls)),
       "the struct user_desc that tls points to could not be read", "check the pointer",
       "arch/x86/kernel/tls.c: do_set_thread_area"),
)  # fmt: skip
"""What is checked while the child's parts are copied."""

PID: Final = (
    _r("set-tid-value", "EINVAL", _on(_tid_invalid),
       ("set_tid names more levels than there are pid namespaces here, a pid below 1 or not below pid_max, or "
        "anything but 1 for the first process of a pid namespace"),
       "compare with the pid namespaces' depth and /proc/sys/kernel/pid_max", _PID, calls=("clone3",),
       since=(5, 5)),
    _r("set-tid-privilege", "EPERM", _on(_tid_privilege),
       ("choosing a pid needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN in the user namespace that owns the pid "
        "namespace"),
       "run with the capability (before 5.9: CAP_SYS_ADMIN)", _PID, calls=("clone3",),
       since=(5, 5)),
    _r("set-tid-taken", "EEXIST", possible_if(_on(_wants_tids)),
       "a pid that set_tid names is in use", "choose another", _PID, calls=("clone3",), since=(5, 5)),
)  # fmt: skip

DESCRIPTORS: Final = (
    _r("pidfd-table-full", "EMFILE", both(has_all(f.CLONE_PIDFD), reached("rlimit_nofile", "open_files")),
       "the caller has as many descriptors as RLIMIT_NOFILE allows, and CLONE_PIDFD needs one",
       "close some, or raise ulimit -n", "kernel/fork.c: pidfd_prepare", since=(5, 2)),
    _r("pidfd-files-full", "ENFILE", both(has_all(f.CLONE_PIDFD), reached("files_max", "files_now")),
       "the machine has as many open files as fs.file-max allows, and CLONE_PIDFD needs one",
       "raise the sysctl fs.file-max", "kernel/fork.c: pidfd_prepare", since=(5, 2)),
    _r("pidfd-pointer", "EFAULT", _on(_null_pidfd),
       "the pid file descriptor could not be stored where the pidfd pointer leads (clone(2): parent_tid)",
       "pass the address of an int", _COPY, since=(5, 2)),
    _r("cgroup-closed", "EBADF", both(has_all(f.CLONE_INTO_CGROUP), lambda _c, x: negate(x.fact("fd_open"))),
       "the descriptor in the cgroup field is not open",
       "open the directory itself in a cgroup2 mount, with O_PATH or O_RDONLY", _CGROUP, calls=("clone3",),
       since=(5, 7)),
    _r("cgroup-descriptor", "EBADF", both(has_all(f.CLONE_INTO_CGROUP), _maybe_open),
       "the descriptor in the cgroup field is of no version 2 cgroup directory",
       "open the directory itself in a cgroup2 mount, with O_PATH or O_RDONLY", _CGROUP, calls=("clone3",),
       since=(5, 7)),
    _r("cgroup-removed", "ENODEV", possible_if(has_all(f.CLONE_INTO_CGROUP)),
       "the cgroup was removed", "create it again", _CGROUP, calls=("clone3",), since=(5, 7)),
    _r("cgroup-permission", "EACCES", possible_if(has_all(f.CLONE_INTO_CGROUP)),
       "the caller may not write cgroup.procs of the target or of the common ancestor",
       "delegate the subtree to the user", "kernel/cgroup/cgroup.c: cgroup_attach_permissions",
       calls=("clone3",), since=(5, 7)),
    _r("cgroup-outside", "ENOENT", possible_if(has_all(f.CLONE_INTO_CGROUP)),
       "the target is outside the caller's cgroup namespace, and the mount has nsdelegate",
       "choose a cgroup inside", "kernel/cgroup/cgroup.c: cgroup_procs_write_permission",
       calls=("clone3",), since=(5, 7)),
    _r("cgroup-inner", "EBUSY", possible_if(has_all(f.CLONE_INTO_CGROUP)),
       "the target delegates domain controllers to its children and so cannot hold processes", "use a leaf cgroup",
       "kernel/cgroup/cgroup.c: cgroup_migrate_vet_dst", calls=("clone3",),
       since=(5, 7)),
    _r("cgroup-threaded", "EOPNOTSUPP", possible_if(has_all(f.CLONE_INTO_CGROUP)),
       "the target is an invalid domain, or a thread would leave its process's resource domain",
       "look at cgroup.type", "kernel/cgroup/cgroup.c: cgroup_migrate_vet_dst", calls=("clone3",),
       since=(5, 7)),
)  # fmt: skip
