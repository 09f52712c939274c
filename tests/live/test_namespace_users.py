"""Programs that live by namespaces: the right namespaces on the right tasks, as the tasks themselves see them.

What is true comes from two sides that know nothing of forklore: inside, a shell and a readlink(1) say where they are
by /proc/self/ns; and while all of them are held still by a read of a pipe, /proc/PID/ns of each is read from outside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

import psutil
import pytest
from tracing import ENVIRONMENT, FORKLORE, SKIPPED, TIMEOUT, Line, Program, assert_whole, bare, said

from forklore import load
from forklore.abi.resources import NAMESPACES
from forklore.abi.units import Unavailable
from forklore.events.records import Standing
from forklore.model.holds import Hold
from forklore.model.tasks import Task, Trace

NAMES: Final = tuple(name for name in NAMESPACES if os.path.lexists(f"/proc/self/ns/{name}"))
"""Those that this kernel has."""
LEVELS: Final = ("auto", "full")
INSIDE: Final = f"(exec readlink /proc/self {' '.join(f'/proc/self/ns/{name}' for name in NAMES)}); echo held; read end"
"""The shell's child says its own number in the pid namespace of /proc and where it is; then the shell waits."""
SHELL: Final = ("/bin/sh", "-c", INSIDE)
NOBODY: Final = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
CHROME: Final = "/usr/lib/chromium/chrome-sandbox"
AS_ZYGOTE: Final = ("sh", "-c", 'export SBX_CHROME_API_RQ=1; exec "$@" 7</dev/null', "sh")
"""As chromium starts its sandbox: it wants the version of their agreement, and the zygote's descriptor, which it closes
(sandbox/linux/suid/sandbox.c of chromium)."""

Seen = Mapping[str, int]
"""Inode numbers by the names of namespaces."""


class Case(NamedTuple):
    """A command that ends in SHELL, and what that has of its own, unlike who started it."""

    words: tuple[str, ...]
    apart: str
    """Namespaces, in words."""
    root: bool = False
    """It takes privileges; the others make a user namespace first."""
    package: str = "util-linux"


CASES: Final = {
    "bwrap --unshare-all": Case(
        ("bwrap", "--unshare-all", "--ro-bind", "/", "/"), "mnt uts ipc net pid user cgroup", package="bubblewrap"
    ),
    "bwrap --unshare-pid": Case(
        ("bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/"), "mnt pid user", package="bubblewrap"
    ),
    "bwrap --unshare-user": Case(
        ("bwrap", "--unshare-user", "--ro-bind", "/", "/"), "mnt user", package="bubblewrap"
    ),
    "bwrap as root": Case(
        ("bwrap", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/"), "mnt pid net", True, "bubblewrap"
    ),
    "unshare -n": Case(("unshare", "-n"), "net", True),
    "unshare -u": Case(("unshare", "-u"), "uts", True),
    "unshare -i": Case(("unshare", "-i"), "ipc", True),
    "unshare -m": Case(("unshare", "-m"), "mnt", True),
    "unshare -C": Case(("unshare", "-C"), "cgroup", True),
    "unshare -T": Case(("unshare", "-T"), "time", True),
    "unshare -p --fork": Case(("unshare", "-p", "--fork"), "pid", True),
    "unshare -U": Case(("unshare", "-U", "-n"), "user net"),
    "unshare -U -r --pid --mount-proc": Case(
        ("unshare", "-U", "-r", "--fork", "--pid", "--mount-proc"), "user pid mnt"
    ),
    "chrome-sandbox": Case((*AS_ZYGOTE, CHROME), "pid net", True, "chromium-sandbox"),
}
ORDINARY: Final = [name for name, case in CASES.items() if not case.root]


def need(command: str, package: str) -> None:
    """Skip where a command is missing, with the Debian package that brings it."""
    if shutil.which(command) is None:
        pytest.skip(f"{command} is not installed: apt-get install {package}")


def need_user_namespaces(*who: str) -> None:
    """Skip where the machine refuses them to whoever ``who`` runs a command as."""
    done = bare(*who, "unshare", "-U", "true", cwd="/")
    if done.status != 0:
        pytest.skip(f"no user namespaces here: {done.err.strip()} (see user.max_user_namespaces, or the container)")


def prepare(case: Case, *who: str) -> None:
    """Skip where the machine has not what a case takes."""
    need("unshare", "util-linux")
    need(case.words[-1] if CHROME in case.words else case.words[0], case.package)
    if case.root and os.geteuid() != 0:
        pytest.skip("only root can make these namespaces without a user namespace")
    missing = [name for name in case.apart.split() if name not in NAMES]
    if missing:
        pytest.skip(f"this kernel has no {missing[0]} namespaces")
    if not case.root:
        need_user_namespaces(*who)


def seen_from_outside(pid: int) -> Seen:
    """Where a task is, which has to be held; without what may not be read."""
    found = {}
    for name in NAMES:
        try:
            link = os.readlink(f"/proc/{pid}/ns/{name}")
        except PermissionError:
            continue
        found[name] = int(link[len(name) + 2 : -1])
    return found


class Run(NamedTuple):
    """What was seen of a program that ran under forklore."""

    trace: Trace
    inside: int
    """What the shell's child says its number is."""
    its: Seen
    """And where it is."""
    outside: dict[int, Seen]
    """By tid, when all were held."""
    shell: int
    """The tid of the shell inside."""


def run_held(file: Path, command: Sequence[str], level: str, *who: str, env: Mapping[str, str] = ENVIRONMENT) -> Run:
    """Trace a command that ends in SHELL; hold it when the shell says so, and look at all of its tasks."""
    words = [*who, *FORKLORE, "run", "-q", "-o", str(file), f"--observe={level}", "--", *command]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=env, cwd="/") as running:
        number, *links = until_held(running)
        tasks = psutil.Process(running.pid).children(recursive=True)
        outside = {task.pid: seen_from_outside(task.pid) for task in tasks if task.status() != psutil.STATUS_ZOMBIE}
        (shell,) = (task.pid for task in tasks if task.pid in outside and task.cmdline() == list(SHELL))
        _, complaint = running.communicate("end\n", timeout=TIMEOUT)
        assert running.returncode == 0, complaint
    trace = load(file, sharing=True)
    assert_whole(trace)
    its = {name: int(link[len(name) + 2 : -1]) for name, link in zip(NAMES, links, strict=True)}
    return Run(trace, int(number), its, outside, shell)


