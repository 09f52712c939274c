"""The flag vocabularies: each bit is named by the call it was given to, and no bit is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi import flags
from forklore.abi.flags import CLONE, CLONE3, CLOSE_RANGE, SETNS, UNSHARE, Vocabulary

ALL = (CLONE, CLONE3, UNSHARE, SETNS, CLOSE_RANGE)
WORD = st.integers(min_value=0, max_value=(1 << 64) - 1)


def names(vocabulary: Vocabulary, raw: int) -> list[str]:
    return [flag.name for flag in vocabulary.split(raw)[0]]


@pytest.mark.parametrize("vocabulary", ALL, ids=lambda v: v.name)
@given(raw=WORD)
def test_split_partitions_every_word(vocabulary: Vocabulary, raw: int) -> None:
    known, unknown = vocabulary.split(raw)
    together = 0
    for flag in known:
        assert together & flag.value == 0
        together |= flag.value
    assert together & unknown == 0
    assert together | unknown == raw
    assert unknown & vocabulary.mask == 0


@pytest.mark.parametrize("vocabulary", ALL, ids=lambda v: v.name)
def test_flags_are_single_bits_in_order(vocabulary: Vocabulary) -> None:
    values = [flag.value for flag in vocabulary.flags]
    assert values == sorted(set(values))
    assert all(value.bit_count() == 1 for value in values)
    assert vocabulary.mask == sum(values)


@pytest.mark.parametrize("vocabulary", ALL, ids=lambda v: v.name)
def test_a_flag_is_the_constant_of_its_name(vocabulary: Vocabulary) -> None:
    for flag in vocabulary.flags:
        assert flag.value == getattr(flags, flag.name)
        assert vocabulary.by_name(flag.name) is flag
        assert re.fullmatch(r"\d+\.\d+(\.\d+)?", flag.since)
        assert re.fullmatch(r"[A-Z][^\n]+\.", flag.meaning)
    assert vocabulary.by_name("CLONE_NO_SUCH") is None


def test_a_glibc_thread() -> None:
    assert names(CLONE3, 0x3D0F00) == [
        "CLONE_VM", "CLONE_FS", "CLONE_FILES", "CLONE_SIGHAND", "CLONE_THREAD", "CLONE_SYSVSEM",
        "CLONE_SETTLS", "CLONE_PARENT_SETTID", "CLONE_CHILD_CLEARTID",
    ]  # fmt: skip


def test_bit_7_is_a_flag_to_clone3_and_unshare_and_a_signal_to_clone() -> None:
    assert names(CLONE3, 0x80) == names(UNSHARE, 0x80) == names(SETNS, 0x80) == ["CLONE_NEWTIME"]
    assert CLONE.split(0x80) == ((), 0x80)
    assert CLONE.mask & flags.CSIGNAL == 0


def test_bit_20_stores_a_tid_in_clone_and_empties_mounts_in_unshare() -> None:
    assert names(CLONE, 0x100000) == names(CLONE3, 0x100000) == ["CLONE_PARENT_SETTID"]
    assert names(UNSHARE, 0x100000) == ["UNSHARE_EMPTY_MNTNS"]
    assert SETNS.split(0x100000) == ((), 0x100000)


def test_clone_knows_no_bit_that_the_kernel_cuts_off() -> None:
    assert CLONE.mask & ~flags.LEGACY_MASK == 0
    assert names(CLONE, 0x400000) == ["CLONE_DETACHED"]
    assert CLONE3.by_name("CLONE_DETACHED") is None
    # Every bit above the signal byte has a meaning by now.
    assert CLONE.mask == flags.LEGACY_MASK & ~flags.CSIGNAL


def test_the_bits_that_clone3_alone_has() -> None:
    assert [(flag.name, flag.since) for flag in CLONE3.flags if flag.value > flags.LEGACY_MASK] == [
        ("CLONE_CLEAR_SIGHAND", "5.5"),
        ("CLONE_INTO_CGROUP", "5.7"),
        ("CLONE_AUTOREAP", "7.1"),
        ("CLONE_NNP", "7.1"),
        ("CLONE_PIDFD_AUTOKILL", "7.1"),
        ("CLONE_EMPTY_MNTNS", "7.1"),
    ]
    assert CLONE3.split(1 << 38) == ((), 1 << 38)


def test_setns_takes_the_eight_namespaces_and_nothing_else() -> None:
    assert sorted(flag.name for flag in SETNS.flags) == sorted(
        f"CLONE_NEW{kind}" for kind in ("CGROUP", "IPC", "NET", "NS", "PID", "TIME", "USER", "UTS")
    )


def test_a_flag_means_something_else_to_each_call() -> None:
    sentences = {v.name: flag.meaning for v in (CLONE, UNSHARE, SETNS) if (flag := v.by_name("CLONE_NEWPID"))}
    assert sentences == {
        "clone": "The child starts in a new pid namespace: process ids.",
        "unshare": "Children made from now on start in a new pid namespace: process ids.",
        "setns": "Children made from now on start in the pid namespace of the descriptor: process ids.",
    }


def test_every_flag_of_the_header_is_in_some_vocabulary() -> None:
    header = {name for name in vars(flags) if re.match(r"(CLONE|UNSHARE|CLOSE_RANGE)_[A-Z]", name)}
    assert header == {flag.name for vocabulary in ALL for flag in vocabulary.flags}
