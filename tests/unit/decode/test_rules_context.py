"""What is known of the caller decides which reason is given: certain ones first, and the only one that is left."""

from __future__ import annotations

import errno

import pytest

from forklore.abi import flags as f
from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.capabilities import NAMES
from forklore.abi.clone_args import FIELDS, VER2
from forklore.abi.units import Unavailable
from forklore.decode.calls import decode_call
from forklore.decode.creation import decode_creation, from_flags
from forklore.decode.rules.rule import AnyCall, Context
from forklore.decode.rules.table import reasons

X86 = Arch.X86_64
FORK = decode_creation(X86, 57, ())
ORDINARY = {"cap_eff": 0, "uid": 1000, "seccomp": 0, "user_ns_first": 1}
ROOT = {"cap_eff": (1 << 41) - 1, "uid": 0, "seccomp": 0, "user_ns_first": 1}
KERNEL = (6, 18)


def first(call: AnyCall, number: int, limits: dict[str, int], **known: object) -> tuple[str, bool]:
    reason = reasons(call, number, Context(**{"kernel": KERNEL, "limits": limits, **known}))[0]  # type: ignore[arg-type]
    return reason.rule, reason.certain


def unshare(flags: int) -> AnyCall:
    return decode_call(X86, syscalls.number(X86, "unshare"), (flags,))


def setns(flags: int, fd: int = 3) -> AnyCall:
    return decode_call(X86, syscalls.number(X86, "setns"), (fd, flags))


def clone(flags: int) -> AnyCall:
    return from_flags(X86, "clone", flags, 17)


def packed(**words: int) -> bytes:
    return b"".join(words.get(member.name, 0).to_bytes(8, "little") for member in FIELDS)


THREAD = f.CLONE_VM | f.CLONE_SIGHAND | f.CLONE_THREAD


@pytest.mark.parametrize(
    ("call", "number", "limits", "rule"),
    [
        (clone(f.CLONE_NEWUTS), errno.EPERM, {"cap_eff": 0}, "namespace-privilege"),
        (FORK, errno.EAGAIN, {"pids_max": 3, "pids_current": 3}, "pids-max"),
        (FORK, errno.EAGAIN, {"policy": 6}, "deadline-parent"),
        (FORK, errno.EAGAIN, {**ORDINARY, "rlimit_nproc": 7, "user_tasks": 7}, "rlimit-nproc"),
        # CAP_SYS_RESOURCE of a user namespace of one's own exempts nobody (kernel/fork.c: capable).
        (FORK, errno.EAGAIN, {**ROOT, "uid": 1000, "user_ns_first": 0, "rlimit_nproc": 7, "user_tasks": 7},
         "rlimit-nproc"),
        (FORK, errno.ENOMEM, {"pid_pending": 1, "init_ended": 1}, "pidns-init-dead"),
        (FORK, errno.ENOMEM, {"overcommit_memory": 2, "commit_limit": 100, "committed": 90, "private": 20},
         "memory-overcommit"),
        (clone(THREAD), errno.EINVAL, {"pid_pending": 1}, "thread-after-new-pid"),
        (clone(f.CLONE_PARENT), errno.EINVAL, {"init": 1}, "parent-by-init"),
        (clone(f.CLONE_NEWPID), errno.EINVAL, {"pid_pending": 1}, "newpid-again"),
        (clone(f.CLONE_NEWTIME << 1 | f.CLONE_NEWNET), errno.EINVAL, {"ns_built": 0}, "namespace-not-built"),
        (clone(f.CLONE_NEWNET), errno.ENOSPC, {"ns_none": f.CLONE_NEWNET}, "namespace-limit"),
        (clone(f.CLONE_NEWUSER), errno.ENOSPC, {"ns_none": f.CLONE_NEWUSER}, "newuser-limit"),
        (clone(f.CLONE_NEWUSER), errno.EPERM, {"chrooted": 1}, "newuser-chrooted"),
        (clone(f.CLONE_NEWUSER), errno.EPERM, {"id_mapped": 0}, "newuser-unmapped"),
        (clone(f.CLONE_NEWUSER), errno.EPERM, {"cap_eff": 0, "userns_clone": 0}, "newuser-sysctl"),
        (clone(f.CLONE_PIDFD), errno.EMFILE, {"rlimit_nofile": 16, "open_files": 16}, "pidfd-table-full"),
        (clone(f.CLONE_PIDFD), errno.ENFILE, {"files_max": 9, "files_now": 9}, "pidfd-files-full"),
        (from_flags(X86, "clone3", f.CLONE_INTO_CGROUP, 0), errno.EBADF, {"fd_open": 0}, "cgroup-closed"),
        (unshare(f.CLONE_NEWNS), errno.EPERM, {"cap_eff": 0}, "unshare-privilege"),
        (unshare(f.CLONE_NEWUSER), errno.EINVAL, {"threads": 2}, "unshare-threaded"),
        (unshare(f.CLONE_NEWPID), errno.EINVAL, {"pid_pending": 1}, "unshare-newpid-again"),
        (unshare(f.CLONE_VM), errno.EINVAL, {"threads": 1, "mm_shared": 1}, "unshare-vm-shared"),
        (unshare(f.CLONE_SIGHAND), errno.EINVAL, {"threads": 1, "sighand_shared": 1}, "unshare-sighand-shared"),
        (setns(0), errno.EBADF, {"fd_open": 0}, "setns-descriptor"),
        (setns(0, -1), errno.EBADF, {}, "setns-descriptor"),
        (decode_call(X86, syscalls.number(X86, "setsid"), ()), errno.EPERM, {"group": 1}, "setsid-leader"),
    ],
)  # fmt: skip
def test_what_was_read_proves_the_rule(call: AnyCall, number: int, limits: dict[str, int], rule: str) -> None:
    assert first(call, number, limits) == (rule, True)


