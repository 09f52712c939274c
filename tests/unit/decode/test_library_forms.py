"""Who makes such a call: the forms of real libraries, written out as their calls are, and what is nobody's.

Every view of a creation follows from one table, so no two of them may disagree about a call.
"""

import struct
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi import flags as f
from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.decode.creation import Creation, decode_creation, from_flags
from forklore.decode.library_forms import FORMS, WITHOUT_VFORK, LibraryForm, candidates, fingerprint, makers
from forklore.features.explain.answers import CallExplained, explain
from forklore.features.explain.well_known import WELL_KNOWN
from forklore.model.attribution import attribute

TLS: Final = 0x7F11_2233_4740
TID: Final = TLS + 0x2D0
MAPPED: Final = 0x7F11_2200_9000
"""The end of a mapping, which glibc's posix_spawn() gives its clone()."""
STACK: Final = MAPPED - 16
"""What that makes of it on x86_64."""


def clone(
    flags: int, stack: int = 0, *, tid: int = 0, child: int = 0, tls: int = 0, arch: Arch = Arch.X86_64
) -> Creation:
    order = (flags, stack, tid, child, tls) if arch in (Arch.X86_64, Arch.X32) else (flags, stack, tid, tls, child)
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
        (clone(0x4111, arch=Arch.RISCV64), ("syscall.forkExec", "Go", False)),
        (clone(0x100011, tid=TID), ("system", "glibc", True)),
        (clone(0x8011, STACK), ("", "runc", False)),
        (clone(0x11 | 0x2002_0000), ("", "bubblewrap, crun or systemd", False)),
        (clone3(0x2_0002_0000, 17, stack=0), ("", "crun, runc or systemd", False)),
        (clone(0x11, arch=Arch.AARCH64), ("fork", "musl", False)),
        (clone(0x4111, arch=Arch.AARCH64), ("vfork", "musl", False)),
        (decode_creation(Arch.X86_64, 57, ()), ("fork", "musl", False)),
        (decode_creation(Arch.X86_64, 58, ()), ("vfork", "", False)),
    ],
)  # fmt: skip
def test_each_librarys_call_is_told(creation: Creation, expected: tuple[str, str, bool]) -> None:
    assert made(creation) == expected


@pytest.mark.parametrize(
    ("arch", "stack", "expected"),
    [
        # posix_spawn() of glibc 2.31, and of 2.36, 2.41 and 2.43 where clone3 answers ENOSYS; of musl 1.2.2 to 1.2.6.
        (Arch.X86_64, 0x7F06_6D23_8FF0, ("posix_spawn", "glibc", True)),
        (Arch.X86_64, 0x7F61_8145_FFF0, ("posix_spawn", "glibc", True)),
        (Arch.X86_64, 0x7FFE_7B38_C6D8, ("posix_spawn", "musl", True)),
        (Arch.X86_64, 0x7FFD_80C3_FF38, ("posix_spawn", "musl", True)),
        (Arch.I386, 0xF7CD_6FE4, ("posix_spawn", "glibc", True)),
        (Arch.I386, 0xF7C7_4FE4, ("posix_spawn", "glibc", True)),
        (Arch.I386, 0xFFAF_A790, ("posix_spawn", "musl", True)),
        (Arch.I386, 0xFFD2_53D0, ("posix_spawn", "musl", True)),
        # posix_spawn() of glibc 2.36 and 2.41, under an emulator that has no clone3.
        (Arch.AARCH64, 0x55_00E2_1000, ("posix_spawn", "glibc", False)),
        (Arch.RISCV64, 0x40_00D2_7FF0, ("posix_spawn", "glibc", False)),
        # A vfork()'s stack pointer; musl's posix_spawn() looks the same.
        (Arch.AARCH64, 0x55_00E2_1230, ("vfork", "glibc", False)),
        (Arch.RISCV64, 0x40_00D2_7120, ("vfork", "glibc", False)),
        # No clone() of a C library prepares such stacks for its posix_spawn().
        (Arch.X86_64, 0x7F11_2200_8F40, None),
        (Arch.X86_64, 0x7F11_2200_8F44, None),
        (Arch.I386, 0xF7CD_6FE8, None),
    ],
)  # fmt: skip
def test_the_end_of_the_childs_stack_tells_whose_posix_spawn_it_is(
    arch: Arch, stack: int, expected: tuple[str, str, bool] | None
) -> None:
    creation = clone(0x4111, stack, arch=arch)
    assert made(creation) == expected
    if expected is not None and expected[2]:
        assert len(candidates(creation)) == 1


@pytest.mark.parametrize(
    ("word", "stack", "who"),
    [
        (0x1200011, 0, "glibc fork()"),
        (0x3D0F00, 0x7000, "glibc pthread_create(), before 2.34"),
        (0x7D0F00, 0x7000, "musl pthread_create()"),
        (0xD0F00, 0x7000, "Go runtime"),
        (0x4111, 0x6FF0, "2.24 to 2.33"),
        (0x4111, 0x7008, "musl posix_spawn()"),
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
    (found,) = candidates(decode_creation(Arch.X86_64, 56, (word, stack, 0, 0, 0)))
    assert who in found


@pytest.mark.parametrize("name", [name for name in WELL_KNOWN if name not in ("clone", "clone3")])
def test_every_well_known_call_is_recognised(name: str) -> None:
    assert candidates(WELL_KNOWN[name].creation())


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
        decode_creation(Arch.X86_64, 56, (None,)),
        decode_creation(Arch.X86_64, 435, (0x1000, 88)),
        from_flags(Arch.X86_64, "clone", f.CLONE_FS, 17),
    ],
)  # fmt: skip
def test_a_form_that_is_nobodys(creation: Creation) -> None:
    assert fingerprint(creation) is None
    assert candidates(creation) == ()


