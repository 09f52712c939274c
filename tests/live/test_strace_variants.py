"""Logs that strace writes in its ways, of one program of 21 tasks: each gives the real tree, or says what it lacks.

``scripts/strace-variants`` tries all of the ways; here are those that differ most.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from log_variants import Variant, compare, load, recorded, tried
from programs import Missing, build
from strace_variants import VARIANTS

from forklore.model.tasks import Trace

CHOSEN = [
    each
    for each in VARIANTS
    if each.name
    in (
        "(nothing else)", "-z", "-Z", "-qqq", "-t", "-X raw", "-e raw=clone,clone3", "-e trace=process",
        "-e trace=execve,exit_group", "-e inject=clone3:error=EINVAL:when=5", "-ff -ttt",
    )
]  # fmt: skip

CANNOT_TELL = {
    "-z": {"refused execs", "calls", "refusals", "superseded", "images"},
    "-Z": {"creator", "images", "calls", "kind", "call", "pid inside", "superseded", "end"},
    "-qqq": {"end"},
    "-e raw=clone,clone3": {"refusals", "call", "kind"},
    "-e trace=process": {"calls"},
    "-e trace=execve,exit_group": {
        "creator", "calls", "refusals", "kind", "call", "pid inside", "superseded", "end", "images",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def program() -> list[str]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: apt-get install strace")
    try:
        return [str(build("many_births"))]
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def real(program: list[str], tmp_path_factory: pytest.TempPathFactory) -> Trace:
    return recorded(program, tmp_path_factory.mktemp("real"))


@pytest.mark.parametrize("variant", CHOSEN, ids=lambda each: f"{each.words[1]} {each.name}")
def test_the_log_has_the_real_tree(variant: Variant, program: list[str], real: Trace) -> None:
    if variant.after and shutil.which(variant.after[0]) is None:
        pytest.skip(f"{variant.after[0]} is not installed: apt-get install strace")
    outcome = tried(variant, program, real)
    if outcome.missing is not None:
        pytest.skip(f"this strace does not have it: {outcome.missing}")
    assert outcome.comparison.wrong == []
    assert outcome.tasks == len(real.tasks) == 21
    assert set(outcome.comparison.unknown) <= CANNOT_TELL.get(variant.name, set())


@pytest.mark.parametrize(
    ("lie", "about"),
    [
        (lambda text: text.replace(b"group(42)", b"group(41)").replace(b"with 42", b"with 41"), "not in the log"),
        (lambda text: text.replace(b"flags=CLONE_PARENT|SIGCHLD", b"flags=SIGCHLD"), "call"),
        (lambda text: text.replace(b"vfork(", b"fork("), "call"),
        (lambda text: text + b"999999 setsid() = 999999\n", "in the log alone"),
    ],
)
def test_the_comparison_finds_a_log_that_lies(
    lie: Callable[[bytes], bytes], about: str, program: list[str], real: Trace, tmp_path: Path
) -> None:
    """Among them one that only adds a task."""
    tried(CHOSEN[0], program, real, tmp_path)
    (log,) = tmp_path.iterdir()
    log.write_bytes(lie(log.read_bytes()))
    assert any(about in wrong for wrong in compare(real, load(log)).wrong)
