"""Whose call is it?"""

from __future__ import annotations

import pytest

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.decode.creation import decode_creation, from_flags
from forklore.decode.known import candidates, recognise
from forklore.features.explain.well_known import WELL_KNOWN


@pytest.mark.parametrize(
    ("word", "stack", "who"),
    [
        (0x1200011, 0, "glibc fork()"),
        (0x3D0F00, 0x7000, "glibc pthread_create(), before 2.34"),
        (0x7D0F00, 0x7000, "musl pthread_create()"),
        (0xD0F00, 0x7000, "Go runtime"),
        (0x4111, 0x7000, "2.24 to 2.33"),
        (0x4111, 0, "Go os/exec, before"),
        (0x5111, 0, "Go os/exec, with a pidfd"),
        (0x5100, 0, "test for pidfds"),
        (0x100011, 0, "system(), 2.28"),
        (0x8011, 0x7000, "runc"),
        (0x20020011, 0, "sandbox"),
        (0x800011, 0, "CLONE_UNTRACED"),
    ],
)
def test_fingerprints_of_clone_on_x86_64(word: int, stack: int, who: str) -> None:
    found = recognise(decode_creation(Arch.X86_64, 56, (word, stack, 0, 0, 0)))
    assert found is not None
    assert who in found


@pytest.mark.parametrize("name", [name for name in WELL_KNOWN if name not in ("clone", "clone3")])
def test_every_well_known_call_is_recognised(name: str) -> None:
    assert recognise(WELL_KNOWN[name].creation())


def test_nobodys_call() -> None:
    assert recognise(from_flags(Arch.X86_64, "clone", f.CLONE_FS, 17)) is None
    assert recognise(decode_creation(Arch.X86_64, 56, (None,))) is None


def test_without_the_stack_several_fit() -> None:
    assert len(candidates(from_flags(Arch.X86_64, "clone", 0x4100, 17))) == 2