def test_what_a_log_does_not_tell_names_nobody_and_leaves_several() -> None:
    assert fingerprint(decode_creation(Arch.X86_64, 56, (0x1200011,))) is None
    assert candidates(from_flags(Arch.X86_64, "clone", 0x4100, 17)) == (
        "glibc posix_spawn(), 2.24 to 2.33, or where clone3 is refused",
        "musl posix_spawn(), system() or popen()",
        "Go os/exec, before it used pidfds",
    )


def test_arches_without_vfork_are_those_whose_tables_have_none() -> None:
    assert frozenset(arch for arch in Arch if syscalls.number(arch, "vfork") is None) == WITHOUT_VFORK
    assert frozenset(arch for arch in Arch if syscalls.number(arch, "fork") is None) == WITHOUT_VFORK


def all_views_agree(creation: Creation) -> None:
    """Whatever is said of who makes such a call follows from the same rows of the table."""
    forms = makers(creation)
    assert candidates(creation) == tuple(dict.fromkeys(form.who for form, _ in forms))
    told = [form for form, whole in forms if whole and (form.library or form.call)]
    found = fingerprint(creation)
    if found is None:
        assert not told
        assert attribute(creation, None).source == "none"
        return
    assert (found.call, found.library) == (told[0].call, told[0].library)
    assert found.why.startswith(told[0].why)
    assert candidates(creation)[0] == told[0].who
    assert all(who in found.why for who in candidates(creation)[1:])
    if found.sure:
        assert candidates(creation) == (told[0].who,)
    said = attribute(creation, None)
    assert said.chain == ((found.call,) if found.call else ())
    assert said.source == ("fingerprint" if found.call else "none")
    assert said.sure is (found.sure and bool(found.call))
    assert found.why in said.why


def explained(creation: Creation) -> tuple[str, ...]:
    """What ``explain`` says of a call, asked by its bytes."""
    answer = explain("clone3", struct.pack("<11Q", *(word or 0 for _, word in creation.words.items())).hex())
    assert isinstance(answer, CallExplained)
    return answer.made_by


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.who)
@pytest.mark.parametrize("arch", Arch)
@pytest.mark.parametrize("below", [0, 4, 8, 16, 28])
def test_all_views_of_every_row_agree(form: LibraryForm, arch: Arch, below: int) -> None:
    nr = syscalls.number(arch, form.system_call or "")
    if nr is None:
        assert form.system_call in ("fork", "vfork")
        return
    if form.system_call in ("fork", "vfork"):
        creation = decode_creation(arch, nr, ())
    elif form.system_call == "clone":
        stack = (MAPPED & 0xFFFF_FFFF) - below if form.stack is not False else 0
        creation = clone((form.flags or 0) | (form.exit_signal or 0), stack, tid=TID, child=TID, tls=TLS, arch=arch)
    else:
        creation = clone3(form.flags or 0, form.exit_signal or 0, pidfd=TID, tid=TID, tls=TLS)
        assert explained(creation) == candidates(creation)
    all_views_agree(creation)
    all_views_agree(from_flags(arch, "clone", form.flags or 0, form.exit_signal or 0))


def test_every_row_is_reached() -> None:
    """No row is hidden by one before it: there is a call that each is the likeliest maker of, or is told beside."""
    words = [(arch, flags, stack, call) for arch in Arch for flags in {(form.flags or 0) | (form.exit_signal or 0)
             for form in FORMS} for stack in (0, MAPPED - 8, MAPPED - 16, MAPPED - 28, MAPPED - 32)
             for call in ("clone", "fork", "vfork", "clone3")]  # fmt: skip
    seen: set[int] = set()
    for arch, word, stack, call in words:
        if call == "clone3":
            creation = clone3(word & ~0xFF, word & 0xFF, pidfd=TID, tid=TID, tls=TLS, stack=stack)
        elif call == "clone":
            creation = clone(word, stack, tid=TID, child=TID, tls=TLS, arch=arch)
        else:
            creation = decode_creation(arch, syscalls.number(arch, call), ())
        seen.update(id(form) for form, _ in makers(creation))
    assert [form.who for form in FORMS if id(form) not in seen] == []


KNOWN = sorted({form.flags for form in FORMS if form.flags is not None})


@settings(max_examples=300, deadline=None)
@given(
    arch=st.sampled_from(list(Arch)),
    call=st.sampled_from(["clone", "clone3", "fork", "vfork"]),
    flags=st.sampled_from(KNOWN) | st.integers(0, 2**64 - 1),
    signal=st.sampled_from([0, 17]),
    rest=st.lists(st.none() | st.sampled_from([0, MAPPED, STACK, TID, TLS]) | st.integers(0, 2**64 - 1), max_size=5),
    size=st.sampled_from([0, 64, 80, 88, 96]),
    data=st.none() | st.binary(max_size=100),
)
def test_all_views_of_any_call_agree(
    arch: Arch, call: str, flags: int, signal: int, rest: list[int | None], size: int, data: bytes | None
) -> None:
    nr = syscalls.number(arch, call)
    if call == "clone3":
        words = [word or 0 for word in rest] + [0] * (5 - len(rest))
        given = struct.pack("<8Q", flags, *words[:3], signal, *words[3:], 0x9000)[:size].ljust(size, b"\0")
        creation = decode_creation(arch, nr, (0x1000, size), given if data is None else data)
    else:
        creation = decode_creation(arch, nr, (flags | signal, *rest))
    all_views_agree(creation)
    assert fingerprint(creation) == fingerprint(creation)
