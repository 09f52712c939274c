"""Which file is written under a name that others may have planted, and which one is not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from forklore.events import records as ev
from forklore.events.output_file import OutputPlace
from forklore.events.rotate import RotatingWriter, Rotation

NOBODY = 65534
HEADER = ev.Header(source=ev.Source(tool="forklore", version="0.1"), clock=ev.Clock(start=5, wall=7))

Plant = Callable[[Path], None]


@pytest.fixture
def anothers(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Makes a file or link another user's: really, where we may; else the code takes us for another user."""

    def plant(path: Path) -> None:
        if os.geteuid() == 0:
            os.lchown(path, NOBODY, NOBODY)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: NOBODY)

    return plant


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory as /tmp is."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("precious")
    return path


def write(path: Path | str) -> None:
    with closing(OutputPlace(path)) as place:
        fd = place.open()
    os.write(fd, b"trace")
    os.close(fd)


def test_a_planted_link_is_not_followed(shared: Path, precious: Path, anothers: Plant) -> None:
    (shared / "t").symlink_to(precious)
    anothers(shared / "t")
    with pytest.raises(OSError, match=r"t is a symbolic link that user [0-9]+ has made where others may write") as info:
        write(shared / "t")
    assert info.value.filename == str(shared / "t")
    assert precious.read_text() == "precious"


def test_nor_one_on_the_way(shared: Path, precious: Path, anothers: Plant) -> None:
    (shared / "way").symlink_to(precious.parent)
    anothers(shared / "way")
    with pytest.raises(OSError, match="way is a symbolic link"):
        write(shared / "way/precious")
    assert precious.read_text() == "precious"


def test_nor_one_that_a_link_of_our_own_leads_to(tmp_path: Path, shared: Path, precious: Path, anothers: Plant) -> None:
    (shared / "t").symlink_to(precious)
    (tmp_path / "own").symlink_to("shared/t")
    anothers(shared / "t")
    with pytest.raises(OSError, match="t is a symbolic link"):
        write(tmp_path / "own")
    assert precious.read_text() == "precious"


def test_a_planted_file_is_not_written(shared: Path, anothers: Plant) -> None:
    (shared / "t").write_text("")
    (shared / "t").chmod(0o666)
    anothers(shared / "t")
    with pytest.raises(PermissionError, match="it is another user's or has a second name"):
        write(shared / "t")


def test_a_second_name_of_our_own_file_is_not_written(shared: Path, precious: Path) -> None:
    os.link(precious, shared / "t")
    with pytest.raises(PermissionError, match="it is another user's or has a second name"):
        write(shared / "t")
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("where", ["own", "shared"])
def test_our_own_links_and_files_are_taken(where: str, tmp_path: Path, shared: Path, precious: Path) -> None:
    folder = shared if where == "shared" else tmp_path
    (folder / "link").symlink_to(precious)
    (folder / "new").symlink_to("made")
    (folder / "file").write_text("longer than it was")
    for name in ("link", "file", "new", "../" + folder.name + "/file"):
        write(folder / name)
    assert [path.read_text() for path in (precious, folder / "file", folder / "made")] == ["trace"] * 3
    assert (folder / "link").is_symlink()
    assert stat.S_IMODE((folder / "made").stat().st_mode) == 0o600


def test_links_in_circles_and_no_names_are_errors(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "root").symlink_to("/")
    for name, error in {"loop": "ELOOP", "root": "EISDIR", "": "EISDIR", "none/t": "ENOENT", "new/": "EISDIR"}.items():
        with pytest.raises(OSError) as info:  # noqa: PT011 - the error is looked at
            write(f"{tmp_path}/{name}")
        assert info.value.errno == getattr(__import__("errno"), error), name


def rotating(path: Path) -> RotatingWriter:
    writer = RotatingWriter(os.fspath(path), HEADER, Rotation(100))
    for n in range(20):
        begin = ev.Begin(t=0, task=1, tid=10, tgid=10, how="root", parent_tid=3, comm="sh")
        writer.event(begin if n == 0 else ev.Name(t=1, task=1, comm="x", how="found"))
    writer.end(9, "done")
    return writer


def test_rotation_makes_its_files_anew(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "t.1").symlink_to(precious)
    assert isinstance(rotating(tmp_path / "t").failure, FileExistsError)
    assert precious.read_text() == "precious"
    (tmp_path / "t.1").unlink()
    os.link(precious, tmp_path / "t.1")
    assert rotating(tmp_path / "t").failure is None
    assert precious.read_text() == "precious"
    assert (tmp_path / "t.1").read_text().startswith('{"format"')


def test_what_another_user_left_there_ends_the_recording(shared: Path, anothers: Plant) -> None:
    (shared / "t.1").write_text("mine")
    anothers(shared / "t.1")
    failure = rotating(shared / "t").failure
    assert isinstance(failure, FileExistsError)
    assert "not a regular file of this user's" in str(failure)
    assert (shared / "t.1").read_text() == "mine"
