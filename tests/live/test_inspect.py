"""`forklore inspect` on running programs that say themselves what they share (tests/programs/sharing_*.c)."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from tracing import ENVIRONMENT, FORKLORE, Line, Program, said

NOBODY = 65534
OBJECTS = ("mm", "files", "fs", "sighand", "sysvsem", "io")


class Running:
    """A program that is held by its standard input, and what it said."""

    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines
        self.pid = lines[-1].number("pid")

    def tid(self, word: str, kind: str) -> int:
        (line,) = [line for line in self.lines if line.word == word and line["kind"] == kind]
        return line.number("tid" if word == "thread" else "pid")

    def kinds(self, word: str) -> list[str]:
        return [line["kind"] for line in self.lines if line.word == word]


@contextmanager
def held(*command: str | os.PathLike[str], user: int | None = None) -> Iterator[Running]:
    """Run a program until it says that all is ready; at the end let it go, and it has to end well."""
    process = subprocess.Popen(
        [os.fspath(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        user=user, group=user, extra_groups=None if user is None else [],
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith(("ready", "ok")):
            break
    try:
        yield Running(said(text))
    finally:
        process.stdin.close()
        rest = process.stdout.read()
        process.stdout.close()
        assert process.wait(timeout=30) == 0
    assert rest.startswith("ok") or text.splitlines()[-1].startswith("ok")


# Becomes an ordinary user with all modules loaded, for that user may be kept from this checkout or this Python.
AS_NOBODY = f"""if True:
    import os, sys
    import forklore.cli.inspect, forklore.features.inspect.text
    from forklore.cli.main import main
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
    sys.exit(main(["inspect", *sys.argv[1:]]))
