"""Which pages of memory a server may have to be waited for: those of its files that are not in memory."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux import mappings, memory
from forklore.linux.files import served_memory, strangers_file
from forklore.linux.files.served_memory import is_served

ME = Tid(os.getpid())
PAGE = mmap.PAGESIZE


def address_of(mapped: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(mapped))


def anonymous(_folder: Path) -> mmap.mmap:
    return mmap.mmap(-1, 4 * PAGE)


def private(_folder: Path) -> mmap.mmap:
    return mmap.mmap(-1, 4 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def memfd(_folder: Path) -> mmap.mmap:
    fd = os.memfd_create("pages")
    os.ftruncate(fd, 4 * PAGE)
    return mmap.mmap(fd, 4 * PAGE)


def of_a_file(folder: Path) -> mmap.mmap:
    (folder / "file").write_bytes(bytes(4 * PAGE))
    with (folder / "file").open("r+b") as file:
        return mmap.mmap(file.fileno(), 4 * PAGE)


@pytest.mark.parametrize("make", [anonymous, private, memfd, of_a_file])
def test_the_kernel_answers_for_these(make: Callable[[Path], mmap.mmap], tmp_path: Path) -> None:
    mapped = make(tmp_path)
    at = address_of(mapped)
    assert not is_served(ME, Address(at))
    assert not memory.may_wait(ME, at, 3 * PAGE)
    assert memory.read(ME, Address(at), 16) == bytes(16)
    assert memory.window(ME, Address(at), 3 * PAGE) == bytes(3 * PAGE)


@pytest.mark.parametrize("kind", [b"fuse", b"nfs4", b"9p", b"virtiofs", b""])
def test_a_server_answers_for_these(kind: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is known of the mount, the kind is empty: then what lies on no disk is a server's."""
    mapped = of_a_file(tmp_path)
    at = address_of(mapped)
    monkeypatch.setattr(strangers_file, "kind_of_device", lambda *_which: kind)
    monkeypatch.setattr(mappings, "device_at", lambda *_which: (0, 4711))
    monkeypatch.setattr(served_memory, "_own", [(0, 1)])
    assert is_served(ME, Address(at))
    monkeypatch.setattr(mappings, "device_at", lambda *_which: (8, 1))
    assert is_served(ME, Address(at)) is bool(kind)


def test_what_is_there_is_not_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = of_a_file(tmp_path)
    at = address_of(mapped)
    monkeypatch.setattr(served_memory, "is_served", lambda *_which: True)
    mapped[0] = 1
    assert not memory.may_wait(ME, at, 16)


def test_what_may_be_waited_for_is_read_by_the_process_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    at = 1 << 40
    asked = []

    def served(_tid: Tid, where: int, size: int) -> bytes:
        asked.append((where, size))
        return b"x" * size

    monkeypatch.setattr(memory, "may_wait", lambda *_which: True)
    monkeypatch.setattr(memory, "_served", served)
    assert memory.read(ME, Address(at), 8) == b"x" * 8
    assert memory.window(ME, Address(at), PAGE) == b"x" * PAGE
    assert memory.with_window(ME, Address(at), 8, Address(at + PAGE), 16) == (b"x" * 8, b"x" * 16)
    assert asked == [(at, 8), (at, PAGE), (at, 8), (at + PAGE, 16)]


def test_a_question_about_a_device_has_the_answer_of_maps() -> None:
    every = mappings.mappings(ME)
    assert not isinstance(every, Unavailable)
    for one in list(every)[:40]:
        assert mappings.device_at(ME, one.start) == (one.major, one.minor)
    assert mappings.device_at(ME, 0) is None