def until_held(running: subprocess.Popen[str]) -> list[str]:
    """What is said before "held": a number and a link for each of NAMES."""
    assert running.stdout is not None
    found: list[str] = []
    for line in running.stdout:
        if line == "held\n":
            assert len(found) == len(NAMES) + 1, found
            return found
        found.append(line.strip())
    _, complaint = running.communicate(timeout=TIMEOUT)
    pytest.fail(f"it ended before it was held: {found} {complaint}")


def task(trace: Trace, number: int) -> Task:
    """The only task with that tid, outside or inside a pid namespace."""
    (found,) = (task for task in trace.tasks.values() if number in (task.tid, *task.ns_tids))
    return found


def final(trace: Trace, tid: int) -> Mapping[str, Hold]:
    """What a task held last of each namespace: every hold ends with the task."""
    assert trace.sharing is not None
    return {name: trace.sharing.holdings.holds(task(trace, tid).id)[name][-1] for name in NAMES}


def assert_agrees(run: Run) -> None:
    """Each task is in the namespace that it was seen in, and tasks are in one group where they are in one namespace."""
    truth = {**run.outside, run.inside: run.its}
    assert {task(run.trace, tid).id for tid in truth} == set(run.trace.tasks), "every task of the trace was looked at"
    inode_of: dict[tuple[str, int], int] = {}
    group_of: dict[tuple[str, int], int] = {}
    for tid, seen in truth.items():
        holds = final(run.trace, tid)
        assert {name: holds[name].inode for name in seen} == seen, task(run.trace, tid)
        for name, inode in seen.items():
            group = holds[name].group
            assert inode_of.setdefault((name, group), inode) == inode, "one group is one namespace"
            assert group_of.setdefault((name, inode), group) == group, "one namespace is one group"


def assert_stood(trace: Trace) -> None:
    """Where the kernel was asked for a child's namespaces at its creation, its first hold is what it said."""
    assert trace.sharing is not None
    for each in trace.tasks.values():
        if not isinstance(each.standing, Standing) or each.standing.namespaces is None:
            continue
        for name in NAMES:
            inode = each.standing.namespaces[name]
            assert not isinstance(inode, Unavailable), inode
            assert trace.sharing.holdings.holds(each.id)[name][0].inode == inode


def apart(run: Run, tid: int) -> set[str]:
    """In what a task differs from this process, which is where the program was started."""
    own = seen_from_outside(os.getpid())
    return {name for name, hold in final(run.trace, tid).items() if hold.inode != own[name]}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", CASES)
def test_as_whoever_runs_the_tests(name: str, level: str, tmp_path: Path) -> None:
    case = CASES[name]
    prepare(case)
    run = run_held(tmp_path / "t.jsonl", [*case.words, *SHELL], level)
    assert_agrees(run)
    assert_stood(run.trace)
    wanted = set(case.apart.split())
    assert apart(run, run.inside) == wanted
    assert apart(run, run.shell) == (wanted if execve_enters_time() else wanted - {"time"})


def execve_enters_time() -> bool:
    """Whether a task itself enters the time namespace that it made, at its next execve; in Linux 6.1 it does not."""
    link = "/proc/self/ns/time"
    done = bare("unshare", "-T", "readlink", link)
    return done.status != 0 or done.out.strip() != os.readlink(link)


@pytest.fixture
def as_nobody(open_folder: Path) -> Path:
    """Where an ordinary user may write, beside the package."""
    if bare(*NOBODY, sys.executable, "-c", "import msgspec", cwd="/").status != 0:
        pytest.skip(f"{sys.executable} and its packages cannot be read by an ordinary user")
    return open_folder / "home"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ORDINARY)
