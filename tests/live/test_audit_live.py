"""Audits of the C libraries of this machine, against what is recorded of them and against what must hold of any."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from programs import Missing, build
from tracing import ENVIRONMENT, FORKLORE, Done, bare

from forklore.audit.result import Audit, decode, encode, lasting
from forklore.audit.target import Target, running, runs_here, under
from forklore.linux.proc import machine

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RECORDED = {audit.library.build_id: (path, audit) for path in sorted(GOLDEN.glob("audit-*.json"))
            for audit in [decode(path.read_bytes(), str(path))]}  # fmt: skip
HERE = [target for target in under(Path("/")) if runs_here(target, machine())]


@pytest.fixture(autouse=True, scope="module")
def _cache() -> Iterator[None]:
    yield
    kept().cleanup()
    kept.cache_clear()


@pytest.fixture(autouse=True)
def _compiler() -> None:
    try:
        build("textbook_fork")
    except Missing as missing:
        pytest.skip(str(missing))


@cache
def kept() -> TemporaryDirectory[str]:
    """Where these runs keep their probes, until the tests end."""
    return TemporaryDirectory(prefix="forklore-audit-")


def forklore(*words: str | Path) -> Done:
    """``forklore WORDS``, with a cache of its own."""
    return bare(*FORKLORE, *words, env={**ENVIRONMENT, "XDG_CACHE_HOME": kept().name})


@cache
def audited(target: Target) -> Audit:
    """A library's audit, made once."""
    done = forklore("audit", "--format=json", target.path)
    if target.arch == "i386" and "gcc-multilib" in done.err:
        pytest.skip(done.err.strip()[:200])
    assert done.status == 0, done.err
    return decode(done.out.encode(), str(target.path))


@pytest.mark.parametrize("target", HERE, ids=lambda target: target.name)
def test_it_does_what_is_recorded_of_it(target: Target) -> None:
    if target.build_id not in RECORDED:
        pytest.skip(f"no audit of build-id {target.build_id} ({target.name}) is recorded in tests/golden")
    path, recorded = RECORDED[target.build_id]
    now = lasting(audited(target))
    found = {row.key: row for row in now.rows}
    for row in recorded.rows:
        if row.function == "posix_spawn/SETCGROUP" and not Path("/sys/fs/cgroup/cgroup.procs").exists():
            continue  # what the kernel answers depends on what is mounted there
        assert found[row.key] == row, f"{row.key} is not as {path.name} has it: run scripts/audit-debian"
    assert now.library == recorded.library


@pytest.mark.parametrize("target", HERE, ids=lambda target: target.name)
def test_what_holds_of_any_library(target: Target) -> None:
    audit = audited(target)
    assert audit.library.build_id == target.build_id
    assert {row.outcome for row in audit.rows} <= {"called", "missing"}
    for mode in ("single", "multi"):
        fork, thread, spawn = (audit.row(name, mode) for name in ("fork", "pthread_create", "posix_spawn/ENOENT"))
        assert fork is not None
        assert thread is not None
        assert spawn is not None
        assert fork.made is not None
        assert fork.made.says is not None
        assert (fork.made.says.getpid, fork.made.says.cached_tid, fork.made.shared) == ("own", "own", [])
        assert thread.made is not None
        assert "CLONE_THREAD" in thread.made.flags
        assert {"mm", "files", "fs", "sighand"} <= set(thread.made.shared or [])
        assert spawn.result == "2"
    refused = audit.row("fork", "single", "all EAGAIN")
    assert refused is not None
    assert (refused.made, refused.result) == (None, "-1 EAGAIN")
    assert all(row.held_ns for row in audit.rows if row.made is not None)


def test_clone3_is_refused_and_clone_follows() -> None:
    target = running()
    if target.family != "glibc" or target.number < (2, 34):
        pytest.skip(f"{target.name} does not use clone3")
    audit = audited(target)
    for function in ("posix_spawn", "pthread_create", "system"):
        row = audit.row(function, "single", "clone3 ENOSYS")
        assert row is not None
        first, second = row.attempts[:2]
        assert (first.call, first.refused, first.injected) == ("clone3", "ENOSYS", True)
        assert (second.call, second.refused) == ("clone", None)
        assert row.result == audit.row(function).result  # type: ignore[union-attr]


def test_a_library_against_itself_has_not_changed(tmp_path: Path) -> None:
    target = running()
    saved = tmp_path / "audit.json"
    saved.write_bytes(encode(audited(target)))
    done = forklore("diff", saved, saved)
    assert (done.status, done.err) == (0, "")
    assert "unchanged" in done.out


def test_a_prebuilt_probe_does_as_well(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    assert forklore("audit", "--build-probe", probe).status == 0
    done = forklore("audit", "--format=json", "--no-refusals", "--probe", probe)
    assert done.status == 0, done.err
    assert "prebuilt" in json.loads(done.out)["how"]


def test_views() -> None:
    for words, wanted in (
        ([], "clone"), (["--view=seccomp"], "what a program must be allowed"), (["--format=html"], "<!doctype html>"),
        (["--format=markdown"], "| function | call |"), (["--function=fork"], "fork, single"),
        (["--view=seccomp", "--format=json"], "SCMP_ACT_ALLOW"),
    ):  # fmt: skip
        done = forklore("audit", "--no-refusals", *words)
        assert (done.status, done.err) == (0, "")
        assert wanted in done.out


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["audit", "/bin/true"], 1, "not a C library"),
        (["audit", "/dev/null"], 1, "is not an ELF file"),
        (["audit", "/nonexistent"], 1, "No such file"),
        (["audit", "--static", "/nonexistent"], 1, "No such file"),
        (["audit", "--static"], 2, "needs the ELF files"),
        (["diff", "/bin/true", "/bin/true"], 2, "not a C library"),
    ],
)
def test_errors_teach(words: list[str], status: int, says: str) -> None:
    done = forklore(*words)
    assert done.status == status
    assert says in done.err
    assert "Traceback" not in done.err
