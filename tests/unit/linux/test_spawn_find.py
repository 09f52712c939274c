"""Which file a command name means, and how it is said that there is none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from forklore.linux.tracing.spawn import NotExecutableError, NotFoundError, find


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """Two directories: in the first ``tool`` may not be executed and ``sub`` is a directory, in the second both can."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/tool").write_text("")
    (tmp_path / "one/plain").write_text("")
    (tmp_path / "one/sub").mkdir()
    for name in ("tool", "sub"):
        (tmp_path / "two" / name).write_text("#!/bin/sh\n")
        (tmp_path / "two" / name).chmod(0o755)
    return [str(tmp_path / "one"), str(tmp_path / "two")]


def test_the_first_that_can_be_executed(places: list[str]) -> None:
    assert find("tool", places) == os.fsencode(f"{places[1]}/tool")
    assert find("sub", places) == os.fsencode(f"{places[1]}/sub")
    assert find("tool", ["/nowhere", *reversed(places)]) == os.fsencode(f"{places[1]}/tool")


def test_a_path_is_not_searched_for(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(f"{places[1]}/tool", []) == os.fsencode(f"{places[1]}/tool")
    monkeypatch.chdir(places[1])
    assert find("./tool", places) == b"./tool"
    with pytest.raises(NotFoundError, match=r"cannot run './nothing': no such file"):
        find("./nothing", places)


def test_an_empty_entry_of_path_is_the_working_directory(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(places[1])
    assert os.path.samefile(find("tool", [places[0], ""]), f"{places[1]}/tool")


def test_path_of_the_environment(places: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", ":".join(places))
    assert find("tool") == os.fsencode(shutil.which("tool") or "")


def test_what_cannot_be_executed(places: list[str]) -> None:
    with pytest.raises(NotExecutableError, match="one/plain is not executable"):
        find("plain", places)
    with pytest.raises(NotExecutableError, match="one/sub is a directory"):
        find("sub", places[:1])
    with pytest.raises(NotExecutableError, match="/ is a directory"):
        find("/", places)


@pytest.mark.parametrize("name", ["no-such-program", "", "\udcff"])
def test_what_is_not_there(places: list[str], name: str) -> None:
    with pytest.raises(NotFoundError, match="cannot run"):
        find(name, places)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe"
    with open(path, "wb"):
        os.chmod(path, 0o755)
    assert find(os.fsdecode(b"\xff\xfe"), [str(tmp_path)]) == path