@pytest.mark.parametrize(
    ("call", "number", "target", "limits", "rule"),
    [
        (setns(0), errno.EINVAL, "/dev/null", {}, "setns-thing"),
        (setns(f.CLONE_NEWNET), errno.EINVAL, "uts:[4026531838]", {}, "setns-type"),
        (setns(0), errno.EINVAL, "anon_inode:[pidfd]", {}, "setns-pidfd-type"),
        (setns(0), errno.EINVAL, "user:[4026531837]", {"user_ns": 4026531837}, "setns-user"),
        (setns(0), errno.EINVAL, "user:[7]", {"user_ns": 8, "threads": 2}, "setns-user"),
        (setns(0), errno.EINVAL, "mnt:[7]", {"fs_shared": 1}, "setns-mount-shared-fs"),
        (setns(0), errno.EPERM, "uts:[7]", {"cap_eff": 0}, "setns-capability"),
        # A mount namespace wants CAP_SYS_CHROOT too.
        (setns(0), errno.EPERM, "mnt:[7]", {"cap_eff": 1 << NAMES.index("CAP_SYS_ADMIN")}, "setns-capability"),
        (setns(0), errno.EUSERS, "time:[7]", {"threads": 3}, "setns-time-threaded"),
        (setns(0), errno.EINVAL, "pid:[7]", {"seccomp": 0}, "setns-pid-outside"),
        (setns(f.CLONE_NEWNET), errno.ESRCH, "anon_inode:[pidfd]", {"seccomp": 0}, "setns-dead"),
    ],
)
def test_setns_by_what_its_descriptor_is(
    call: AnyCall, number: int, target: str, limits: dict[str, int], rule: str
) -> None:
    assert first(call, number, limits, target=target) == (rule, True)


def test_choosing_a_pid_as_root_of_a_user_namespace() -> None:
    # Its capabilities do not count in the user namespace that owns the pid namespace.
    call = decode_creation(X86, 435, (1, VER2), packed(set_tid=8, set_tid_size=1), b"\7\0\0\0")
    inside = {**ROOT, "uid": 1000, "user_ns_first": 0}
    assert first(call, errno.EPERM, inside) == ("set-tid-privilege", True)
    assert first(call, errno.EPERM, ROOT) == ("unexplained", False)


def test_where_something_is_certain_nothing_is_perhaps() -> None:
    limits = {"pids_max": 3, "pids_current": 3}
    found = reasons(FORK, errno.EAGAIN, Context(limits=limits))
    assert [reason.rule for reason in found] == ["pids-max"]
    assert len(reasons(FORK, errno.EAGAIN)) > 3


def test_the_only_one_left_is_certain_where_all_else_is_known() -> None:
    call = from_flags(X86, "clone3", 0, 17)
    taken = decode_creation(X86, 435, (1, VER2), packed(set_tid=8, set_tid_size=1), b"\1\0\0\0")
    assert first(taken, errno.EEXIST, {"seccomp": 0}) == ("set-tid-taken", True)
    assert first(taken, errno.EEXIST, {}) == ("set-tid-taken", False)
    assert first(taken, errno.EEXIST, {"seccomp": 0}, kernel=None) == ("set-tid-taken", False)
    assert first(taken, errno.EEXIST, {"seccomp": 0}, kernel=(7, 9)) == ("set-tid-taken", False)
    assert not reasons(call, errno.ENOMEM, Context(kernel=KERNEL, limits={"seccomp": 0}))[0].certain
    # A security module may forbid it as well, which nothing shows.
    user = {**ORDINARY, "userns_clone": 1, "chrooted": 0, "id_mapped": 1}
    assert first(clone(f.CLONE_NEWUSER), errno.EPERM, user) == ("newuser-lsm", False)


