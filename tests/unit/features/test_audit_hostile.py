"""ELF files made to break or to busy who looks into them: a clear error or an answer, soon."""

from __future__ import annotations

import io
import lzma
import random
import signal
import struct
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from forklore.abi.arch import Arch
from forklore.abi.units import Unavailable
from forklore.features.audit.observe.package import unpack
from forklore.features.audit.observe.target import NoTargetError, running, targets
from forklore.features.audit.static import findings, instructions
from forklore.features.audit.static.elf_file import BrokenElfError, identify

LIMIT = 20
"""Seconds of processor time; every file here takes one or two."""
_PROGRAM, _NOTE, _DYNAMIC = 1, 4, 2
_STRINGS, _NEEDS = 3, 0x6FFFFFFE


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    def late(_signal: int, _frame: object) -> None:
        raise AssertionError(f"not done after {LIMIT} seconds")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


def elf(
    segments: Sequence[tuple[int, int, int]] = (),
    sections: Sequence[tuple[int, int, int, int, int, int]] = (),
    body: bytes = b"",
    *,
    counts: tuple[int | None, int | None] = (None, None),
    sizes: tuple[int, int] = (56, 64),
) -> bytes:
    """A file of x86_64: program headers (type, offset, size), then section headers (name, type, offset, size, link,
    info), then ``body`` at offset 4096. ``counts`` and ``sizes``: what the head says of the headers instead."""
    programs = b"".join(struct.pack("<IIQQQQQQ", kind, 5, at, at, at, size, size, 4) for kind, at, size in segments)
    parts = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, link, info, 1, 0)
        for name, kind, at, size, link, info in sections
    )
    phnum = counts[0] if counts[0] is not None else len(segments)
    shnum = counts[1] if counts[1] is not None else len(sections)
    head = b"\x7fELF\2\1\1" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 64 + len(programs), 0, 64, sizes[0], phnum, sizes[1], shnum,
        min(1, len(sections)),
    )  # fmt: skip
    assert len(head + programs + parts) <= 4096
    return (head + programs + parts).ljust(4096, b"\0") + body


