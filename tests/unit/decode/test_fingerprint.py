"""Who makes such a call: the forms of real libraries, written out as their calls are, and what is nobody's."""

import struct
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.decode.creation import Creation, decode_creation
from forklore.decode.fingerprint import fingerprint

TLS: Final = 0x7F11_2233_4740
TID: Final = TLS + 0x2D0
STACK: Final = 0x7F11_2200_0000


def clone(
    flags: int, stack: int = 0, *, tid: int = 0, child: int = 0, tls: int = 0, arch: Arch = Arch.X86_64
) -> Creation:
    order = (flags, stack, tid, child, tls) if arch is Arch.X86_64 else (flags, stack, tid, tls, child)
    return decode_creation(arch, syscalls.number(arch, "clone"), order)


def clone3(
    flags: int, signal: int = 0, *, pidfd: int = 0, tid: int = 0, tls: int = 0, size: int = 88, stack: int = STACK
) -> Creation:
    words = struct.pack("<11Q", flags, pidfd, tid, tid, signal, stack, 0x9000 if stack else 0, tls, 0, 0, 5)[:size]
    return decode_creation(Arch.X86_64, 435, (0x1000, size), words)


def made(creation: Creation) -> tuple[str, str, bool] | None:
    found = fingerprint(creation)
    assert found is None or found.why
    return None if found is None else (found.call, found.library, found.sure)


@pytest.mark.parametrize(
    ("creation", "expected"),
    [
        (clone(0x1200011, child=TID), ("fork", "glibc", True)),
        (clone(0x1200011, child=TID, arch=Arch.AARCH64), ("fork", "glibc", True)),
        (clone(0x1200011, child=TID, arch=Arch.I386), ("fork", "glibc", True)),
        (clone3(0x3D0F00, pidfd=TID, tid=TID, tls=TLS), ("pthread_create", "glibc", True)),
        (clone(0x3D0F00, STACK, tid=TID, child=TID, tls=TLS), ("pthread_create", "glibc", True)),
        (clone(0x3D0F00, STACK, tid=0xF000_0068, tls=0xFF00_0000, arch=Arch.I386), ("pthread_create", "glibc", True)),
        (clone(0x7D0F00, STACK, tid=TID, tls=TLS), ("pthread_create", "musl", True)),
        (clone(0xD0F00, STACK, tls=TLS), ("runtime.newosproc", "Go", True)),
        (clone(0x50F00, STACK, arch=Arch.AARCH64), ("runtime.newosproc", "Go", True)),
        (clone3(0x4100, 17), ("posix_spawn", "glibc", True)),
        (clone3(0x1_0000_4100, 17), ("posix_spawn", "glibc", True)),
        (clone3(0x3_0000_4100, 17), ("posix_spawn", "glibc", True)),
        (clone3(0x1_0000_5100, 17, pidfd=TID), ("pidfd_spawn", "glibc", True)),
        (clone3(0x3_0000_5100, 17, pidfd=TID), ("pidfd_spawn", "glibc", True)),
        (clone(0x5111, tid=TID), ("syscall.forkExec", "Go", True)),
        (clone(0x5100, tid=TID), ("os.checkPidfd", "Go", True)),
        (clone(0x4111), ("syscall.forkExec", "Go", False)),
        (clone(0x100011, tid=TID), ("system", "glibc", True)),
        (clone(0x8011, STACK), ("", "runc", False)),
        (clone(0x11 | 0x2002_0000), ("", "bubblewrap, crun or systemd", False)),
        (clone3(0x2_0002_0000, 17, stack=0), ("", "crun, runc or systemd", False)),
        (clone(0x11, arch=Arch.AARCH64), ("fork", "musl", False)),
        (clone(0x4111, arch=Arch.AARCH64), ("vfork", "musl", False)),
        (clone(0x4111, STACK, arch=Arch.AARCH64), ("vfork", "glibc", False)),
        (decode_creation(Arch.X86_64, 57, ()), ("fork", "musl", False)),
        (decode_creation(Arch.X86_64, 58, ()), ("vfork", "", False)),
    ],
)  # fmt: skip
def test_each_librarys_call_is_told(creation: Creation, expected: tuple[str, str, bool]) -> None:
    assert made(creation) == expected


def test_what_clone_pushed_on_the_childs_stack_tells_musl_from_glibc() -> None:
    assert made(clone(0x4111, 0x7FFD_0000_1238)) == ("posix_spawn", "musl", True)
    assert made(clone(0x4111, 0x7F11_2200_8FF0)) == ("posix_spawn", "glibc", True)
    assert made(clone(0x4111, 0x7F11_2200_8F40)) == ("posix_spawn", "glibc", False)


@pytest.mark.parametrize(
    "creation",
    [
        clone3(0x3D0F00, pidfd=0, tid=TID, tls=TLS),
        clone3(0x3D0F00, pidfd=TID, tid=TID, tls=TLS, size=64),
        clone3(0x3D0F00, pidfd=TID, tid=TID, tls=TLS + 0x100_0000),
        clone(0x3D0F00, STACK, tid=TID, tls=TLS - 0x100_0000),
        clone(0x11),
        clone(0x111, STACK),
        clone(0x10F00, STACK),
        clone3(0x100, 17),
        clone3(0x4100, 10),
        decode_creation(Arch.X86_64, None, ()),
        decode_creation(Arch.X86_64, 435, (0x1000, 88)),
    ],
)  # fmt: skip
def test_a_form_that_is_nobodys(creation: Creation) -> None:
    assert fingerprint(creation) is None


def test_a_log_that_does_not_tell_the_stack_names_nobody_by_it() -> None:
    assert fingerprint(decode_creation(Arch.X86_64, 56, (0x1200011,))) is None


@settings(max_examples=120, deadline=None)
@given(
    arch=st.sampled_from(list(Arch)),
    call=st.sampled_from(["clone", "clone3", "fork", "vfork"]),
    args=st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=6),
    data=st.binary(max_size=100),
)
def test_any_call_has_an_answer(arch: Arch, call: str, args: list[int | None], data: bytes) -> None:
    creation = decode_creation(arch, syscalls.number(arch, call), args, data)
    found = fingerprint(creation)
    assert found is None or (found.why and (found.call or found.library))
    assert fingerprint(creation) == found
