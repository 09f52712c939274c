"""What people ask, and what they get."""

from __future__ import annotations

import errno
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi import flags as f
from forklore.decode.calls import Setns, Unshare
from forklore.decode.creation import Creation
from forklore.features.explain.answers import AskError, CallComparison, CallExplained, ErrnoExplained, explain


def one(*what: str | int, **options: object) -> CallExplained:
    answer = explain(*what, **options)  # type: ignore[arg-type]
    assert isinstance(answer, CallExplained)
    return answer


@pytest.mark.parametrize(
    "what",
    [0x1200011, "0x1200011", "18874385", "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD",
     "child_cleartid,child_settid,chld", ("0x200000 | CHILD_SETTID + "
                                         "17"), "clone:child_cleartid|child_settid|sigchld",
     "clone(CHILD_CLEARTID | CHILD_SETTID | SIGCHLD)"],
)  # fmt: skip
def test_many_ways_to_write_one_call(what: str | int) -> None:
    answer = one(what)
    assert answer.call.text() == "clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD)"
    assert answer.word == 0x1200011
    assert answer.made_by == ("glibc fork() or _Fork()",)


def test_the_vocabulary_is_chosen_by_what_fits() -> None:
    assert one("0x80").call.text() == "clone3(CLONE_NEWTIME)"
    assert one("CLONE_CLEAR_SIGHAND|SIGCHLD").call.text() == "clone3(CLONE_CLEAR_SIGHAND, exit SIGCHLD)"
    assert isinstance(one("UNSHARE_EMPTY_MNTNS").call, Unshare)
    assert isinstance(one("NEWNET", call="setns").call, Setns)
    assert one("0x80", call="clone").call.text() == "clone(128)"


def test_the_same_bits_elsewhere() -> None:
    others = {reading.call: reading.text for reading in one("0x100000").readings}
    assert others == {"unshare": "unshare(UNSHARE_EMPTY_MNTNS)"}
    assert one("CLONE_FS").readings == ()


def test_a_struct() -> None:
    words = struct.pack("<11Q", 0x4100, 0, 0, 0, 17, 0x1000, 0x9000, 0, 0, 0, 0)
    for text in (words.hex(), words.hex(" "), "0x" + words.hex()):
        call = one("clone3", text).call
        assert isinstance(call, Creation)
        assert (call.flags.raw, call.stack_size, call.struct_size) == (0x4100, 0x9000, 88)
    assert one(f"clone3 {words.hex()}").call == call
    larger = one("clone3", (words + b"\x01" + bytes(7)).hex())
    assert [reason.rule for reason in larger.refused] == ["clone3-nonzero-tail"]
    assert one("clone3", words[:64].hex()).refused == ()


def test_an_error_with_and_without_a_call() -> None:
    answer = one("EINVAL", "CLONE_THREAD")
    assert answer.errno == errno.EINVAL
    assert "thread-without-sighand" in [reason.rule for reason in answer.reasons]
    alone = explain("EBADF")
    assert isinstance(alone, ErrnoExplained)
    assert {rule.id for rule in alone.rules} == {"cgroup-closed", "cgroup-descriptor", "setns-descriptor"}


def test_calls_side_by_side() -> None:
    answer = explain("fork", "vfork", "posix_spawn", "unshare:newns")
    assert isinstance(answer, CallComparison)
    assert answer.titles == ("fork", "vfork", "posix_spawn", "unshare:newns")
    assert [column.call.text(abbreviate=True) for column in answer.columns][3] == "unshare(NEWNS)"


def test_the_kernel_to_judge_by() -> None:
    assert one("CLONE_AUTOREAP", kernel=(6, 1)).refused
    assert not one("CLONE_AUTOREAP", kernel=(7, 1)).refused


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (["CLONE_TREAD"], "'CLONE_TREAD' is no flag, signal, number or call; did you mean CLONE_THREAD"),
        (["posix_spwan"], "did you mean posix_spawn"),
        (["VM|FLIES"], "'FLIES'"),
        (["clone3", "00410"], "5 digits are not whole bytes"),
        (["0xfffffffffffffffff"], "does not fit in 64 bits"),
        (["fork:VM"], "'fork' is no call with flags"),
        (["unshare:VM|SIGCHLD"], "unshare takes no signal"),
        (["SIGCHLD|SIGUSR1"], "one exit signal"),
        (["EINVAL", "EPERM", "VM"], "one error at a time"),
        (["-1"], "'-1'"),
        (["clone:CLEAR_SIGHAND"], "clone(2) has no CLONE_CLEAR_SIGHAND"),
        (["09"], "'09'"),
    ],
)
def test_bad_input_is_named(what: list[str], says: str) -> None:
    with pytest.raises(AskError) as caught:
        explain(*what)
    assert says in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(raw=st.integers(0, 2**64 - 1), call=st.sampled_from([None, "clone", "clone3", "unshare", "setns"]))
def test_every_number_has_an_answer(raw: int, call: str | None) -> None:
    answer = one(raw, call=call)
    if call in (None, "clone3", "unshare"):
        assert answer.word == raw
    assert sum({flag.value for flag in answer.flags}) | answer.unknown == (answer.word or 0) & ~signal_of(answer)


def signal_of(answer: CallExplained) -> int:
    call = answer.call
    return f.CSIGNAL if isinstance(call, Creation) and call.call == "clone" else 0


@settings(max_examples=200, deadline=None)
@given(what=st.lists(st.text(max_size=12), min_size=1, max_size=3))
def test_any_text_is_explained_or_refused_with_words(what: list[str]) -> None:
    try:
        explain(*what)
    except AskError as error:
        assert str(error)  # noqa: PT017 - either outcome is right
