"""``forklore audit`` by an ordinary user: nothing in it needs root, and a home that may not be written is explained."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from msgspec import structs
from ordinary_user import LIMIT, NOBODY, environment, forklore_as
from tracing import ENVIRONMENT, FORKLORE, Done

from forklore.features.audit.observe.build import compiler
from forklore.features.audit.observe.target import running
from forklore.features.audit.result import Audit, decode, lasting
from forklore.linux.proc import machine

SOURCE = Path(__file__).resolve().parents[2] / "src"
Run = Callable[..., Done]


@pytest.fixture
def as_nobody(request: pytest.FixtureRequest) -> Run:
    """Runs ``forklore WORDS`` as uid 65534 with nothing but a home of its own, or ``home``."""
    folder: Path = request.getfixturevalue("open_folder")
    if compiler() is None:
        pytest.skip("no C compiler on this machine to build the probe with")
    own, base, command = folder / "home", environment(folder), forklore_as(folder)

    def run(*words: str | Path, home: Path = own) -> Done:
        return done([*command, *words], {**base, "HOME": str(home)})

    return run


def done(command: Sequence[str | Path], environment: Mapping[str, str]) -> Done:
    ended = subprocess.run(
        [str(word) for word in command], env=environment, cwd="/", capture_output=True, text=True, timeout=LIMIT,
        check=False,
    )  # fmt: skip
    return Done(ended.returncode, ended.stdout, ended.stderr)


def audit(ended: Done) -> Audit:
    assert (ended.status, ended.err) == (0, "")
    return decode(ended.out.encode(), "stdout")


def test_it_finds_what_root_finds(as_nobody: Run, tmp_path: Path) -> None:
    words = ("audit", "--format=json", "--no-refusals")
    theirs = lasting(audit(as_nobody(*words)))
    ours = lasting(audit(done([*FORKLORE, *words], {**ENVIRONMENT, "XDG_CACHE_HOME": str(tmp_path / "cache")})))
    # Which of a cgroup's errors comes first depends on whose it is.
    both = [[row for row in found.rows if row.function != "posix_spawn/SETCGROUP"] for found in (theirs, ours)]
    assert both[0] == both[1]
    assert structs.replace(theirs, rows=[]) == structs.replace(ours, rows=[])


def test_what_it_keeps_is_its_own(as_nobody: Run, open_folder: Path) -> None:
    home = open_folder / "home"
    assert as_nobody("audit", "--build-probe", home / "probe") == Done(0, f"built {home}/probe for {machine()}\n", "")
    made = [path for path in home.rglob("*") if path.is_file()]
    assert {path.stat().st_uid for path in made} == {NOBODY}
    assert [path.parent.name for path in made if path.name != "probe"] == ["probes"]


@pytest.mark.parametrize(("words", "status"), [(["audit"], 1), (["diff", running().path, running().path], 2)])
def test_a_home_that_may_not_be_written_is_explained(as_nobody: Run, words: list[str | Path], status: int) -> None:
    ended = as_nobody(*words, home=Path("/nonexistent"))
    assert (ended.status, ended.out) == (status, "")
    (line,) = ended.err.splitlines()
    assert line.startswith("forklore: /nonexistent: Permission denied: ")
    assert line.endswith("set XDG_CACHE_HOME to a directory that you may write")


def test_a_file_that_may_not_be_read_is_named(as_nobody: Run, open_folder: Path) -> None:
    closed = open_folder / "libc.so.6"
    closed.touch(0o600)
    assert as_nobody("audit", closed) == Done(1, "", f"forklore: {closed}: Permission denied\n")
