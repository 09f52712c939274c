"""The Python interface without a tracer: what it offers, what it refuses, and how one walks through a trace."""

from __future__ import annotations

import gc
import inspect
import re
import rlcompleter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import fields

import forklore
from forklore.cli.main import main, parser_for
from forklore.features.diff.diff import DiffOptions
from forklore.features.diff.traces import TraceDiff
from forklore.sources.ptrace.options import Options

TRACES = Path(__file__).parents[3] / "traces"
PYTHON, MAKE = (TRACES / f"{name}.forklore.jsonl" for name in ("python", "make"))
GOLDEN = TRACES.parent / "tests" / "golden"
AUDITS = (GOLDEN / "audit-glibc-2.31-x86_64.json", GOLDEN / "audit-glibc-2.36-x86_64.json")

PRINTS = {
    "progress", "help", "log", "quiet", "view", "verbose", "depth", "siblings", "columns", "all", "stack", "color",
    "check", "ignore", "fail_on", "config",
    "html",
}  # fmt: skip
"""Options of the command for what it prints, which the interface does not: ``tree`` takes those of the view."""
KEYWORDS = {
    "command": "argv",
    "no_follow_untraced": "follow_untraced",
    "no_argv": "record_argv",
    "env": "record_env",
    "no_stack": "stack_depth",
    "signal": "timeout_signal",
}
"""What an option is called where the command's name would say something else in Python."""
FIELDS = {"until": "wait", "argv": "record_argv", "env": "record_env", "lines_at_once": "rotate"}


def keywords() -> set[str]:
    return set(inspect.signature(forklore.trace).parameters)


def test_every_option_of_the_command_is_a_keyword() -> None:
    hidden = {"complaints", "environment", "options"}  # which the interface gives to the command
    dests = {action.dest for action in parser_for("run")._actions} - PRINTS - hidden
    assert {KEYWORDS.get(dest, dest) for dest in dests} == keywords() - {"cwd", "env", "start"}
    assert {FIELDS.get(each.name, each.name) for each in fields(Options)} <= keywords()
    assert {"verbose", "depth", "siblings", "columns"} <= set(inspect.signature(forklore.load(PYTHON).tree).parameters)


def test_every_option_of_diff_is_a_keyword_or_a_form_of_the_answer() -> None:
    dests = {action.dest for action in parser_for("diff")._actions} - {"help", "format", "output"}
    assert dests == set(inspect.signature(forklore.diff).parameters)
    assert dests == {each.name for each in fields(DiffOptions)} - {"form"}


