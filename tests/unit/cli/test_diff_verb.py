"""``forklore diff``: what its two files are, told by their content, and what it ends with."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from forklore.cli.main import main

ROOT = Path(__file__).parents[3]
TRACE = ROOT / "traces/python.forklore.jsonl"
LOG = ROOT / "traces/python.strace.txt"
AUDIT, OTHER_AUDIT = (ROOT / f"tests/golden/audit-glibc-{version}-x86_64.json" for version in ("2.31", "2.36"))


def ended(*words: str | Path) -> int:
    return main(["diff", *map(str, words)])


@pytest.mark.parametrize(("old", "new"), [(TRACE, TRACE), (TRACE, LOG), (LOG, TRACE), (AUDIT, AUDIT)])
def test_what_is_the_same_ends_with_0(old: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(old, new) == 0
    assert "unchanged" in capsys.readouterr().out


@pytest.mark.parametrize(("old", "new"), [(TRACE, ROOT / "traces/make.forklore.jsonl"), (AUDIT, OTHER_AUDIT)])
@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_what_differs_ends_with_1(old: Path, new: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--format", form, old, new) == 1
    shown = capsys.readouterr().out
    if form == "json":
        assert json.loads(shown)["changes"]
    else:
        assert shown.startswith("# ") == (form == "markdown")
        assert len(shown.splitlines()) > 5


def test_content_counts_and_not_the_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, renamed, spaced = tmp_path / "trace.json", tmp_path / "libc.so.6", tmp_path / "audit.jsonl"
    packed.write_bytes(gzip.compress(TRACE.read_bytes()))
    renamed.write_bytes(TRACE.read_bytes())
    spaced.write_bytes(b"\n " + AUDIT.read_bytes().replace(b'{"audit":', b'{ "audit" : ', 1))
    assert ended(packed, renamed) == 0
    assert ended(spaced, AUDIT) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("old", "new"), [(TRACE, AUDIT), (AUDIT, LOG), (LOG, Path("/bin/sh")), (Path("/lib"), TRACE)])
def test_a_trace_is_not_compared_with_an_audit(old: Path, new: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(old, new) == 2
    said = capsys.readouterr()
    assert said.out == ""
    trace, other = (old, new) if old in (TRACE, LOG) else (new, old)
    assert said.err.startswith(f"forklore: {trace} is a trace and {other} is an audit, or a library to be audited")
    assert "give two traces or two audits" in said.err


def test_what_cannot_be_read_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing, empty, other, text = (tmp_path / name for name in ("missing", "empty", "other", "text"))
    empty.write_bytes(b"")
    other.write_bytes(b'{"a": 1}')
    text.write_bytes(b"hello\n")
    for name, what in ((missing, "No such file"), (empty, "an empty file"), (other, "header"), (text, "“hello”")):
        assert ended(TRACE, name) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert str(name) in said.err
        assert what in said.err


def test_a_trace_that_was_cut_off_is_compared_as_far_as_it_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(TRACE.read_bytes()[: TRACE.stat().st_size // 2])
    assert ended(cut, TRACE) == 1
    said = capsys.readouterr()
    assert "cut.jsonl" in said.err
    assert "now" in said.out


def test_a_fifo_is_a_trace(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    if os.fork() == 0:
        fifo.write_bytes(TRACE.read_bytes())
        os._exit(0)
    assert ended(fifo, TRACE) == 0
    assert os.wait()[1] == 0


def test_the_files_of_strace_ff_are_a_trace_by_their_directory_or_their_prefix(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for line in LOG.read_bytes().splitlines(keepends=True):
        pid, text = line.split(None, 1)
        with (folder / f"log.{int(pid)}").open("ab") as file:
            file.write(text)
    assert ended(folder, folder / "log") == 0
    assert ended(folder, LOG) == 0
