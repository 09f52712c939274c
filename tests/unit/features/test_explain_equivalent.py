"""clone as clone3 and back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from forklore.abi import flags as f
from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.decode.creation import Creation, decode_creation, from_flags
from forklore.decode.rules.table import Context, refusals
from forklore.decode.sharing import fates
from forklore.features.explain.equivalent import Equivalent, NoEquivalent, to_clone, to_clone3

X86 = Arch.X86_64
LEGACY = sum(flag.value for flag in f.CLONE.flags) & ~f.CLONE_DETACHED
FIELDS = ("exit_signal", "tls", "parent_tid", "child_tid", "pidfd")


def same(one: Creation, other: Creation) -> None:
    assert one.flags.raw == other.flags.raw
    for name in FIELDS:
        assert getattr(one, name) == getattr(other, name), name
    assert fates(one) == fates(other)


@settings(max_examples=200, deadline=None)
@given(
    flags=st.integers(0, 2**32 - 1).map(lambda raw: raw & LEGACY),
    signal=st.integers(0, 64),
    pointers=st.tuples(*[st.integers(1, 2**31)] * 3),
    stack=st.one_of(st.just(0), st.integers(2**20, 2**31)),
    arch=st.sampled_from(Arch),
)
def test_clone_to_clone3_and_back(
    flags: int, signal: int, pointers: tuple[int, int, int], stack: int, arch: Arch
) -> None:
    assume(flags & (f.CLONE_PIDFD | f.CLONE_PARENT_SETTID) != f.CLONE_PIDFD | f.CLONE_PARENT_SETTID)
    if flags & (f.CLONE_THREAD | f.CLONE_PARENT):
        signal = 0  # clone3 takes none there, and clone's has no effect
    ptid, tls, ctid = pointers
    args = [flags | signal, stack, ptid, tls, ctid]
    if arch in (Arch.X86_64, Arch.X32):
        args[3:] = [ctid, tls]
    first = decode_creation(arch, syscalls.number(arch, "clone"), args)
    there = to_clone3(first, 4096)
    assert isinstance(there, Equivalent), there
    same(first, there.creation)
    assert there.creation.problems == ()
    back = to_clone(there.creation)
    assert isinstance(back, Equivalent), back
    same(first, back.creation)
    assert back.creation.stack == first.stack
    assert back.args[:2] == tuple(args[:2])


@settings(max_examples=200, deadline=None)
@given(words=st.tuples(*[st.one_of(st.just(0), st.integers(0, 2**40))] * 11), arch=st.sampled_from(Arch))
def test_an_equivalent_is_what_was_asked_or_says_why_not(words: tuple[int, ...], arch: Arch) -> None:
    call = decode_creation(arch, syscalls.number(arch, "clone3"), (1, 88), struct.pack("<11Q", *words))
    answer = to_clone(call)
    if isinstance(answer, Equivalent):
        same(call, answer.creation)
    else:
        assert answer.why


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (f.CLONE_CLEAR_SIGHAND, "CLONE_CLEAR_SIGHAND has no bit"),
        (f.CLONE_AUTOREAP, "CLONE_AUTOREAP has no bit"),
        (f.CLONE_NEWTIME, "part of the exit signal"),
        (f.CLONE_PIDFD | f.CLONE_PARENT_SETTID, "one pointer"),
        (1 << 50, "no meaning"),
    ],
)
def test_what_clone_cannot_say(flags: int, words: str) -> None:
    answer = to_clone(from_flags(X86, "clone3", flags, 0))
    assert isinstance(answer, NoEquivalent)
    assert any(words in why for why in answer.why)


def test_what_clone3_cannot_say() -> None:
    odd = to_clone3(decode_creation(X86, 56, (0x91, 0, 0, 0, 0)))
    assert isinstance(odd, NoEquivalent)
    assert "145" in odd.why[0]
    on_a_stack = decode_creation(X86, 56, (0x100, 0x8000, 0, 0, 0))
    assert isinstance(to_clone3(on_a_stack), NoEquivalent)
    sized = to_clone3(on_a_stack, 0x1000)
    assert isinstance(sized, Equivalent)
    assert (sized.creation.stack, sized.creation.stack_size) == (0x7000, 0x1000)


def test_the_struct_is_one_that_the_kernel_takes() -> None:
    musl = decode_creation(X86, 56, (0x7D0F00, 0x8000, 1, 2, 3))
    made = to_clone3(musl, 0x1000)
    assert isinstance(made, Equivalent)
    assert made.struct is not None
    assert len(made.struct) == made.args[1] == 88
    assert refusals(made.creation, Context(kernel=(6, 18))) == ()
    assert "CLONE_DETACHED is left out" in made.notes[0]