"""


def inspect(*arguments: str | int, nobody: bool = False) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AS_NOBODY] if nobody else [*FORKLORE, "inspect"]
    return subprocess.run(
        [*command, *map(str, arguments)], env={**ENVIRONMENT, "COLUMNS": "80"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def data(*arguments: str | int, nobody: bool = False) -> dict[str, Any]:
    done = inspect("--format", "json", *arguments, nobody=nobody)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    whole: dict[str, Any] = json.loads(done.stdout)
    return whole


def tasks_of(whole: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {task["tid"]: task for process in whole["processes"] for task in process["tasks"]}


def shared(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {name for name in OBJECTS if isinstance(one[name], str) and one[name] == other[name]}


def is_root() -> bool:
    return os.geteuid() == 0


@pytest.mark.parametrize("how", [("--tree",), ()])
def test_every_partial_sharing_is_found(program: Program, how: Sequence[str]) -> None:
    """By the tree, or from one process alone: those that share with it are found among all others."""
    with held(program("sharing_partly")) as run:
        whole = data(*how, run.pid)
        tasks = tasks_of(whole)
        mine = tasks[run.pid]
        expected = {
            "files": {"files"},
            "fs": {"fs"},
            "vm": {"mm"},
            "sighand": {"mm", "sighand"},
            "sysvsem": {"sysvsem"},
            "io": {"io"},
            "vfork": {"mm"},
        }
        for kind, objects in expected.items():
            assert shared(mine, tasks[run.tid("process", kind)]) == objects, kind
        if how:
            assert shared(mine, tasks[run.tid("process", "fork")]) == set()
        else:
            assert run.tid("process", "fork") not in tasks
        assert shared(mine, tasks[run.tid("thread", "plain")]) == set(OBJECTS) - {"io"}
        assert shared(mine, tasks[run.tid("thread", "fs")]) == set(OBJECTS) - {"io", "fs"}
        assert shared(mine, tasks[run.tid("thread", "files")]) == set(OBJECTS) - {"io", "files"}
        apart = {each["tid"]: each["objects"] for each in whole["apart"]}
        assert apart == {run.tid("thread", "fs"): ["fs"], run.tid("thread", "files"): ["files"]}
        assert whole["unknown"] == []
        (mm,) = [each for each in whole["between"] if "mm" in each["share"]]
        (line,) = [line for line in run.lines if line.word == "process" and line["kind"] == "vfork"]
        assert mm["vfork_held"] == line.number("creator")
        asked = {process["pid"] for process in whole["processes"] if process["asked"]}
        assert asked == (set(tasks_of(whole)) - set(apart) - {
            run.tid("thread", "plain"), line.number("creator")
        } if how else {run.pid})  # fmt: skip


def test_only_those_that_were_asked_for(program: Program) -> None:
    with held(program("sharing_partly")) as run:
        whole = data("--only", run.pid, run.tid("process", "files"))
        assert [process["pid"] for process in whole["processes"]] == [run.pid, run.tid("process", "files")]
        assert [each["share"] for each in whole["between"]] == [["files"]]
        assert whole["others"] is None


def test_a_fork_child_without_list_or_context_shares_neither(program: Program) -> None:
    """kcmp answers EQUAL for two NULLs: these children have no SEM_UNDO list, and it is told as none."""
    with held(program("sharing_many"), "11", "processes") as run:
        whole = data("--tree", run.pid)
        assert len(whole["groups"]["sysvsem"]["unset"]) == 11
        assert whole["groups"]["sysvsem"]["objects"] == []
        assert whole["between"] == []


def test_a_thread_is_named_by_its_process(program: Program) -> None:
    with held(program("sharing_many"), "3") as run:
        tid = sorted(os.listdir(f"/proc/{run.pid}/task"), key=int)[-1]
        assert [process["pid"] for process in data("--only", tid)["processes"]] == [run.pid]


@pytest.mark.parametrize(("count", "kind"), [(1009, "threads"), (211, "processes")])
def test_the_number_of_comparisons_is_bounded(program: Program, count: int, kind: str) -> None:
    with held(program("sharing_many"), str(count), kind) as run:
        whole = data("--only", "--tree", run.pid)
        assert len(tasks_of(whole)) == count
        objects = [len(each["objects"]) + bool(each["unset"]) for each in whole["groups"].values()]
        assert objects[:4] == [1 if kind == "threads" else count] * 4
        assert whole["comparisons"] <= sum(count * math.ceil(math.log2(each)) + count for each in objects)
        text = inspect("--only", "--tree", run.pid).stdout
        assert len(text.splitlines()) < 25
        assert ("+1,008 threads" if kind == "threads" else "211 × sharing_many") in text
        assert max(map(len, text.splitlines())) <= 80


def test_a_thread_that_the_kernel_made(program: Program) -> None:
    with held(program("sharing_io_uring")) as run:
        if run.lines[0].word == "unable":
            pytest.skip(f"io_uring_setup: {run.lines[0]['errno']}")
        (worker,) = [line.number("tid") for line in run.lines if line.word == "worker"]
        tasks = tasks_of(data("--only", run.pid))
        assert tasks[worker]["made_by"] == "io_uring"
        assert tasks[run.pid]["made_by"] == "program"
        assert {"mm", "files", "fs", "sighand"} <= shared(tasks[worker], tasks[run.pid])
        text = " ".join(inspect("--only", run.pid).stdout.split())
        assert f"thread {worker} (iou-sqp-{run.pid})" in text
        assert "made by the kernel for io_uring" in text


@pytest.mark.parametrize("user", [False, True], ids=["root", "user-namespace"])
def test_each_kind_of_namespace(program: Program, *, user: bool) -> None:
    """As root, and as an ordinary user in a user namespace of that user's own, looked at by root."""
    if not user and not is_root():
        pytest.skip("new namespaces need CAP_SYS_ADMIN")
    arguments = ["user"] if user else []
    with held(program("sharing_namespaces"), *arguments, user=NOBODY if user and is_root() else None) as run:
        if run.kinds("unable") == ["all"]:
            pytest.skip(f"unshare(CLONE_NEWUSER): {run.lines[0]['errno']}")
        assert set(run.kinds("unable")) <= ({"user"} if user else set())
        whole = data("--only", "--tree", run.pid)
        tasks = tasks_of(whole)
        mine = tasks[run.pid]["namespaces"]
        for kind in set(run.kinds("process")) - {"pending"}:
            theirs = tasks[run.tid("process", kind)]["namespaces"]
            assert {name for name in theirs if theirs[name] != mine[name]} == (
                {kind, f"{kind}_for_children"} if kind in ("pid", "time") else {kind}
            )
        waiting = run.tid("process", "pending")
        assert whole["pending"] == [{"tid": waiting, "namespace": "pid"}]
        assert tasks[waiting]["namespaces"]["pid"] == mine["pid"]
        (apart,) = whole["apart"]
        assert apart["tid"] == run.tid("thread", "uts,net")
        assert (apart["objects"], apart["namespaces"]) == ([], ["uts", "net"])


