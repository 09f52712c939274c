"""Audits of the C libraries of this machine, against what is recorded of them and against what must hold of any."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from filter_proof import died, dying
from msgspec import structs
from programs import Missing, build
from tracing import ENVIRONMENT, FORKLORE, Done

from forklore.abi.arch import Arch
from forklore.decode.creation import decode_creation
from forklore.decode.library_forms import candidates, fingerprint
from forklore.features.audit.conclude.derive import creations
from forklore.features.audit.observe import listen
from forklore.features.audit.observe.build import NoProbeError
from forklore.features.audit.observe.run import prober
from forklore.features.audit.observe.target import NoTargetError, Target, from_file, running, runs_here, under
from forklore.features.audit.record import TaskEnded
from forklore.features.audit.result import Audit, AuditRow, decode, encode, lasting
from forklore.features.audit.show import profile
from forklore.features.audit.show.compare import compare
from forklore.linux.proc import machine

LIMIT = 120
"""Seconds for a command: an audit is some hundred runs under the tracer, five seconds on a machine at rest."""
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
RECORDED = {audit.library.build_id: (path, audit) for path in sorted(GOLDEN.glob("audit-*.json"))
            for audit in [decode(path.read_bytes(), str(path))]}  # fmt: skip
ARCHIVES = (
    # an archive, and the shared library of the same build
    ("/usr/lib/x86_64-linux-gnu/libc.a", "/lib/x86_64-linux-gnu/libc.so.6"),
    ("/usr/lib/x86_64-linux-musl/libc.a", "/usr/lib/x86_64-linux-musl/libc.so"),
    ("/usr/lib/aarch64-linux-gnu/libc.a", "/lib/aarch64-linux-gnu/libc.so.6"),
    ("/usr/lib/riscv64-linux-gnu/libc.a", "/lib/riscv64-linux-gnu/libc.so.6"),
    ("/usr/lib32/libc.a", "/lib32/libc.so.6"),
)
HERE = [target for target in under(Path("/")) if runs_here(target, machine()) and not target.static]


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
    done = subprocess.run(
        [*FORKLORE, *map(str, words)], env={**ENVIRONMENT, "XDG_CACHE_HOME": kept().name}, capture_output=True,
        text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def audited(target: Target, *, refuse: bool = True) -> Audit:
    """A library's audit, made once."""
    return made(target, refuse)


@cache
def made(target: Target, refuse: bool) -> Audit:
    """The same, not yet made."""
    done = forklore("audit", "--format=json", *([] if refuse else ["--no-refusals"]), target.path)
    if target.arch == "i386" and "gcc-multilib" in done.err:
        pytest.skip(done.err.strip()[:200])
    assert done.status == 0, done.err
    return decode(done.out.encode(), str(target.path))


def lacks_queue(row: AuditRow) -> bool:
    """Whether the probe could not call mq_notify: no message queue can be opened, as others of this user hold all that
    RLIMIT_MSGQUEUE grants, or the kernel has none (mq_open(3)).
    """
    return (row.function, row.outcome) == ("mq_notify", "cannot") and row.why in ("EMFILE", "ENOSYS")


def skip_without_queues(audit: Audit) -> None:
    """The end of a test that looked at all rows but those."""
    for row in filter(lacks_queue, audit.rows):
        pytest.skip(f"mq_open fails with {row.why}: mq_notify cannot be called here; all else is as it must be")