def test_as_an_ordinary_user(name: str, level: str, as_nobody: Path) -> None:
    case = CASES[name]
    prepare(case, *NOBODY)
    env = {**ENVIRONMENT, "PYTHONPATH": str(as_nobody.parent / "src")}
    run = run_held(as_nobody / "t.jsonl", [*case.words, *SHELL], level, *NOBODY, env=env)
    assert_agrees(run)
    assert_stood(run.trace)
    assert apart(run, run.shell) == apart(run, run.inside) == set(case.apart.split())


def test_a_namespace_that_gets_a_dead_ones_number_is_another(tmp_path: Path) -> None:
    """The kernel gives inode numbers of namespaces again; two that never lived together are no group."""
    prepare(CASES["unshare -p --fork"])
    run = "unshare -p --fork readlink /proc/self/ns/pid; unshare -u readlink /proc/self/ns/uts"
    file = tmp_path / "t.jsonl"
    done = bare(*FORKLORE, "run", "-q", "-o", file, "--", "sh", "-c", f"{run}; {run}; {run}")
    assert done.status == 0, done.err
    trace = load(file, sharing=True)
    assert trace.sharing is not None
    for name, count in (("pid", 1 + 3), ("uts", 1 + 3)):
        holds = [hold for each in trace.tasks for hold in trace.sharing.holdings.holds(each)[name]]
        assert len({hold.group for hold in holds}) == count, name


@contextmanager
def held_partner() -> Iterator[subprocess.Popen[str]]:
    """A shell in a network, a UTS and a pid namespace of its own, outside of any trace, which waits."""
    words = ["unshare", "-n", "-u", "-p", "--fork", "sh", "-c", "echo held; read end"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as partner:
        assert partner.stdout is not None
        assert partner.stdout.readline() == "held\n"
        yield partner
        partner.communicate("end\n", timeout=TIMEOUT)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("options", "joined"), [("-n -u", "net uts"), ("-n -u -p", "net uts pid"), ("-p", "pid")])
def test_nsenter(options: str, joined: str, level: str, tmp_path: Path) -> None:
    """setns into the namespaces of a process that the trace does not know."""
    need("nsenter", "util-linux")
    prepare(CASES["unshare -n"])
    with held_partner() as partner:
        (shell,) = psutil.Process(partner.pid).children()
        theirs = seen_from_outside(shell.pid)
        words = ["nsenter", "-t", str(shell.pid), *options.split(), *SHELL]
        run = run_held(tmp_path / "t.jsonl", words, level)
    assert_agrees(run)
    assert_stood(run.trace)
    assert apart(run, run.shell) == set(joined.split())
    holds = final(run.trace, run.shell)
    assert {name: holds[name].inode for name in joined.split()} == {name: theirs[name] for name in joined.split()}


def inodes(line: Line) -> Seen:
    """What a test program says of where it is."""
    return {name: int(inode) for name, inode in (pair.split(":") for pair in line["inodes"].split(","))}


def moves(lines: Sequence[Line], name: str) -> list[int]:
    """The namespaces that a task said it was in, one after the other."""
    return [inode for inode, _ in groupby(inodes(line)[name] for line in lines)]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("words", [(), ("user",)], ids=["itself", "user"])
def test_a_container_runtime(words: tuple[str, ...], level: str, program: Program, tmp_path: Path) -> None:
    """CLONE_PARENT, setns into a partner's namespaces, unshare, clone and exec: every task at every step."""
    file = tmp_path / "t.jsonl"
    done = bare(*FORKLORE, "run", "-q", "-o", file, f"--observe={level}", "--", program("container_style"), *words)
    if done.status == SKIPPED:
        pytest.skip(done.line("skip")["reason"])
    assert done.status == 0, done.err + done.out
    trace = load(file, sharing=True)
    assert_whole(trace)
    assert_stood(trace)
    assert trace.sharing is not None
    by_tid: dict[int, list[Line]] = {}
    for line in said(done.out):
        if line.word == "namespaces":
            by_tid.setdefault(line.number("tid"), []).append(line)
    assert {task(trace, tid).id for tid in by_tid} == set(trace.tasks)
    for tid, lines in by_tid.items():
        for name in NAMES:
            holds = trace.sharing.holdings.holds(task(trace, tid).id)[name]
            # A task's first word comes after its first hold; of the runtime, after it became an ordinary user's.
            assert [hold.inode for hold in holds][-len(moves(lines, name)) :] == moves(lines, name), (tid, name)
            assert lines[0]["stage"] == "runtime" or len(holds) == len(moves(lines, name)), (tid, name)
    stages = {lines[0]["stage"]: task(trace, tid) for tid, lines in by_tid.items()}
    runtime, first, second = stages["runtime"], stages["1"], stages["2"]
    assert (first.parent, second.parent) == (runtime.id, runtime.id), "CLONE_PARENT"
    assert (first.creator, second.creator) == (stages["0"].id, first.id)
    assert second.ns_tids == (second.tid, 1)
    (pid_answer,) = (answer for answer in trace.sharing.answers[second.id] if answer.resource == "pid")
    assert (pid_answer.asked, pid_answer.observed) == (True, "separate")
    assert pid_answer.sentence is not None, "the unshare before it is told as the reason"