def test_what_another_user_may_not_see_is_unknown(program: Program) -> None:
    if not is_root():
        pytest.skip("needs root to become another user")
    with held(program("sharing_partly")) as run:
        whole = data("--tree", run.pid, nobody=True)
        for task in tasks_of(whole).values():
            for name in OBJECTS:
                assert task[name]["errno_name"] == "EPERM"
                assert task[name]["unavailable"].startswith("EPERM: it runs as another user (uid 0)")
            assert task["namespaces"]["mnt"]["errno_name"] == "EACCES"
        assert whole["between"] == whole["apart"] == whole["pending"] == []
        assert whole["others"]["refused"] > 0
        text = " ".join(inspect("--tree", run.pid, nobody=True).stdout.split())
        assert "unknown (EPERM: it runs as another user (uid 0), and this process lacks CAP_SYS_PTRACE" in text


def test_all_processes_while_they_come_and_go(program: Program) -> None:
    """Processes are made and end all the time: what is gone is left out and said, nothing fails."""
    churn = subprocess.Popen([program("many_processes"), "1000000"], stdout=subprocess.DEVNULL)
    try:
        with held(program("sharing_partly")) as run:
            for _ in range(3):
                whole = data("--all")
                tasks = tasks_of(whole)
                assert shared(tasks[run.pid], tasks[run.tid("process", "files")]) == {"files"}
                dropped = {each["tid"] for each in whole["dropped"]}
                assert dropped.isdisjoint(tasks)
                assert all(each["why"] for each in whole["dropped"])
    finally:
        churn.kill()
        churn.wait()


def test_a_pid_that_is_another_process_now_is_left_out(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is the same, the time of the start is not: what was compared may be about either."""
    from forklore.abi.units import Pid
    from forklore.features.inspect import observe
    from forklore.linux import tasks as running

    with held(program("sharing_many"), "3") as run:
        process = running.scan(Pid(run.pid))
        seen = observe._tasks([process])
        assert observe._changed([process], seen) == []
        monkeypatch.setattr(process, "identity", psutil.Process())
        assert observe._changed([process], seen) == []
        assert process.identity is not None
        monkeypatch.setattr(process.identity, "_ident", (process.identity.pid, 1.0), raising=True)
        assert {each.why for each in observe._changed([process], seen)} == {
            "its number went to another task while it was inspected"
        }
    gone = observe._changed([process], seen)
    assert {each.tid for each in gone} == {task.tid for task in seen}
    assert {each.why for each in gone} == {"it ended while it was inspected"}


def test_a_pid_that_is_not_there(program: Program) -> None:
    with held(program("sharing_many"), "1") as run:
        pass
    done = inspect(run.pid)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"forklore: {run.pid}: ESRCH: there is no task {run.pid}\n"
    done = inspect(os.getpid(), run.pid, "--only")
    assert done.returncode == 0
    assert f"{run.pid}: ESRCH" in done.stderr


def test_a_zombie_has_nothing_to_compare() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    whole = data("--only", ended.pid)
    assert {why["unavailable"] for why in whole["unknown"] if "mm" in why["what"]} == {
        "it has ended and has no objects any more"
    }
    assert ended.wait() == 0


def test_a_proc_that_hides_others_processes() -> None:
    """hidepid=2: no /proc/PID of another user, though the process is there."""
    if not is_root():
        pytest.skip("needs root to mount a /proc of its own")
    command = (
        f"mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "
        f"{' '.join(FORKLORE)} inspect {os.getpid()}"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"no /proc with hidepid=2 here: {done.stderr.strip()}")
    assert done.returncode == 1
    assert done.stderr == (
        f"forklore: {os.getpid()}: ENOENT: /proc is mounted with hidepid and does not show {os.getpid()}\n"
    )


def test_usage() -> None:
    done = inspect()
    assert done.returncode == 2
    assert "name a PID" in done.stderr
    assert inspect("-5").returncode == 2
    text = inspect("--only", "--columns", "60", "--color", "always", os.getpid()).stdout
    assert "\x1b[" in text