NOTHING = (0, 0, 0, 0, 0, 0)
LONG = b"x" * 200_000 + b"\0"
CASES = {
    "a segment header of no size": (elf([(_PROGRAM, 0, 8)], counts=(60_000, None), sizes=(0, 64)), "60000 segments"),
    "segments without number": (
        elf(sections=[(0, 0, 0, 0, 0, 0xFFFF_FFFF)], counts=(0xFFFF, None)), "4294967295 segments",
    ),
    "sections without number": (elf(sections=[(0, 0, 0, 1 << 40, 0, 0)], counts=(None, 0)), "1099511627776 sections"),
    "a section header of another size": (elf(sections=[NOTHING] * 3, sizes=(56, 1)), "have 1 bytes instead of 64"),
    "several dynamic segments": (elf([(_DYNAMIC, 4096, 16)] * 40, body=bytes(64)), "40 dynamic segments"),
    "one long name for all sections": (
        elf(sections=[NOTHING, *[(0, _STRINGS, 4096, len(LONG), 0, 0)] * 60], body=LONG, counts=(None, 61)),
        None,
    ),
    "needs that follow each other for ever": (
        elf(sections=[NOTHING, (0, _STRINGS, 4096, 8, 0, 0), (0, _NEEDS, 4104, 16, 1, 0xFFFF_FFFF)],
            body=bytes(8) + struct.pack("<HHIII", 1, 0xFFFF, 0, 16, 0) + bytes(64)),
        "more than 5000 versions",
    ),
    "more libraries than there are": (
        elf(sections=[NOTHING, (0, _STRINGS, 4096, 8, 0, 0), (0, _NEEDS, 4104, 16, 1, 0xFFFF_FFFF)],
            body=bytes(8) + struct.pack("<HHIII", 1, 1, 0, 16, 0) + bytes(64)),
        "more than 5000 versions",
    ),
    "a note that is larger than its segment": (
        elf([(_NOTE, 4096, 64)], body=struct.pack("<III", 4, 1 << 20, 3) + b"GNU\0" + bytes(48)), "larger than its",
    ),
    "a note's name that is larger": (
        elf([(_NOTE, 4096, 64)], body=struct.pack("<III", 1 << 30, 0, 3) + b"GNU" * 20), "larger than its segment",
    ),
    "more notes than a file has": (elf([(_NOTE, 4096, 1 << 16)], body=bytes(1 << 16)), "more than 1000 notes"),
    "the same code again and again": (elf([(_PROGRAM, 0, 4096)] * 50), "bytes of code"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_a_reason(case: str, tmp_path: Path) -> None:
    raw, says = CASES[case]
    path = tmp_path / "file"
    path.write_bytes(raw)
    if says is None:
        assert "EM_X86_64" in findings.text(findings.look(path))
        return
    with pytest.raises(BrokenElfError) as problem:
        findings.look(path)
    assert says in str(problem.value)
    assert str(problem.value).startswith(f"{path} is a broken ELF file: ")
    with pytest.raises((BrokenElfError, NoTargetError)):
        targets(path)


def test_names_are_read_once_and_not_without_end(tmp_path: Path) -> None:
    long = b"x" * (1 << 20) + b"\0"
    path = tmp_path / "file"
    path.write_bytes(elf(sections=[NOTHING, *[(0, _STRINGS, 4096, len(long), 0, 0)] * 59], body=long))
    with pytest.raises(BrokenElfError, match="its names are longer than"):
        findings.look(path)


def test_code_of_nothing_but_system_calls_is_not_read_for_ever(tmp_path: Path) -> None:
    pytest.importorskip("capstone", reason="capstone is not installed (the extra `audit`)")
    path = tmp_path / "file"
    path.write_bytes(elf([(_PROGRAM, 0, 4096 + 400_000)], body=b"\x0f\x05" * 200_000))
    calls = findings.look(path).calls
    assert calls == Unavailable(0, "it holds the bytes of such an instruction at more than 20000 places")


def test_every_place_is_looked_at_up_to_the_limit() -> None:
    pytest.importorskip("capstone", reason="capstone is not installed (the extra `audit`)")
    some = 150
    found = instructions.sites(Arch.X86_64, [(0, (b"\x90" * 16 + b"\xb8\x39\x00\x00\x00\x0f\x05") * some)], [])
    assert not isinstance(found, Unavailable)
    assert [site.name for site in found] == ["fork"] * some


def test_a_hash_table_that_ends_early(tmp_path: Path) -> None:
    # The chain of DT_GNU_HASH leads behind the end of the file, where struct.unpack has nothing to unpack.
    tags = struct.pack("<10Q", 0x6FFFFEF5, 4200, 5, 4200, 6, 4200, 10, 8, 0, 0)
    table = struct.pack("<4IQI", 1, 1, 1, 0, 0, 1 << 20)
    body = tags.ljust(104, b"\0") + table
    path = tmp_path / "file"
    path.write_bytes(elf([(_PROGRAM, 0, 4096 + len(body)), (_DYNAMIC, 4096, len(tags))], body=body))
    with pytest.raises(BrokenElfError, match="broken ELF file: error: unpack requires"):
        findings.look(path)


def test_a_build_id_is_glibcs_note_and_no_other(tmp_path: Path) -> None:
    # Type 3 of another owner means something else.
    other = struct.pack("<III", 4, 4, 3) + b"Xen\0" + b"\1\2\3\4"
    own = struct.pack("<III", 4, 4, 3) + b"GNU\0" + b"\5\6\7\x08"
    path = tmp_path / "file"
    path.write_bytes(elf([(_NOTE, 4096, len(other + own))], body=other + own + bytes(16)))
    assert identify(path).build_id == "05060708"


def test_a_package_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("forklore.features.audit.observe.package._TOTAL_LIMIT", 1 << 22)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:") as archive:
        info = tarfile.TarInfo("./usr/share/doc/README")  # nothing that would be unpacked
        info.size = 1 << 23
        archive.addfile(info, io.BytesIO(bytes(1 << 23)))
    data = lzma.compress(packed.getvalue())
    header = f"{'data.tar.xz':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
    path = tmp_path / "libc6.deb"
    path.write_bytes(b"!<arch>\n" + header + data)
    with pytest.raises(NoTargetError, match=r"is a broken package: it holds more than \d+ bytes"):
        unpack(path)


@pytest.mark.parametrize("seed", range(3))
def test_damage_of_any_kind(seed: int, tmp_path: Path) -> None:
    """A small library, cut or changed byte by byte, with words of headers set to what breaks arithmetic."""
    chance = random.Random(seed)
    whole = Path("/bin/true").resolve().read_bytes()
    words = [0, 1, (1 << 64) - 1, (1 << 63) - 1, 0xFFFF_FFFF, 1 << 32, len(whole)]
    path = tmp_path / "file"
    for _ in range(12):
        raw = bytearray(whole)
        if chance.random() < 0.2:
            del raw[chance.randrange(len(raw)) :]
        for _ in range(chance.randrange(1, 6)):
            at = chance.choice([chance.randrange(0x1000), chance.randrange(len(whole))]) & ~7
            raw[at : at + 8] = struct.pack("<Q", chance.choice([*words, chance.getrandbits(64)]))[: len(raw[at:])]
        path.write_bytes(raw)
        for look in (lambda: findings.text(findings.look(path)), lambda: targets(path)):
            try:
                look()
            except (BrokenElfError, NoTargetError) as problem:
                assert str(path) in str(problem)  # noqa: PT017 - or there is an answer


def test_a_sound_library_is_still_read() -> None:
    assert targets(running().path)
