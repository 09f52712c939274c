"""Files are found below a root and nowhere else, looked at before they are opened, and read no further than is safe."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.units import Unavailable
from forklore.linux.files import strangers_file
from forklore.linux.files.strangers_file import Folder, Pages, content, open_file


@pytest.fixture(params=["by one call", "part by part"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """A tree that tries to lead out of itself."""
    if request.param == "part by part":
        monkeypatch.setattr(strangers_file, "openat2", lambda *_words: -errno.EAGAIN)
    top = tmp_path / "top"
    (top / "usr/lib").mkdir(parents=True)
    (top / "usr/lib/file").write_bytes(b"inside")
    (tmp_path / "file").write_bytes(b"outside")
    for name, target in {
        "lib": "usr/lib", "absolute": "/usr/lib/file", "out": "../../../../file", "up": "/usr/../../usr/lib/file",
        "loop": "loop", "nothing": "none", "zero": "/dev/zero", "chain": "usr/lib/chain",
    }.items():
        (top / name).symlink_to(target)
    (top / "usr/lib/chain").symlink_to("../../absolute")
    os.mkfifo(top / "pipe")
    folder = Folder(str(top))
    yield folder
    folder.close()


@pytest.mark.parametrize(
    "name",
    ["usr/lib/file", "/usr/lib/file", "lib/file", "absolute", "up", "../../lib/file", "chain", "usr//lib/../lib/file"],
)
def test_names_are_looked_up_below_the_root(root: Folder, name: str) -> None:
    found = root.open(os.fsencode(name))
    assert not isinstance(found, Unavailable), found
    assert (found.size, found.read(0, 100), found.read(4, 100)) == (6, b"inside", b"de")
    found.close()


@pytest.mark.parametrize(
    ("name", "number"),
    [("out", errno.ENOENT), ("loop", errno.ELOOP), ("nothing", errno.ENOENT), ("zero", errno.ENOENT),
     ("usr/lib/file/x", errno.ENOTDIR), ("usr/lib", 0), ("pipe", 0), ("a\0b", 0)],
)  # fmt: skip
def test_what_cannot_be_opened_is_told(root: Folder, name: str, number: int) -> None:
    found = root.open(os.fsencode(name))
    assert isinstance(found, Unavailable)
    assert found.errno == number
    assert found.why


@pytest.mark.parametrize("path", ["/proc/self/maps", "/proc/kmsg", "/sys/kernel/notes", "/dev/zero", "/dev/tty", "/"])
def test_what_is_no_kept_file_is_not_opened(path: str) -> None:
    if not os.path.lexists(path):
        pytest.skip(f"no {path} here")
    found = open_file(path)
    assert isinstance(found, Unavailable)
    assert "not a regular file" in found.why or "keeps no files" in found.why


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.truncate(tmp_path / "file", 1 << 40)
    assert open_file(tmp_path / "file") == Unavailable(0, "it is 1024 GiB long, and at most 16 GiB are looked into")


class Written:
    """A file in memory."""

    identity = (0, 0), 0
    written: int | None = 0

    def __init__(self, data: bytes, size: int) -> None:
        self.data = data
        self.size = size
        self.asked: list[tuple[int, int]] = []

    def read(self, offset: int, size: int) -> bytes:
        self.asked.append((offset, size))
        return self.data[offset : offset + size]

    def close(self) -> None:
        """Nothing to do."""


@settings(deadline=None)
@given(
    data=st.binary(min_size=1, max_size=100),
    lost=st.integers(0, 20),
    asked=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 120)), max_size=8),
)
def test_pages_are_the_file_as_far_as_it_is_there(data: bytes, lost: int, asked: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strangers_file, "_BLOCK", 8)
        patch.setattr(strangers_file, "_PIECE", 32)
        file = Written(data, len(data) + lost)
        pages = Pages(file)
        for offset, size in asked:
            pages.need(offset, size)
            if not pages.cut:
                assert pages.data[offset : offset + size] == (data + bytes(lost))[offset : offset + size]
                assert min(offset + size, file.size) <= len(data) or size == 0 or offset >= len(data) + lost
        assert all(size <= 32 for _, size in file.asked)
        assert len({offset for offset, _ in file.asked}) == len(file.asked), "nothing is read twice"
        pages.close()


def test_no_more_than_the_limit_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers_file, "_MOST", 100_000)
    monkeypatch.setattr(Pages, "kept", 0)
    one, other = Pages(Written(bytes(1 << 20), 1 << 20)), Pages(Written(bytes(1 << 20), 1 << 20))
    one.need(0, 50_000)
    assert not one.cut
    other.need(500_000, 60_000)
    assert other.cut
    one.close()
    assert Pages.kept == 0


def test_a_small_file_is_read_as_a_whole_even_if_it_was_cut() -> None:
    assert content(Written(b"half", 8)) == b"half"
