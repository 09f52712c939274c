"""Programs that do one thing wrong, and programs that look like them: what is found of each, in a trace of our own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import pytest
from findings_cases import OTHER_USER, QUICK, RIGHT, WRONG, Case, Ground, limited
from ordinary_user import environment, interpreter
from tracing import FORKLORE, Program, bare, run

from forklore.findings.check import check
from forklore.findings.table import BY_ID, RULES
from forklore.model.build import built
from forklore.sources.files import open_any

_WRITTEN: Final = {"vfork-child-exits", "vfork-child-returns", "vfork-child-writes"}
_SLOW: Final = frozenset({
    "costly-fork", "fork-with-threads", "left-behind", "never-waited", "stale-thread-descriptor",
    "vfork-child-runs-long", "zombie-stood-long",
})  # fmt: skip
"""Rules that go by how long something lasts: what else a machine that stands still makes of a program."""
_ENTER: Final = 'echo $$ > "$0" && exec "$@"'


def _each(cases: Mapping[str, Mapping[str, Case]]) -> list[Any]:
    return [
        pytest.param(rule, case, id=f"{rule}: {name}") for rule, named in cases.items() for name, case in named.items()
    ]


@pytest.fixture
def judged(program: Program, tmp_path: Path) -> Any:
    """What is found of the program of a case."""

    def judge(case: Case, times: float) -> tuple[Path, list[dict[str, Any]]]:
        trace, found = tmp_path / "t.jsonl", tmp_path / "found.json"
        limit, value = case.cgroup
        with limited(limit, value) if limit else nullcontext() as group:
            enter = () if group is None else ("sh", "-c", _ENTER, group)
            # The memory is not to be the tracer's; how many tasks there are is read when a trace begins.
            before, within = (enter, ()) if limit == "pids.max" else ((), enter)
            command = (*within, *case.command(Ground(program, tmp_path)))
            bare(*before, *FORKLORE, "run", "-q", "-o", trace, *case.options, "--", *command, cwd=tmp_path)
        stretch(trace, times)
        done = bare(
            *FORKLORE, "check", "--format", "json", "--fail-on", "never", "-o", found, trace, cwd=tmp_path
        )
        assert (done.status, done.err) == (0, "")
        document = json.loads(found.read_text())
        missing = {each["rule"] for each in document["not_judged"] if not each["in_part"]}
        assert missing <= (set() if "--vfork-writes" in case.options else _WRITTEN)
        return trace, list(document["findings"])

    return judge


def stretch(file: Path, times: float) -> None:
    """Multiply all times of a trace, as if the machine had been slower, or quicker."""
    events = [json.loads(line) for line in file.read_text().splitlines()]
    for event in events:
        for key in {"t", "since"} & event.keys():
            event[key] = None if event[key] is None else int(event[key] * times)
    file.write_text("".join(f"{json.dumps(event)}\n" for event in events))


def test_each_rule_is_shown_by_a_program_and_has_one_that_looks_like_it_and_is_right() -> None:
    rules = {rule.id for rule in RULES}
    assert set(WRONG) == set(RIGHT) == rules
    assert all(WRONG.values())
    assert all(RIGHT.values())
    worst = {rule: {case.severity for case in named.values()} for rule, named in WRONG.items()}
    assert not {rule for rule in rules if BY_ID[rule].severity not in worst[rule]} - {"descriptor-survived-exec"}


@pytest.mark.parametrize(("rule", "case"), _each(WRONG))
def test_what_is_wrong_is_found(rule: str, case: Case, judged: Any) -> None:
    trace, found = judged(case, case.times or 1)
    rules = {each["rule"] for each in found} - {rule}
    assert case.others <= rules <= case.others | _SLOW
    if case.too_slow is not None and case.too_slow(built(open_any(trace))):
        assert [each for each in found if each["rule"] == rule] == []
        return
    (wrong,) = [each for each in found if each["rule"] == rule]
    told = re.fullmatch(case.says, wrong["text"])
    assert told is not None, wrong["text"]
    assert (wrong["severity"], wrong["sure"]) == (case.severity, case.sure)
    assert [task["name"] for task in wrong["tasks"]][: len(case.tasks)] == list(case.tasks)
    for group, tid in told.groupdict().items():
        assert wrong["tasks"][int(group[1:])]["tid"] == int(tid), group
    assert wrong["advice"]
    if case.function:
        assert wrong["where"]["function"] == case.function
        assert re.fullmatch(r"\w+\.(?:c|cc|py):\d+", wrong["site"]), wrong["site"]


@pytest.mark.parametrize(("rule", "case"), _each(RIGHT))
def test_what_looks_like_it_and_is_right_is_not(rule: str, case: Case, judged: Any) -> None:
    _trace, found = judged(case, case.times or QUICK)
    assert {each["rule"] for each in found} == case.others
    assert rule not in case.others


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in turn"])
def test_a_user_near_the_limit_on_their_tasks(at_once: bool, program: Program, open_folder: Path) -> None:
    # RLIMIT_NPROC does not bind root. The user has no other task, or some would be refused.
    become = ["setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups"]
    python = interpreter(become, environment(open_folder))
    folder = open_folder / "open"
    folder.mkdir()
    folder.chmod(0o777)
    trace = str(folder / "t.jsonl")
    within = ["prlimit", "--nproc=40", *become, python, "-m", "forklore", "run", "-q", "-o", trace, "--"]
    refused = program("findings/refused", more=("-g", "-O1", "-fno-inline"))
    done = bare(*within, refused, "at-once" if at_once else "one-by-one", "33", env=environment(open_folder), cwd="/")
    assert (done.status, done.err) == (0, "")
    stretch(folder / "t.jsonl", QUICK)
    found = check(built(open_any(folder / "t.jsonl"))).findings
    near = [re.sub(r"\d\d %", "N %", each.first.text) for each in found if each.first.rule == "task-limit-near"]
    whose = "of the user's tasks, of which the trace alone had 34"
    assert near == [f"34 tasks of the trace lived at once, with RLIMIT_NPROC 40 {whose}: N %"] * at_once


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
