"""unshare, setns, close_range and setsid, and what they end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.decode.calls import CloseRange, Implication, Setns, Setsid, UnknownCall, Unshare, decode_call
from forklore.decode.rules.table import Context, reasons, refusals
from forklore.decode.unsharing import ended_by, ends, exec_ends

X86 = Arch.X86_64


def unshare(flags: int) -> Unshare:
    call = decode_call(X86, 272, (flags,))
    assert isinstance(call, Unshare)
    return call


def test_unshare_adds_what_its_flags_imply() -> None:
    call = unshare(f.CLONE_NEWUSER)
    assert call.effective.raw == f.CLONE_NEWUSER | f.CLONE_FS | f.CLONE_THREAD
    assert call.implied == (Implication("CLONE_NEWUSER", ("CLONE_FS", "CLONE_THREAD")),)
    chain = unshare(f.CLONE_VM)
    assert [i.flag for i in chain.implied] == ["CLONE_VM", "CLONE_SIGHAND"]
    assert unshare(f.CLONE_FS).implied == ()


def test_0x100000_is_another_flag_in_unshare() -> None:
    assert unshare(0x100000).flags.names == ("UNSHARE_EMPTY_MNTNS",)
    assert unshare(0x100000).effective.raw == 0x100000 | f.CLONE_NEWNS | f.CLONE_FS


def test_the_others() -> None:
    entered = decode_call(X86, 308, (3, f.CLONE_NEWNET))
    assert isinstance(entered, Setns)
    assert entered.text() == "setns(3, CLONE_NEWNET)"
    closed = decode_call(X86, 436, (3, 0xFFFFFFFF, 2))
    assert isinstance(closed, CloseRange)
    assert closed.text() == "close_range(3, ~0, CLOSE_RANGE_UNSHARE)"
    assert closed.unshares
    assert isinstance(decode_call(X86, 112, ()), Setsid)
    assert decode_call(X86, 0, (1,)).text() == "read(0x1)"
    assert isinstance(decode_call(X86, None, ()), UnknownCall)
    bad = decode_call(X86, 308, (0xFFFFFFFF, 0))
    assert isinstance(bad, Setns)
    assert bad.fd == -1
    assert [r.rule for r in reasons(bad, 9)] == ["setns-descriptor"]


def test_what_ends_sharing() -> None:
    assert exec_ends() == ("mm", "files", "sighand", "thread")
    assert "exec" not in {end.action for end in ends("fs")}
    assert ended_by(unshare(f.CLONE_NEWNS)) == ("fs", "mnt_ns")
    assert ended_by(unshare(f.CLONE_NEWIPC)) == ("sysvsem", "ipc_ns")
    assert ended_by(unshare(f.CLONE_VM)) == ()
    assert ended_by(decode_call(X86, 436, (3, 9, 0))) == ()
    assert ended_by(decode_call(X86, 436, (3, 9, 2))) == ("files",)


@settings(max_examples=150, deadline=None)
@given(
    arch=st.sampled_from(Arch),
    nr=st.one_of(st.none(), st.sampled_from([272, 308, 436, 112, 310, 346, 97, 268, 66]), st.integers(-9, 2**33)),
    args=st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**64)), max_size=6),
    errno=st.integers(-600, 600),
)
def test_any_words_have_an_answer(arch: Arch, nr: int | None, args: list[int | None], errno: int) -> None:
    call = decode_call(arch, nr, args)
    assert call.args == tuple(args)
    assert call.text()
    assert reasons(call, errno)
    refusals(call)
    ended_by(call)


@pytest.mark.parametrize(
    ("words", "text"),
    [((0, 99), "ptrace(PTRACE_TRACEME)"), ((16, 4711), "ptrace(PTRACE_ATTACH, 4711)"),
     ((1 << 32 | 0x4206, 0xFFFFFFFF), "ptrace(PTRACE_SEIZE, -1)"), ((7, 3), "ptrace(7, 3)"), ((), "ptrace(?, ?)")],
)  # fmt: skip
def test_ptrace(words: tuple[int, ...], text: str) -> None:
    assert decode_call(X86, 101, words).text() == text


@pytest.mark.parametrize(
    ("request_", "error", "traced", "first"),
    [(0, 1, {}, "ptrace-traced"), (16, 1, {"traced": 1}, "ptrace-traced"), (0x4206, 1, {"traced": 1}, "ptrace-traced"),
     (16, 1, {"traced": 0}, None), (16, 3, {}, None)],
)  # fmt: skip
def test_why_nobody_else_can_trace(request_: int, error: int, traced: dict[str, int], first: str | None) -> None:
    found = reasons(decode_call(X86, 101, (request_, 7)), error, Context(limits={"seccomp_passed": 1, **traced}))
    assert [reason.rule for reason in found if reason.certain] == ([] if first is None else [first])
    assert all(reason.rule != "unexplained" for reason in found)
