"""fork, vfork, clone and clone3 from words and bytes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi import flags as f
from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.clone_args import FIELDS
from forklore.abi.units import Unavailable
from forklore.decode.creation import Creation, clone_order, decode_creation
from forklore.decode.library_forms import candidates
from forklore.decode.rules.table import reasons, refusals
from forklore.decode.sharing import fates, shared_names
from forklore.features.explain.equivalent import to_clone, to_clone3

SIGCHLD = 17
X86 = Arch.X86_64
WORD = st.integers(0, 2**64 - 1)


def clone3(words: tuple[int, ...], size: int | None = 88, tail: bytes = b"", tids: bytes = b"") -> Creation:
    data = struct.pack(f"<{len(words)}Q", *words) + tail
    return decode_creation(X86, 435, (0x1000, size), data, tids)


def test_glibc_fork_as_one_line() -> None:
    call = decode_creation(X86, 56, (0x1200011, 0, 0, 0x7F00, 0))
    assert call.text() == "clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD)"
    shown = call.text(abbreviate=True, details=True)
    assert shown == "clone(CHILD_CLEARTID|CHILD_SETTID|SIGCHLD, child_tid=0x7f00)"
    assert (call.kind, call.event, call.is_thread) == ("process", "fork", False)
    assert candidates(call) == ("glibc fork() or _Fork()",)


def test_glibc_posix_spawn_as_one_line() -> None:
    call = clone3((0x4100, 0, 0, 0, SIGCHLD, 0x7000, 0x9000, 0, 0, 0, 0))
    assert call.text() == "clone3(CLONE_VM|CLONE_VFORK, exit SIGCHLD)"
    assert (call.stack, call.stack_size, call.event) == (0x7000, 0x9000, "vfork")
    assert shared_names(call) == ("mm",)


def test_a_field_counts_only_with_its_flag() -> None:
    # glibc fills pidfd in pthread_create although CLONE_PIDFD is clear.
    call = clone3((0x3D0F00, 1, 2, 3, 0, 0x5000, 0x6000, 7, 0, 0, 9))
    assert call.pidfd is None
    assert call.cgroup is None
    assert call.words.pidfd == 1
    assert (call.child_tid, call.parent_tid, call.tls) == (2, 3, 7)
    bare = clone3((0, 1, 2, 3, SIGCHLD, 0, 0, 7, 0, 0, 9))
    assert (bare.child_tid, bare.parent_tid, bare.tls, bare.stack, bare.stack_size) == (None,) * 5


@pytest.mark.parametrize(
    ("arch", "nr", "tls_at"),
    [(Arch.X86_64, 56, 4), (Arch.X32, 0x40000038, 4), (Arch.I386, 120, 3), (Arch.AARCH64, 220, 3),
     (Arch.RISCV64, 220, 3)],
)  # fmt: skip
def test_the_order_of_clones_arguments(arch: Arch, nr: int, tls_at: int) -> None:
    args = [f.CLONE_SETTLS | f.CLONE_CHILD_SETTID | f.CLONE_PARENT_SETTID, 0x1000, 0x2000, 0xC, 0xC]
    args[tls_at] = 0x7
    call = decode_creation(arch, nr, args)
    assert call.call == "clone"
    assert (call.stack, call.parent_tid, call.tls, call.child_tid) == (0x1000, 0x2000, 0x7, 0xC)


def test_clone_looks_at_32_bits_and_stores_the_pidfd_through_parent_tid() -> None:
    call = decode_creation(X86, 56, (1 << 40 | f.CLONE_PIDFD | SIGCHLD, 0, 0x10, 0, 0))
    assert call.flags.raw == f.CLONE_PIDFD
    assert (call.pidfd, call.parent_tid) == (0x10, None)
    assert "ignores the bits above 31: 0x10000000000" in call.problems[0]


def test_newtime_passed_to_clone_is_diagnosed() -> None:
    call = decode_creation(X86, 56, (0x91, 0, 0, 0, 0))
    assert call.exit_signal == 0x91
    assert call.text() == "clone(145)"
    assert "CLONE_NEWTIME|SIGCHLD" in call.problems[0]


def test_fork_and_vfork() -> None:
    assert decode_creation(X86, 57, ()).text() == "fork()"
    vfork = decode_creation(X86, 58, ())
    assert (vfork.text(), vfork.flags.raw, vfork.exit_signal) == ("vfork()", f.CLONE_VM | f.CLONE_VFORK, SIGCHLD)
    assert decode_creation(Arch.I386, 190, ()).call == "vfork"
    assert syscalls.number(Arch.AARCH64, "fork") is None


@pytest.mark.parametrize(
    ("flags", "signal", "event"),
    [(0, SIGCHLD, "fork"), (0, 0, "clone"), (0, 10, "clone"), (f.CLONE_VFORK | f.CLONE_VM, 0, "vfork"),
     (f.CLONE_UNTRACED, SIGCHLD, "none"), (f.CLONE_UNTRACED | f.CLONE_VFORK, 0, "none")],
)  # fmt: skip
def test_the_ptrace_event_follows_flags_and_signal(flags: int, signal: int, event: str) -> None:
    assert decode_creation(X86, 56, (flags | signal, 0, 0, 0, 0)).event == event


def test_sizes_of_clone_args() -> None:
    words = (0, 0, 0, 0, SIGCHLD, 0, 0, 0)
    first = clone3(words, 64)
    assert (first.words.set_tid, first.words.cgroup, first.problems) == (0, 0, ())
    assert "less than" in clone3(words[:4], 32).problems[0]
    assert clone3(words[:4], 32).words.parent_tid == 0
    assert clone3(words[:4], 32).words.tls is None
    newer = clone3((*words, 0, 0, 0), 96, b"\x01" + bytes(7))
    assert "not zero" in newer.problems[0]
    assert clone3((*words, 0, 0, 0), 96, bytes(8)).problems == ()
    partial = clone3(words, 66, b"\x05\x01")
    assert partial.words.set_tid == 0x105


def test_a_struct_that_could_not_be_read() -> None:
    call = decode_creation(X86, 435, (0, 88), Unavailable(14, "bad address"))
    assert (call.call, call.kind, call.event, call.text()) == ("clone3", "task", None, "clone3(?, exit ?)")
    assert call.problems == ("the clone_args of this call could not be read: bad address",)
    assert (fates(call), shared_names(call)) == ((), ())


def test_set_tid() -> None:
    words = (0, 0, 0, 0, SIGCHLD, 0, 0, 0, 0x9000, 2, 0)
    call = clone3(words, tids=struct.pack("<2i", 31, 7))
    assert call.set_tid == (31, 7)
    short = clone3(words, tids=struct.pack("<i", 31))
    assert (short.set_tid, short.problems) == ((31,), ("only 1 of 2 elements of set_tid were read",))


@pytest.mark.parametrize(
    ("given", "size", "problem"),
    [
        ({"set_tid": 0x9000}, 88, "set_tid is 0x9000 and set_tid_size 0: both must be zero or both not"),
        ({"set_tid_size": 3}, 88, "set_tid is 0x0 and set_tid_size 3: both must be zero or both not"),
        ({"flags": f.CLONE_INTO_CGROUP}, 80, "CLONE_INTO_CGROUP is set, and a clone_args of 80 bytes has no cgroup"),
        ({"cgroup": 7}, 88, "cgroup is 7 and does not count without CLONE_INTO_CGROUP"),
        ({"pidfd": 0x70}, 64, None),
        ({"tls": 0x71}, 64, "tls is 0x71 and does not count without CLONE_SETTLS"),
        ({"child_tid": 1}, 64,
         "child_tid is 0x1 and does not count without CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID"),
        ({"parent_tid": 2}, 64, "parent_tid is 0x2 and does not count without CLONE_PARENT_SETTID"),
        ({"flags": f.CLONE_INTO_CGROUP, "cgroup": 0}, 88, None),
        ({"flags": f.CLONE_CHILD_CLEARTID, "child_tid": 3}, 88, None),
        ({"flags": f.CLONE_PIDFD | f.CLONE_SETTLS, "pidfd": 1, "tls": 2}, 88, None),
    ],
)  # fmt: skip
def test_what_lacks_its_pair_is_told(given: dict[str, int], size: int, problem: str | None) -> None:
    words = tuple(given.get(field.name, 0) for field in FIELDS)
    call = clone3(words, size)
    assert call.problems == (() if problem is None else (problem,))
    for name in call.unpaired:
        value = given.get(name, 0)
        assert f"{name}={value if name in ('set_tid_size', 'cgroup') else hex(value)}" in call.text()
    assert bool(call.unpaired) == (problem is not None and "flags" not in given)


def test_a_number_that_is_no_creation() -> None:
    assert decode_creation(X86, 0, (1, 2)).text() == "?(?)"
    assert decode_creation(X86, None, ()).problems == ("the call's number is not known",)


@settings(max_examples=150, deadline=None)
@given(
    arch=st.sampled_from(Arch),
    nr=st.one_of(st.none(), st.sampled_from([56, 57, 58, 120, 220, 435, 2, 190]), st.integers(-5, 2**32)),
    args=st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**64), st.integers(0, 200)), max_size=7),
    data=st.one_of(st.none(), st.builds(Unavailable, st.just(14), st.just("no")), st.binary(max_size=120)),
    tids=st.one_of(st.none(), st.builds(Unavailable, st.just(14), st.just("no")), st.binary(max_size=160)),
    errno=st.sampled_from([1, 7, 11, 12, 14, 22, 38, 513, -513, 999]),
)
def test_any_words_and_bytes_have_an_answer(
    arch: Arch, nr: int | None, args: list[int | None], data: bytes | Unavailable | None,
    tids: bytes | Unavailable | None, errno: int,
) -> None:  # fmt: skip
    call = decode_creation(arch, nr, args, data, tids)
    assert call.args == tuple(args)
    assert call.text(details=True)
    assert (call.kind == "task") == (call.flags.raw is None) == (not fates(call))
    if call.flags.unknown:
        assert hex(call.flags.unknown) in call.text()
    assert reasons(call, errno)
    refusals(call)
    candidates(call)
    to_clone(call)
    to_clone3(call)


@settings(max_examples=80, deadline=None)
@given(words=st.tuples(*[WORD] * 11), arch=st.sampled_from(Arch))
def test_a_whole_struct_keeps_every_bit(words: tuple[int, ...], arch: Arch) -> None:
    data = struct.pack("<11Q", *words)
    call = decode_creation(arch, syscalls.number(arch, "clone3"), (1, 88), data)
    assert tuple(value for _, value in call.words.items()) == words
    assert call.flags.raw == words[0]


@settings(max_examples=80, deadline=None)
@given(word=WORD, rest=st.tuples(*[st.integers(0, 2**31)] * 4), arch=st.sampled_from(Arch))
def test_clone_keeps_every_bit_that_the_kernel_looks_at(word: int, rest: tuple[int, ...], arch: Arch) -> None:
    call = decode_creation(arch, syscalls.number(arch, "clone"), (word, *rest))
    assert call.exit_signal is not None
    assert call.flags.raw is not None
    assert call.flags.raw | call.exit_signal == word & 0xFFFFFFFF
    assert call.words.stack == rest[clone_order(arch).index("stack") - 1]
