"""Each filter of ``forklore watch`` lets through whom it names and nobody else; in containers both pids are told."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from bpf_here import needed
from tracing import ENVIRONMENT, FORKLORE

import forklore
from forklore.events import jsonl
from forklore.events import records as ev
from forklore.linux.cgroups import unified

USER = 61234
"""A user whom no other process of the machine belongs to."""
ID = "3f1b0c9e77aa" + "0" * 52


@pytest.fixture(autouse=True)
def _bpf() -> None:
    needed()


class Waiting:
    """A shell that waits, then runs ``true`` and ends."""

    def __init__(self, folder: Path, name: str, become: Sequence[str] = (), body: str = "/bin/true; exit 0") -> None:
        up, self._go = folder / f"{name}-up", folder / f"{name}-go"
        for fifo in (up, self._go):
            os.mkfifo(fifo)
            fifo.chmod(0o666)
        script = f"echo $$ > {up}; read line < {self._go}; {body}"
        self.process = subprocess.Popen([*become, "sh", "-c", script], env={**os.environ, "MARK": name})
        self.said = int(up.read_text())
        """Its pid, as it has it."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def go(self) -> None:
        self._go.write_text("go\n")
        assert self.process.wait(timeout=60) == 0


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that every user can look into."""
    path = Path("/tmp") / f"forklore-watch-{os.getpid()}"  # what pytest makes is closed to others
    path.mkdir(mode=0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def watched(file: Path, filters: Sequence[str], targets: Sequence[Waiting]) -> list[ev.Event]:
    """What ``forklore watch`` tells while the targets go on; the first of them has to pass the filters."""
    with subprocess.Popen(
        [*FORKLORE, "watch", *filters, "--log", "-o", str(file)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as tracer:
        assert tracer.stderr is not None
        while f"{targets[0].pid}" not in (line := tracer.stderr.readline()) or "attached" not in line:
            assert line, "it ended before it had begun"
        for target in reversed(targets):
            target.go()
        while "exit 0" not in line or f"{targets[0].pid}" not in line:
            line = tracer.stderr.readline()
            assert line, "it ended before the program had"
        with suppress(ProcessLookupError):  # with --pid it ends with the program
            tracer.send_signal(signal.SIGINT)
        tracer.stderr.read()
        assert tracer.wait(timeout=60) == 0
    return list(jsonl.read(str(file)))


def roots(events: list[ev.Event]) -> list[int]:
    return [event.tid for event in events if isinstance(event, ev.Begin)]


def test_a_user(folder: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user, by setpriv (package: util-linux)")
    his = Waiting(folder, "his", ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"])
    other = Waiting(folder, "other")
    events = watched(folder / "trace.jsonl", ["--uid", str(USER)], [his, other])
    assert roots(events) == [his.pid]
    assert [event.path for event in events if isinstance(event, ev.Exec)] == ["/bin/true"]


@contextmanager
def cgroup(name: str) -> Iterator[Path]:
    root = unified()
    if root is None:
        pytest.skip("no unified cgroup hierarchy is mounted here")
    path = root / name
    try:
        path.mkdir()
    except OSError as problem:
        pytest.skip(f"no cgroup can be made here: {problem}")
    try:
        yield path
    finally:
        path.rmdir()


@pytest.mark.parametrize("filters", [["--cgroup", "forklore-{pid}.slice"], ["--container", ID[:12]]], ids=" ".join)
def test_a_cgroup_and_a_container(filters: list[str], folder: Path) -> None:
    words = [word.format(pid=os.getpid()) for word in filters]
    is_container = words[0] == "--container"
    with cgroup(f"docker-{ID}.scope" if is_container else words[1]) as path, cgroup(f"{path.name}/below") as below:
        inside, outside = Waiting(folder, "inside"), Waiting(folder, "outside")
        (below / "cgroup.procs").write_text(str(inside.pid))
        events = watched(folder / "trace.jsonl", words, [inside, outside])
    assert roots(events) == [inside.pid]
    (begin,) = [event for event in events if isinstance(event, ev.Begin)]
    assert isinstance(begin.standing, ev.Standing)
    groups = begin.standing.cgroups
    assert isinstance(groups, list)
    assert any(str(line).endswith(f"/{path.name}/below") for line in groups)
    shown = subprocess.run(
        [*FORKLORE, "show", "-v", "--view", "task", str(folder / "trace.jsonl"), str(inside.pid)],
        capture_output=True, text=True, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert ("docker" in shown.stdout and ID[:12] in shown.stdout) or not is_container, shown.stderr


def test_filters_together_have_to_fit(folder: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user, by setpriv (package: util-linux)")
    become = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
    name = f"w{os.getpid()}"
    (folder / name).symlink_to(shutil.which("sh") or "/bin/sh")
    both = Waiting(folder, "both", become, f"exec {folder / name} -c '/bin/true; exit 0'")
    user = Waiting(folder, "user", become)
    events = watched(folder / "trace.jsonl", ["--uid", str(USER), "--comm", "sh"], [both, user])
    assert set(roots(events)) == {both.pid, user.pid}, "whatever they become later"


def test_a_process_and_its_environment(folder: Path) -> None:
    target, other = Waiting(folder, "target"), Waiting(folder, "other")
    events = watched(folder / "trace.jsonl", ["--pid", str(target.pid), "--env"], [target, other])
    assert roots(events) == [target.pid]
    (execs,) = [event for event in events if isinstance(event, ev.Exec)]
    assert "MARK=target" in (execs.envp or ())


def test_environments_are_left_out_if_nobody_asks(folder: Path) -> None:
    target = Waiting(folder, "target")
    events = watched(folder / "trace.jsonl", ["--pid", str(target.pid)], [target])
    assert [event.envp for event in events if isinstance(event, ev.Exec)] == [None]


def test_in_a_pid_namespace_both_pids_are_told(folder: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare on this machine (package: util-linux)")
    target = Waiting(folder, "inner", ["unshare", "--pid", "--fork"])
    assert target.said == 1, "it is the first of its namespace"
    file = folder / "trace.jsonl"
    events = watched(file, ["--pid", str(target.pid)], [target])
    begun = {event.tid: event.ns_tids for event in events if isinstance(event, ev.Begin)}
    inner = next(tid for tid, numbers in begun.items() if numbers is not None)
    assert begun == {target.pid: None, inner: [inner, 1]}
    made = [event for event in events if isinstance(event, ev.Create)]
    assert [event.ns_tids for event in made] == [[event.tid, 2] for event in made]
    tasks = forklore.load(str(file)).tasks.values()
    assert {task.ns_tids[1:] for task in tasks} == {(), (1,), (2,)}


def test_top_renews_a_screen_until_it_is_left() -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*FORKLORE, "watch", "--top", "--duration", "3"], env={**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "100"},
        stdin=slave, stdout=slave, stderr=slave,
    ) as tracer:  # fmt: skip
        os.close(slave)
        shown = b""
        with suppress(OSError):  # EIO: the other end is closed
            while part := os.read(master, 1 << 16):
                shown += part
        assert tracer.wait(timeout=60) == 0, shown
    os.close(master)
    assert b"tasks alive" in shown
    assert shown.count(b"in the last second") >= 2