@pytest.mark.parametrize("target", HERE, ids=lambda target: target.name)
@pytest.mark.parametrize(
    ("function", "call"),
    [("fork", "fork"), ("posix_spawn", "posix_spawn"), ("system", "posix_spawn"), ("pthread_create", "pthread_create")],
)
@pytest.mark.parametrize("refused", [{}, {"clone3": errno.ENOSYS}], ids=["", "without clone3"])
def test_its_calls_have_the_form_that_is_known_of_it(
    target: Target, function: str, call: str, refused: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", kept().name)
    try:
        run = prober(target).run(function, "single", refused)
    except NoProbeError as problem:
        pytest.skip(str(problem)[:200])
    made = [decode_creation(each.arch, each.nr, each.words, each.data)
            for each, _ in creations(run) if each.injected is None]  # fmt: skip
    assert made
    for creation in made:
        assert any(target.family in who and call in who for who in candidates(creation)), creation.text(details=True)
        found = fingerprint(creation)
        assert found is not None
        if creation.arch in (Arch.X86_64, Arch.I386):
            plain = creation.call == "fork"  # musl's fork(), which anybody can call
            assert (found.call, found.library, found.sure) == (call, target.family, not plain)


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
        if lacks_queue(found[row.function, row.mode, None]):
            continue
        assert found[row.key] == row, f"{row.key} is not as {path.name} has it: run scripts/audit-debian"
    assert now.library == recorded.library
    skip_without_queues(now)


@pytest.mark.parametrize("target", HERE, ids=lambda target: target.name)
def test_a_program_lives_under_just_the_filter_that_is_told(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", kept().name)
    tried, dead = dying(target, audited(target))
    assert tried
    assert dead == {}


@pytest.mark.parametrize(("function", "call"), [
    ("pthread_create", "munmap"), ("posix_spawn/chdir", "chdir"), ("aio_write", "pwrite64"),
])
def test_the_proof_finds_what_a_filter_lacks(function: str, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", kept().name)
    target = next((target for target in HERE if target.family == "musl"), None)
    if target is None:
        pytest.skip("no musl is installed here (Debian: musl)")
    audit = audited(target)
    lacking = [structs.replace(need, calls=tuple(name for name in need.calls if name != call))
               for need in profile.needs(audit)]  # fmt: skip
    monkeypatch.setattr(profile, "needs", lambda _audit: lacking)
    assert died(prober(target), audit, function, "single") == call


@pytest.mark.parametrize("target", HERE, ids=lambda target: target.name)
def test_what_holds_of_any_library(target: Target) -> None:
    audit = audited(target)
    assert audit.library.build_id == target.build_id
    assert {row.outcome for row in audit.rows if not lacks_queue(row)} <= {"called", "missing"}
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
    skip_without_queues(audit)


def pair(archive: str, shared: str) -> tuple[Audit, Audit]:
    """The audits of an archive and of its shared library, or a skip that says what is not here."""
    for path in (archive, shared):
        if not Path(path).is_file():
            pytest.skip(f"there is no {path}")
    linked, loaded = from_file(Path(archive)), from_file(Path(shared))
    if not runs_here(linked, machine()):
        pytest.skip(f"{linked.name} cannot run on this machine")
    if (linked.family, linked.version, linked.package) != (loaded.family, loaded.version, loaded.package):
        pytest.skip(f"{archive} is {linked.name}, and {shared} {loaded.name}")
    static, dynamic = audited(linked, refuse=linked.arch is machine()), audited(loaded)
    if linked.arch is not machine():  # once with refusals is enough
        dynamic = structs.replace(dynamic, rows=[row for row in dynamic.rows if row.injected is None])
    return static, dynamic


@pytest.mark.parametrize(("archive", "shared"), ARCHIVES)
def test_a_static_library_does_as_its_shared_one_does(archive: str, shared: str) -> None:
    static, dynamic = pair(archive, shared)
    assert static.library.static
    assert static.library.build_id
    assert "linked with the archive" in static.how
    assert [row.key for row in static.rows] == [row.key for row in dynamic.rows]
    for mine, other in zip(static.rows, dynamic.rows, strict=True):
        assert (mine.outcome, mine.result, mine.why) == (other.outcome, other.result, other.why), mine.key
        assert [(a.words, a.by, a.refused, a.blocked, a.shared, a.tls, a.parent_tid, a.child_tid, a.says)
                for a in mine.attempts] == [
               (a.words, a.by, a.refused, a.blocked, a.shared, a.tls, a.parent_tid, a.child_tid, a.says)
                for a in other.attempts], mine.key  # fmt: skip
        assert [a.child for a in mine.attempts] == [a.child for a in other.attempts], mine.key


@pytest.mark.parametrize(("archive", "shared"), ARCHIVES)
def test_what_a_static_library_does_otherwise(archive: str, shared: str) -> None:
    static, dynamic = pair(archive, shared)
    said = {change.text: change.functions for change in compare(dynamic, static).changes}
    if static.library.family == "musl":
        # Linked only into programs that call membarrier(2) themselves: musl src/linux/membarrier.c.
        assert list(said) == ["before the call: no more membarrier()"]
    else:
        # glibc nptl/nptl-stack.c: __pthread_get_minstack adds the static TLS, of which a static program keeps less.
        assert all(text.startswith("had as the child's stack: mapped, ") for text in said)
        assert {name for names in said.values() for name in names} <= {
            "timer_create", "mq_notify", "aio_read", "getaddrinfo_a",
        }  # fmt: skip


def static_library() -> Path:
    """A libc.a of this machine that can be audited here."""
    for archive, _ in sorted(ARCHIVES, key=lambda found: "musl" not in found[0]):  # musl's takes less time
        try:
            if runs_here(from_file(Path(archive)), machine()):
                return Path(archive)
        except NoTargetError:
            continue
    pytest.skip("there is no libc.a that runs here (Debian: libc6-dev, musl-dev)")


def test_a_prebuilt_static_program_is_probe_and_program(tmp_path: Path) -> None:
    archive, probe = static_library(), tmp_path / "probe"
    assert forklore("audit", "--build-probe", probe, archive).status == 0
    done = forklore("audit", "--format=json", "--no-refusals", "--probe", probe, archive)
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert "prebuilt" in found["how"]
    assert found["library"]["static"]

    looked = forklore("audit", probe)
    assert looked.status == 0
    assert f"{probe} is a static program" in looked.err
    assert len(looked.err.splitlines()) == 1
    assert looked.out == forklore("audit", "--static", probe).out


def test_a_probe_for_shared_libraries_is_none_for_an_archive(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    assert forklore("audit", "--build-probe", probe).status == 0
    done = forklore("audit", "--probe", probe, static_library())
    assert done.status == 1
    assert "is not linked statically" in done.err


def test_an_archive_without_its_start_files_is_refused(tmp_path: Path) -> None:
    alone = tmp_path / "libc.a"
    shutil.copy(static_library(), alone)
    done = forklore("audit", alone)
    assert done.status == 1
    assert "crt1.o, crti.o, crtn.o is not beside it" in done.err


def test_a_libc_a_that_cannot_be_linked_does_not_hide_the_shared_library_beside_it(tmp_path: Path) -> None:
    shared, static = Path("/usr/lib/x86_64-linux-musl/libc.so"), Path("/usr/lib/x86_64-linux-musl/libc.a")
    if not (shared.is_file() and static.is_file()):
        pytest.skip(f"there are not both {shared} and {static} (Debian: musl, musl-dev)")
    if not runs_here(from_file(static), machine()):
        pytest.skip(f"{static} cannot be run on this machine")
    folder = tmp_path / "usr/lib/x86_64-linux-musl"
    folder.mkdir(parents=True)
    for file in (shared, static, static.parent / "crti.o"):
        shutil.copy(file, folder)
    both = list(under(tmp_path))
    assert [target.static for target in both] == [False, True]
    done = forklore("audit", "--no-refusals", "--format=json", tmp_path)
    assert done.status == 0
    assert not decode(done.out.encode(), "stdout").library.static
    (line,) = done.err.splitlines()
    assert line.startswith(f"forklore: {both[1].name} is left out: {folder}/libc.a: crt1.o, crtn.o is not beside it")


def test_what_an_archive_lacks_is_missing() -> None:
    archive = Path("/usr/lib/x86_64-linux-musl/libc.a")
    if not archive.is_file():
        pytest.skip(f"there is no {archive} (Debian: musl-dev)")
    index = subprocess.run(["nm", "--print-armap", archive], capture_output=True, text=True, check=True).stdout
    audit = audited(from_file(archive))
    for function in ("getaddrinfo_a", "pidfd_spawn", "fork"):
        row = audit.row(function)
        assert row is not None
        assert (row.outcome == "called") == (f"{function} in " in index)


def test_clone3_is_refused_and_clone_follows() -> None:
    target = running()
    if target.family != "glibc" or target.number < (2, 34):
        pytest.skip(f"{target.name} does not use clone3")
    audit = audited(target)
    plain = audit.row("posix_spawn")
    assert plain is not None
    if plain.attempts[0].call != "clone3" and target.arch is not Arch.X86_64:
        pytest.skip(f"{target.name} does not use clone3 on this machine")
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


@pytest.mark.parametrize(
    ("limit", "most", "script", "killed"),
    [
        (0.5, 60.0, "exec sleep 1000", True),  # makes no call any more
        (3.0, 60.0, "for i in 1 2 3 4 5 6 7 8; do sleep 0.5; done", False),  # takes longer than that, and goes on
        (3.0, 1.0, "while :; do sleep 0.1; done", True),
    ],
)
def test_a_probe_is_killed_when_it_is_stuck(
    limit: float, most: float, script: str, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listen, "LIMIT", limit)
    monkeypatch.setattr(listen, "MOST", most)
    here = machine()
    assert here is not None
    log, _pid, was_killed = listen.listen(here, ["/bin/sh", "-c", script], [], {})
    assert was_killed == killed
    assert any(isinstance(past, TaskEnded) for past in log)


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
