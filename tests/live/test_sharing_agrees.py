"""What the report says is shared, against what the program itself found out by its effect.

Each program prints ``shared resource=… answer=yes|no when=… pid=… child=…``: it changed something on one side and
looked at the other. At the creation that is compared with what kcmp(2) and /proc told the tracer; after an exec, an
unshare, a setns or a close_range with who is still in one group.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from programs import BARE, Missing, build
from tracing import SKIPPED

from forklore import load
from forklore.model.holds import RESOURCES
from forklore.model.tasks import Task, Trace

LINE = re.compile(r"shared resource=(\S+) answer=(yes|no) by=\S+ when=(\S+) pid=(\d+) child=(\d+)")
PROGRAMS = [
    (name, words)
    for name, every in sorted(BARE.items())
    if name.startswith(("flag_", "later_", "textbook_")) and name not in ("flag_clear_sighand", "flag_parent")
    for words in every
]


def traced(folder: Path, name: str, words: tuple[str, ...]) -> tuple[Trace, str]:
    try:
        program = build(name)
    except Missing as missing:
        pytest.skip(str(missing))
    output = folder / "trace.jsonl"
    command = [sys.executable, "-m", "forklore", "run", "-q", "-o", str(output), "--", str(program), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == SKIPPED:
        pytest.skip(f"{name} {' '.join(words)}: {done.stdout.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr + done.stdout
    return load(output, sharing=True), done.stdout


def task(trace: Trace, tid: int) -> Task:
    found = [task for task in trace.tasks.values() if task.tid == tid]
    assert len(found) == 1, f"{tid} is {len(found)} tasks of the trace"
    return found[0]


@pytest.mark.parametrize(("name", "words"), PROGRAMS, ids=[" ".join((name, *words)) for name, words in PROGRAMS])
def test_the_report_says_what_the_program_proved(tmp_path: Path, name: str, words: tuple[str, ...]) -> None:
    trace, said = traced(tmp_path, name, words)
    sharing = trace.sharing
    assert sharing is not None
    proofs = [match.groups() for match in map(LINE.fullmatch, said.splitlines()) if match is not None]
    assert proofs, said
    compared = 0
    for resource, answer, when, pid, tid in proofs:
        short = resource.removesuffix("_ns")
        if short not in RESOURCES:
            continue
        compared += 1
        child = task(trace, int(tid))
        wanted = answer == "yes"
        # later_setns has been elsewhere since its creation when it looks for the first time.
        if when == "created" or (when == "before" and name != "later_setns"):
            found = next(each for each in sharing.answers[child.id] if each.resource == short)
            assert found.observed == ("shared" if wanted else found.observed), (resource, found)
            assert wanted or found.observed in ("separate", "both-unset"), (resource, found)
        elif when == "after":
            mine, theirs = (sharing.holdings.holds(each.id)[short][-1].group for each in (child, task(trace, int(pid))))
            assert (mine == theirs) == wanted, (resource, sharing.holdings.holds(child.id)[short])
    assert compared or all(resource.removesuffix("_ns") not in RESOURCES for resource, *_ in proofs)