@pytest.mark.parametrize("name", ["clone3", "clone", "fork", "unshare", "setns", "setsid"])
def test_a_filter_that_is_known_not_to_answer_is_no_reason(name: str) -> None:
    nr = syscalls.number(X86, name)
    call: AnyCall = decode_creation(X86, nr, (0, 0)) if name in ("fork", "clone") else decode_call(X86, nr, (0, 0))
    if name == "clone3":
        call = from_flags(X86, "clone3", 0, 17)
    for limits in ({"seccomp": 0}, {"seccomp": 2, "seccomp_passed": 1}, {"seccomp": 2, "seccomp_errno": 0}):
        for number in (errno.EPERM, errno.ENOSYS):
            assert not any("seccomp" in r.rule for r in reasons(call, number, Context(kernel=KERNEL, limits=limits)))


def test_a_filter_that_answers_is_the_reason() -> None:
    limits = {"seccomp": 2, "seccomp_errno": errno.EPERM, "cap_eff": 0}
    assert first(clone(f.CLONE_NEWNET), errno.EPERM, limits) == ("seccomp-eperm", True)
    assert first(FORK, errno.EPERM, limits) == ("seccomp-eperm-plain", True)
    assert first(unshare(f.CLONE_NEWNET), errno.EPERM, limits) == ("seccomp-eperm", True)
    assert first(FORK, errno.EACCES, {"seccomp": 2, "seccomp_errno": errno.EACCES}) == ("seccomp-errno", True)
    assert first(FORK, errno.ENOSYS, {"seccomp": 2, "seccomp_tracer": 1}) == ("seccomp-no-tracer", True)
    nothing = {"seccomp": 2, "seccomp_errno": errno.ENOSYS}
    assert first(setns(0), errno.ENOSYS, nothing) == ("seccomp-enosys-other", True)


def test_clone3_by_a_filter_older_than_it() -> None:
    thread = decode_creation(X86, 435, (1, VER2), packed(flags=THREAD | f.CLONE_SYSVSEM, stack=4096, stack_size=4096))
    (reason,) = reasons(thread, errno.EPERM)
    assert reason.rule == "seccomp-eperm-clone3"
    assert "namespace" not in reason.text
    assert "ENOSYS only" in reason.text


def test_structs_that_are_mapped_in_part_or_not_at_all() -> None:
    whole = (f.CLONE_VM.to_bytes(8, "little") + bytes(VER2 - 8)).ljust(96, b"\0")
    for struct, size in ((whole[:88], 96), (whole[:40], 88), (Unavailable(errno.EFAULT, "Bad address"), 88)):
        call = decode_creation(X86, 435, (0x1000, size), struct)
        assert first(call, errno.EFAULT, {}) == ("clone3-struct-unreadable", True)
    partly = decode_creation(X86, 435, (0x1000, 96), whole[:88])
    assert partly.flags.names == ("CLONE_VM",)
    # What was not read for another reason proves nothing.
    assert first(decode_creation(X86, 435, (0x1000, 88), Unavailable(errno.EPERM, "EPERM")), errno.EFAULT, {}) == (
        "clone3-struct-unreadable", False,
    )  # fmt: skip
    tids = bytes(64) + (0x2000).to_bytes(8, "little") + (2).to_bytes(8, "little") + bytes(8)
    assert first(decode_creation(X86, 435, (1, 88), tids, b"\7\0\0\0"), errno.EFAULT, {}) == (
        "clone3-set-tid-unreadable", True,
    )  # fmt: skip


def test_children_of_another_time_namespace_by_kernel() -> None:
    vfork = decode_creation(X86, 58, ())
    pending = {"time_pending": 1}
    assert first(vfork, errno.EINVAL, pending, kernel=(5, 15)) == ("vm-after-new-time", True)
    assert first(clone(THREAD), errno.EINVAL, pending, kernel=(6, 1)) == ("vm-after-new-time", True)
    for kernel in ((5, 5), (6, 2)):
        assert first(vfork, errno.EINVAL, pending, kernel=kernel) == ("unexplained", False)
    assert first(FORK, errno.EINVAL, pending, kernel=(5, 15)) == ("unexplained", False)


def test_three_capabilities_before_3_8() -> None:
    call = clone(f.CLONE_NEWUSER)
    assert first(call, errno.EPERM, {"cap_eff": 1 << 21}, kernel=(3, 7)) == ("newuser-three-capabilities", True)
    assert first(call, errno.EPERM, {}, kernel=(3, 7)) == ("newuser-three-capabilities", False)
    found = {reason.rule for reason in reasons(call, errno.EPERM, Context(kernel=(3, 8)))}
    assert "newuser-three-capabilities" not in found


@pytest.mark.parametrize(
    ("call", "kernel", "rule"),
    [
        (unshare(f.CLONE_FS), (2, 6, 15), "unshare-unknown"),
        (setns(0), (2, 6, 39), "setns-unknown"),
        (decode_call(X86, 436, (3, 9, 0)), (5, 8), "close-range-unknown"),
        (from_flags(X86, "clone3", 0, 0), (5, 2), "clone3-unknown"),
    ],
)
def test_kernels_older_than_the_call(call: AnyCall, kernel: tuple[int, ...], rule: str) -> None:
    assert first(call, errno.ENOSYS, {}, kernel=kernel) == (rule, True)