@pytest.mark.parametrize("files", [(PYTHON, MAKE), (PYTHON, PYTHON), AUDITS])
def test_diff_says_what_the_command_prints(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    found = forklore.diff(*files)
    forms = {"text": str(found), "markdown": found.markdown(), "json": found.to_json().decode()}
    if isinstance(found, TraceDiff):
        forms["html"] = found.to_html()
    for form, shown in forms.items():
        assert main(["diff", "--format", form, *map(str, files)]) == bool(found)
        assert capsys.readouterr().out == shown


def test_diff_of_several_runs_a_side(capsys: pytest.CaptureFixture[str]) -> None:
    found = forklore.diff(PYTHON, str(MAKE), old_runs=[PYTHON], new_runs=[str(MAKE)] * 2)
    assert main(["diff", *map(str, (PYTHON, MAKE, "--old", PYTHON, "--new", MAKE, MAKE))]) == 1
    assert capsys.readouterr().out == str(found)
    assert "--old, --new: more runs" not in str(found)


def test_diff_of_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a trace and .* is an audit"):
        forklore.diff(PYTHON, AUDITS[0])
    with pytest.raises(ValueError, match="--old and --new are more runs of traces"):
        forklore.diff(*AUDITS, new_runs=[AUDITS[0]])
    with pytest.raises(TypeError, match="old_runs is a list of files, not one"):
        forklore.diff(PYTHON, PYTHON, old_runs=PYTHON)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError):
        forklore.diff(PYTHON, tmp_path / "none")
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(PYTHON.read_bytes()[: PYTHON.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"cut\.jsonl"):
        assert forklore.diff(cut, PYTHON)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"follow": "some"}, "follow='some' is none of 'all', 'processes', 'threads', 'none'"),
        ({"wait": "root "}, "wait='root ' is none of 'tree', 'root'"),
        ({"leave": None}, "leave=None is none of"),
        ({"timeout": "3"}, "timeout='3' is no number of seconds above 0"),
        ({"stops": "all"}, "stops='all' is none of 'seccomp', 'syscalls', 'events'"),
        ({"observe": ""}, "observe='' is none of 'none', 'kcmp', 'auto', 'full'"),
        ({"max_depth": 0}, "max_depth=0 is not a number from 1"),
        ({"stack_depth": -1}, "stack_depth=-1 is not a number from 0"),
        ({"max_events": 1.5}, "max_events=1.5 is not a number from 1"),
        ({"stops": "seccomp", "leave": "detach"}, "ENOSYS"),
        ({"rotate": "many", "output": "/tmp/t"}, "'many' is no SIZE"),
        ({"rotate": "64K"}, "rotate needs a file"),
        ({"engine": "bpf", "cow": True}, "--cow needs tasks that are held"),
        ({"engine": "perf", "record_env": True}, "--env asks for what perf's records do not have"),
    ],
)
def test_a_bad_option_is_a_value_error_in_words(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        forklore.trace(["true"], **options)


@pytest.mark.parametrize("argv", ["ls -l", b"ls", Path("ls")])
def test_one_string_is_not_split(argv: Any) -> None:
    with pytest.raises(TypeError, match="a list of words, not one string: split it"):
        forklore.trace(argv)
    with pytest.raises(TypeError, match=r"argv\[1\] is 3: a word"):
        forklore.trace(["true", 3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="env has 'A': 3, and names"):
        forklore.trace(["true"], env={"A": 3})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="argv is empty"):
        forklore.trace([])


def test_what_there_is_can_be_completed() -> None:
    assert {"trace", "load", "explain", "diff", "why", "__version__"} <= set(dir(forklore))
    completer = rlcompleter.Completer({"forklore": forklore})
    assert str(completer.complete("forklore.lo", 0)).startswith("forklore.load")


def test_a_trace_in_a_line_and_as_a_tree(capsys: pytest.CaptureFixture[str]) -> None:
    trace = forklore.load(PYTHON)
    assert repr(trace) == "<Trace of python3 -I -S work.py: 8 tasks, exit 0>"
    assert main(["show", "--columns=80", str(PYTHON)]) == 0
    assert str(trace) == trace.tree() == capsys.readouterr().out
    assert main(["show", "--columns=99", "-v", "--depth=1", "--all", str(PYTHON)]) == 0
    assert trace.tree(columns=99, verbose=True, everything=True) == capsys.readouterr().out
    shared = forklore.load(PYTHON, sharing=True)
    assert main(["show", "--format=json", str(PYTHON)]) == 0
    assert shared.to_json().decode() == capsys.readouterr().out


def test_tasks_lead_to_tasks() -> None:
    trace = forklore.load(TRACES / "takeover.forklore.jsonl")
    for task in trace.tasks.values():
        assert trace.by_pid[task.tid].count(task) == 1
        for other, number in (
            (task.creator_task, task.creator),
            (task.parent_task, task.parent),
            (task.leader_task, task.leader),
            (task.heir_task, task.heir),
        ):
            assert other is (None if number is None else trace.tasks[number])
        assert [child.id for child in task.child_tasks] == list(task.children)
        assert all(child.creator_task is task for child in task.child_tasks)
    (root,) = trace.roots
    assert repr(root) == f"<Task #1: process {root.tid} takeover>"
    assert len([each for each in trace.tasks.values() if each.heir_task]) == 1
    del trace, task, other
    assert root.child_tasks  # a task keeps the others


def test_a_trace_that_nobody_has_any_more_is_freed() -> None:
    def tasks() -> int:
        gc.collect()
        return sum(type(each).__name__ == "Task" for each in gc.get_objects())

    before = tasks()
    trace = forklore.load(PYTHON)
    assert tasks() == before + 8
    del trace
    assert tasks() == before
