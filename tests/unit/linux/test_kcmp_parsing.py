"""The texts of /proc that say how a task stands, parsed for what the kernel can write and for what it cannot."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.units import Tid
from forklore.linux.observe import Cgroup, TaskState, parse_cgroup, parse_state
from forklore.linux.tasks import made_by

FIELDS = [b"0"] * 52
names = st.binary(max_size=15).filter(lambda raw: b"\n" not in raw and b"\0" not in raw)


def stat(comm: bytes = b"sh", **values: int | bytes) -> bytes:
    """A stat file; ``values`` by field number of proc_pid_stat(5), as ``f5=7``."""
    words = list(FIELDS)
    words[0], words[1], words[2] = b"42", b"(" + comm + b")", b"S"
    for name, value in values.items():
        words[int(name[1:]) - 1] = value if isinstance(value, bytes) else b"%d" % value
    return b" ".join(words) + b"\n"


STATUS = b"Name:\tsh\nUmask:\t0027\nState:\tS (sleeping)\nTgid:\t41\nUid:\t1\t2\t3\t4\nNSpid:\t42\t7\n"


@given(names, st.integers(-1, 64), st.integers(0, 2**63))
def test_state_whatever_the_task_is_called(comm: bytes, exit_signal: int, start: int) -> None:
    found = parse_state(Tid(42), stat(comm, f4=40, f5=39, f6=38, f9=0x40, f22=start, f38=exit_signal), STATUS)
    assert (found.comm, found.exit_signal, found.start, found.flags) == (comm, exit_signal, start, 0x40)
    assert (found.tgid, found.ppid, found.pgrp, found.session, found.uid) == (41, 40, 39, 38, 2)
    assert (found.umask, found.ns_tids) == (0o27, (42, 7))


@pytest.mark.parametrize(
    ("marks", "values", "more"),
    [
        ("", {"f5": 7, "f6": 7, "f8": -1, "f20": 1}, b""), ("<", {"f19": -5, "f5": 1, "f8": 2}, b""),
        ("N", {"f19": 10, "f5": 1, "f8": 2}, b""), ("L", {"f5": 1, "f8": 2}, b"VmLck:\t      64 kB\n"),
        ("", {"f5": 1, "f8": 2}, b"VmLck:\t       0 kB\n"), ("s", {"f6": 41, "f5": 1, "f8": 2}, b""),
        ("l", {"f20": 2, "f5": 1, "f8": 2}, b""), ("+", {"f5": 9, "f8": 9}, b""),
        ("<Lsl+", {"f19": -1, "f6": 41, "f20": 3, "f5": 9, "f8": 9}, b"VmLck:\t1 kB\n"),
    ],
)  # fmt: skip
def test_what_ps_adds_to_the_letter(marks: str, values: dict[str, int], more: bytes) -> None:
    assert parse_state(Tid(42), stat(b"sh", **values), STATUS + more).marks == marks


def test_what_an_older_kernel_does_not_tell_is_none() -> None:
    found = parse_state(Tid(42), stat(), b"Name:\tsh\nTgid:\t42\nUid:\t0\t0\t0\t0\nSeccomp:\t2\n")
    assert (found.umask, found.no_new_privs, found.seccomp, found.seccomp_filters) == (None, None, 2, None)
    assert found.ns_tids == ()


def test_a_name_cannot_pass_for_a_field() -> None:
    """The kernel escapes line feeds in Name, so that a field begins where it seems to."""
    status = b"Name:\tx\\nTgid:\t1\n" + STATUS
    assert parse_state(Tid(42), stat(), status).tgid == 41


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_other_text_is_refused_or_read_but_never_more_than_that(one: bytes, other: bytes) -> None:
    try:
        parse_state(Tid(1), one, other)
    except (ValueError, IndexError):
        return


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"0::/", b"9:a:b:c", b"x:y:z"]), max_size=5).map(b"\n".join))
def test_cgroup_lines_of_any_text(raw: bytes) -> None:
    lines = [re.fullmatch(rb"(\d+):([^:]*):(.*)", line, re.DOTALL) for line in raw.split(b"\n")]
    told = [(int(line[1]), line[2], line[3]) for line in lines if line is not None]
    assert [(each.hierarchy, each.controllers, each.path) for each in parse_cgroup(raw)] == told


def test_cgroup_paths_may_hold_colons() -> None:
    assert parse_cgroup(b"12:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/user.slice\n") == (
        Cgroup(12, b"cpu,cpuacct", b"/a:b"),
        Cgroup(1, b"name=systemd", b"/"),
        Cgroup(0, b"", b"/user.slice"),
    )


ALL_BLOCKED = 0xFFFFFFFFFFFBFEFF


@pytest.mark.parametrize(
    ("flags", "blocked", "comm", "maker"),
    [
        (0x404050, ALL_BLOCKED, b"iou-sqp-12", "io_uring"),
        (0x404040, ALL_BLOCKED, b"vhost-12", "vhost"),
        (0x404040, ALL_BLOCKED, b"other", "kernel"),
        (0x400040, ALL_BLOCKED, b"iou-wrk-12", None),
        (0x400050, 0, b"vcpu", None),  # PF_VCPU, until Linux 5.10
        (0x404040, 0x4000, b"vhost-12", None),  # PF_USED_ASYNC, until Linux 5.16
        (0x208040, ALL_BLOCKED, b"kworker/0:0", None),
    ],
)
def test_kernel_made_threads_by_flags_and_blocked_signals(
    flags: int, blocked: int, comm: bytes, maker: str | None
) -> None:
    found = parse_state(Tid(42), stat(comm, f9=flags), STATUS + b"SigBlk:\t%016x\n" % blocked)
    assert isinstance(found, TaskState)
    assert made_by(found) == maker
