"""Each way to make a task, beside what the program itself says of it: who made it, whose child it is, by which call."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from tracing import Program, Trace_, creation, tids

from forklore.abi.flags import CLONE_PARENT, CLONE_VFORK


def test_each_fork_has_its_parent(program: Program, traced: Trace_) -> None:
    run = traced(program("fork_tree"), "3", "2")
    lines = run.lines("process")
    assert len(lines) == run.line("ok").number("processes") == 1 + 2 + 4 + 8
    assert tids(run.trace.tasks.values()) == sorted(line.number("pid") for line in lines)
    assert run.root.tid == lines[0].number("pid")
    for line in lines[1:]:
        task = run.task(line.number("pid"))
        assert task.kind == "process"
        assert creation(task).exit_signal == signal.SIGCHLD
        assert run.creator(task).tid == run.parent(task).tid == line.number("parent")
        assert task.death is not None
        assert task.death.code == 0


def test_clone_parent_makes_siblings(program: Program, traced: Trace_) -> None:
    # clone(2): with CLONE_PARENT "the parent of the new child will be the same as that of the calling process".
    run = traced(program("clone_parent"))
    siblings = run.lines("sibling")
    assert sorted(line["call"] for line in siblings) == ["clone", "clone3"]  # the two run side by side
    for line in siblings:
        task = run.task(line.number("pid"))
        assert creation(task).call == line["call"]
        assert creation(task).flags.raw == CLONE_PARENT
        assert run.creator(task).tid == line.number("creator")
        assert run.parent(task).tid == line.number("parent") == run.root.tid
        assert task.death is not None
        assert task.death.code == 3


@pytest.mark.parametrize(("name", "number"), [("exit_signal_zero", 0), ("exit_signal_usr1", signal.SIGUSR1)])
def test_a_process_that_the_kernel_reports_as_a_clone(name: str, number: int, program: Program, traced: Trace_) -> None:
    # kernel/fork.c: kernel_clone sends PTRACE_EVENT_FORK only where the exit signal is SIGCHLD; any other process
    # comes as PTRACE_EVENT_CLONE, as threads do. CLONE_THREAD alone tells which it is.
    run = traced(program(name))
    lines = run.lines("process")
    assert tids(run.created()) == sorted(line.number("pid") for line in lines)
    for line in lines:
        task = run.task(line.number("pid"))
        assert (task.kind, task.stop) == ("process", "clone")
        assert creation(task).call == line["call"]
        assert creation(task).exit_signal == number
        assert task.tgid == task.tid
        assert task.death is not None
        assert task.death.code == 5


def test_a_thread_that_the_kernel_reports_as_a_vfork(program: Program, traced: Trace_) -> None:
    # CLONE_VFORK is looked at first (kernel/fork.c: kernel_clone), so this thread comes as PTRACE_EVENT_VFORK.
    run = traced(program("thread_vfork"))
    lines = run.lines("thread")
    assert [line["call"] for line in lines] == ["clone", "clone3"]
    for line in lines:
        task = run.task(line.number("tid"))
        assert (task.kind, task.stop) == ("thread", "vfork")
        assert creation(task).flags.raw == line.number("flags")
        assert line.number("flags") & CLONE_VFORK
        assert task.tgid == line.number("pid") == run.root.tid
        # Its creator was held until it ended: it released the memory by its end and by nothing else.
        assert task.held is not None
        assert task.lifetime is not None
        assert task.held > 0


def test_a_pthread_is_a_thread(program: Program, traced: Trace_) -> None:
    run = traced(program("pthread_one"))
    line = run.line("thread")
    (task,) = run.created()
    assert (task.kind, task.tid, task.tgid) == ("thread", line.number("tid"), line.number("pid"))
    assert run.creator(task) is run.root


@pytest.mark.skipif(os.geteuid() != 0, reason="set_tid needs CAP_CHECKPOINT_RESTORE, as root has it")
def test_a_chosen_pid(program: Program, traced: Trace_) -> None:
    run = traced(program("set_tid"))
    (task,) = run.created()
    assert task.tid == run.line("process").number("pid")
    assert creation(task).set_tid == (task.tid,)
    refused = run.lines("refused")
    assert [(failure.creation.set_tid, failure.errno) for failure in run.trace.failures] == [
        ((line.number("pid"),), line.errno) for line in refused
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="without root the pid namespace needs a user namespace, often forbidden")
def test_pids_in_nested_namespaces(program: Program, traced: Trace_) -> None:
    # NSpid (proc_pid_status(5)) lists a task's pid in each namespace, outermost first, as the task itself reads it.
    run = traced(program("pidns"))
    for line in run.lines("process"):
        inner = tuple(int(word) for word in line["nspid"].split(","))
        task = run.task(inner[0])
        assert inner[-1] == line.number("pid")
        assert len(inner) == line.number("level") + 1
        assert task.ns_tids == (inner if line.number("level") else ())
    for line in run.lines("thread"):
        level = line.number("level")
        inside = [t for t in run.created() if t.kind == "thread" and len(t.ns_tids) == level + 1]
        assert [task.ns_tids[-1] for task in inside] == [line.number("tid")]
    for line in run.lines("made"):  # the pid that clone returned is the one in the caller's namespace
        made = [t for t in run.created() if t.ns_tids[line.number("level") - 1 :][:1] == (line.number("seen_as"),)]
        assert [task.ns_tids[-1] for task in made if len(task.ns_tids) == line.number("level") + 1] == [1]


def test_a_posix_spawn_and_one_that_fails(program: Program, traced: Trace_) -> None:
    run = traced(program("posix_spawn_one"))
    line = run.line("child")
    task = run.task(line.number("pid"))
    assert [image.file for image in task.images] == [line["path"].encode()]
    assert task.death is not None
    assert task.death.code == 17
    # The second one made a child as well, whose execve failed: only the errno came back to the program.
    (failed,) = (t for t in run.created() if t is not task)
    assert [f.errnos for f in failed.failed_execs] == [[run.line("refused").errno]]
    assert not failed.images
    assert failed.death is not None
    assert failed.death.code == 127


def test_a_chain_of_a_hundred_generations(program: Program, traced: Trace_) -> None:
    run = traced(program("deep_chain"), "100")
    lines = run.lines("process")
    assert [line.number("level") for line in lines] == list(range(1, 101))
    for line in lines:
        assert run.creator(run.task(line.number("pid"))).tid == line.number("parent")
    assert tids(run.created()) == sorted(line.number("pid") for line in lines)


BUILDS: dict[str, dict[str, Any]] = {
    "dynamic": {},
    "static": {"static": True},
    "musl": {"libc": "musl"},
}


@pytest.mark.parametrize("how", BUILDS)
@pytest.mark.parametrize("alive", [(), ("alive",)], ids=["", "alive"])
@pytest.mark.parametrize(
    ("name", "word", "key"), [("many_threads", "thread", "tid"), ("many_processes", "process", "pid")]
)
def test_of_many_none_is_lost(
    name: str, word: str, key: str, alive: tuple[str, ...], how: str, program: Program, traced: Trace_
) -> None:
    count = 1009 if how == "dynamic" else 211
    run = traced(program(name, **BUILDS[how]), str(count), *alive)
    assert run.status == 0
    assert [task.kind for task in run.created()] == [word] * count
    assert [task.tid for task in run.created()] == [line.number(key) for line in run.lines(word)]


I386 = ("clone_parent", "exit_signal_usr1", "fork_tree", "pthread_one", "thread_vfork", "vfork_exec")


@pytest.mark.parametrize("name", I386)
def test_a_32_bit_program(name: str, program: Program, traced: Trace_) -> None:
    # The numbers and the argument order are i386's own; a 64-bit tracer has to take both from the call, not the host.
    run = traced(program(name, m32=True))
    assert run.status == 0, run.err
    assert run.trace.header.arch == "x86_64"
    assert {creation(task).arch for task in run.created()} == {"i386"}
    lines = [line for word in ("process", "sibling", "thread", "child") for line in run.lines(word)]
    ids = {line.number(key) for line in lines for key in ("pid", "tid", "creator") if key in line.values}
    assert ids - {run.root.tid} == set(tids(run.created()))
    for line in run.lines("thread"):
        if "flags" in line.values:
            assert creation(run.task(line.number("tid"))).flags.raw == line.number("flags")
    for line in run.lines("sibling"):
        assert run.parent(run.task(line.number("pid"))).tid == line.number("parent")
