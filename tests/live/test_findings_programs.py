"""Programs that do one thing wrong, and programs that look like them: what is found of each, in a trace of our own."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tracing import FORKLORE, Program, bare, run

from forklore.findings.table import BY_ID

WRONG = {
    "leak": "descriptor-survived-exec",
    "pipe": "pipe-held-by-bystander",
    "threads-fork": "fork-with-threads",
    "raw": "stale-thread-descriptor",
    "vfork-exit": "vfork-child-exits",
    "vfork-return": "vfork-child-returns",
    "vfork-write": "vfork-child-writes",
    "vfork-long": "vfork-child-runs-long",
    "signal": "exit-signal",
    "newtime": "newtime-in-clone",
    "fs": "fs-shared-over-exec",
    "handlers": "handlers-shared",
    "crash": "crash",
    "kill": "killed",
    "left": "left-behind",
    "unwaited": "never-waited",
    "ignored": "sigchld-ignored",
    "unnoticed": "exec-failed-unnoticed",
}
RIGHT = (
    "leak-cloexec", "pipe-cloexec", "threads-exec", "raw-exec", "vfork-right", "signal-exec", "fs-end",
    "crash-handled", "waited", "noticed",
)  # fmt: skip
ALSO = {"handlers": {"stale-thread-descriptor"}}
SURE_LINES = {
    "threads-fork": "child_that", "raw": "bare_clone", "vfork-exit": "vfork_that", "crash": "fall",
    "left": "child_that",
}  # fmt: skip
"""The function that did it."""


@pytest.fixture
def judged(program: Program, tmp_path: Path) -> Any:
    """What is found of ``wrong WHAT``."""

    def judge(what: str) -> list[dict[str, Any]]:
        wrong = program("findings/wrong", more=("-g", "-O1", "-fno-inline"))
        trace, found = tmp_path / "t.jsonl", tmp_path / "found.json"
        more = ("--vfork-writes",) if what.startswith("vfork-") else ()
        run("-q", "-o", trace, *more, "--", wrong, what, cwd=tmp_path)
        forklore = ("check", "--format", "json", "--fail-on", "never", "-o", found, trace)
        done = bare(*FORKLORE, *forklore, cwd=tmp_path)
        assert (done.status, done.err) == (0, "")
        document = json.loads(found.read_text())
        written = {"vfork-child-exits", "vfork-child-returns", "vfork-child-writes"}
        assert {each["rule"] for each in document["not_judged"]} == (set() if more else written)
        return list(document["findings"])

    return judge




@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found(what: str, judged: Any) -> None:
    found = judged(what)
    rule = WRONG[what]
    (wrong,) = [each for each in found if each["rule"] == rule]
    assert wrong["severity"] in ("error", "warning", "note")
    assert wrong["advice"] == BY_ID[rule].advice
    others = {each["rule"] for each in found} - {rule}
    # A child of vfork that calls exit() or returns writes into its creator's memory, too; and clone() is no fork().
    assert others <= ({"vfork-child-writes"} if what.startswith("vfork-") else ALSO.get(what, set()))
    if what in SURE_LINES:
        assert wrong["where"]["function"] == SURE_LINES[what]
        assert wrong["site"].startswith("wrong.c:")


@pytest.mark.parametrize("what", RIGHT)
def test_what_looks_like_it_and_is_right_is_not(what: str, judged: Any) -> None:
    assert judged(what) == []


def test_a_pipe_that_was_waited_for_is_an_error(judged: Any) -> None:
    (found,) = judged("pipe")
    assert found["severity"] == "error"
    assert "could not see the end of the data in pipe:[" in found["text"]


def test_run_check_ends_with_1_where_the_program_ended_with_0(program: Program, tmp_path: Path) -> None:
    wrong = program("findings/wrong", more=("-g", "-O1", "-fno-inline"))
    found = run("-q", "--check", "--", wrong, "threads-fork", cwd=tmp_path)
    assert found.status == 1
    assert found.out.startswith("ok ")
    assert "warning: fork-with-threads  wrong.c:" in found.err
    assert run("-q", "--check", "--fail-on", "error", "--", wrong, "threads-fork", cwd=tmp_path).status == 0
    assert run("-q", "--check", "--ignore", "fork-with-threads", "--", wrong, "threads-fork", cwd=tmp_path).status == 0
    assert run("-q", "--check", "--", "sh", "-c", "exit 3", cwd=tmp_path).status == 3, "the program's own"
    crashed = run("-q", "--check", "--", wrong, "crash", cwd=tmp_path)
    assert crashed.status == -11, "it ends as the program did"
    assert "error: crash  wrong.c:" in crashed.err
    refused = run("-q", "--check", "--ignore", "crush", "--", wrong, "end", cwd=tmp_path)
    assert refused.status == 125
    assert "there is no rule 'crush'" in refused.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a set-id file of another user")
def test_a_set_id_program_that_loses_its_privilege(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv on this machine (package: util-linux)")
    if os.statvfs(tmp_path).f_flag & os.ST_NOSUID:
        pytest.skip(f"{tmp_path} is mounted nosuid")
    file = tmp_path / "id"
    shutil.copy("/usr/bin/id", file)
    os.chown(file, 65534, 65534)
    file.chmod(0o4755)
    got = run("-q", "--check", "--", file, "-u", cwd=tmp_path)
    assert (got.status, got.out) == (0, "65534\n"), got.err
    assert "Nothing found" in got.err
    lost = run("-q", "--check", "--", "setpriv", "--no-new-privs", file, "-u", cwd=tmp_path)
    assert (lost.status, lost.out) == (1, "0\n")
    assert "warning: set-id-lost" in lost.err
    assert "was to run as user 65534 and not 0, as its file says" in " ".join(lost.err.split())
