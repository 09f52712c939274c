"""execve: images in order, threads that take their leader's place, and vfork's hold on the creator."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from tracing import Program, Trace_

from forklore.abi.flags import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW
from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.report.styled_lines import plain
from forklore.report.tree.tree import Limits, tree_lines


def test_the_images_of_one_process(program: Program, traced: Trace_) -> None:
    run = traced(program("exec_chain"), "7")
    assert {line.number("pid") for line in run.lines("image")} == {run.root.tid}
    last = [image.argv[-1] for image in run.root.images if isinstance(image.argv, tuple)]
    assert last == [line["left"].encode() for line in run.lines("image")]
    assert run.created() == []


@pytest.mark.parametrize("variant", ["others", "leader-alive", "leader-gone"])
@pytest.mark.parametrize("stops", ["seccomp", "syscalls", "events"])
def test_a_thread_takes_its_leaders_place(variant: str, stops: str, program: Program, traced: Trace_) -> None:
    # fs/exec.c: de_thread kills the other threads and gives the caller the leader's tid. The old tid never reports
    # an end, and the leader, alive or a zombie by then, gives no status.
    run = traced(program("exec_nonleader"), variant, options=[f"--stops={stops}"])
    caller, ok = run.line("exec"), run.line("ok")
    assert run.status == 0
    assert caller.number("tid") == ok.number("former") != caller.number("pid")
    leader = run.root
    assert leader.tid == caller.number("pid") == ok.number("tid")
    assert (leader.gone, leader.death) == ("superseded", None)
    (heir,) = (task for task in run.created() if task.images)
    assert leader.heir == heir.id
    assert heir.tid == leader.tid
    assert [image.former_tid for image in heir.images] == [ok.number("former")]
    assert heir.death is not None
    assert heir.death.code == 0
    parked = [run.task(line.number("tid")) for line in run.lines("parked")]
    assert len(parked) == (0 if variant == "leader-alive" else 3)
    # kernel/exit.c: do_group_exit gives those that an exec ends the exit code 0, not a signal.
    assert [task.death.code for task in parked if task.death is not None] == [0] * len(parked)
    assert {task.id for task in run.created()} == {heir.id, *(task.id for task in parked)}


def test_a_leader_keeps_its_place(program: Program, traced: Trace_) -> None:
    run = traced(program("exec_nonleader"), "leader")
    assert run.root.gone is None
    assert [image.former_tid for image in run.root.images] == [None, None]
    assert len(run.created()) == len(run.lines("parked")) == 3


@pytest.mark.parametrize("name", ["vfork_exec", "vfork_missing_exec"])
def test_vfork_holds_its_creator(name: str, program: Program, traced: Trace_) -> None:
    run = traced(program(name))
    task = run.task(run.line("child").number("pid"))
    assert task.stop == "vfork"
    assert task.held is not None
    assert task.lifetime is not None
    assert task.held > 0
    # The memory is released before the exec event, but the two stops race from there: the creator has to be woken
    # before it can report (kernel/fork.c: mm_release, wait_for_vfork_done). So the order in the file is not fixed.
    about = [
        event for event in run.events() if task.id in (getattr(event, "task", None), getattr(event, "child", None))
    ]
    assert sum(isinstance(event, ev.VforkDone) for event in about) == 1
    assert isinstance(about[0], ev.Create)
    order = [type(event) for event in about if isinstance(event, ev.Exec | ev.ExecFail | ev.Exit)]
    if name == "vfork_exec":
        assert order == [ev.Exec, ev.Exit]
        assert [image.file for image in task.images] == [run.line("child")["path"].encode()]
        assert task.death is not None
        assert task.death.code == 9
    else:
        assert order == [ev.ExecFail, ev.Exit]
        (failed,) = task.failed_execs
        assert failed.paths == [b"/nonexistent/program"]
        assert failed.errnos == [run.line("child").errno]


def test_a_script_runs_its_interpreter(tmp_path: Path, traced: Trace_) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh -e\nexit 5\n")
    script.chmod(0o755)
    run = traced(script)
    assert run.status == 5
    (image,) = run.root.images
    assert image.path == os.fsencode(script)
    assert image.argv == (os.fsencode(script),)  # as given to execve: what the kernel made of it, exe tells
    assert image.exe == os.path.realpath("/bin/sh").encode()
    assert image.comm == b"script"


def test_execveat_tells_its_descriptor_its_path_and_its_flags(program: Program, traced: Trace_) -> None:
    run = traced(program("execveat_forms"))
    line = run.line("child")
    self, root = line.number("self"), line.number("root")
    path = os.fspath(program("execveat_forms"))
    far, none = (Unavailable(errno.EBADF, f"descriptor {fd} is not open") for fd in (999, -1))
    assert [(f.at, f.errnos) for f in run.root.failed_execs] == [
        (ev.ExecAt(fd=root, directory="/", path="nonexistent/program"), [errno.ENOENT]),
        (ev.ExecAt(fd=999, directory=far, path="program"), [errno.EBADF]),
        (ev.ExecAt(fd=-1, directory=none, path="", flags=AT_EMPTY_PATH), [errno.EBADF]),
        (ev.ExecAt(fd=self, directory=path, path=""), [errno.ENOENT]),
        (ev.ExecAt(fd=AT_FDCWD, path="/proc/self/exe", flags=AT_SYMLINK_NOFOLLOW), [errno.ELOOP]),
    ]
    said = [(b"program", each["what"].encode()) for each in run.lines("execveat")]
    assert [f.argv for f in run.root.failed_execs] == said
    (child,) = run.created()
    first, second = child.images
    assert (first.path, first.at) == (path.encode(), ev.ExecAt(fd=self, directory=path, path="", flags=AT_EMPTY_PATH))
    assert (second.path, second.at) == (b"/proc/self/exe", None)
    lines = [plain(line) for line in tree_lines(run.trace, Limits(columns=None, verbose=True))]
    shown = " ".join(" ".join(lines).split())
    told = re.escape(f'exec {path} by execveat({self} [{path}], "", AT_EMPTY_PATH) after ')
    assert re.search(told + r"[0-9.]+ \S+ → /proc/self/exe", shown), "the time is the first one's"
