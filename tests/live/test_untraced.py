"""CLONE_UNTRACED (clone(2): "a tracing process cannot force CLONE_PTRACE on this child"): followed, or left alone.

The program looks at its own registers and memory after each call and fails if a tracer left a trace in them.
"""

from __future__ import annotations

import os

import pytest
from tracing import Program, Trace_, Traced, creation, tids

from forklore.abi.flags import CLONE_PTRACE, CLONE_UNTRACED

CASES = ("clone", "clone3", "rodata", "vfork", "vfork3", "ptrace")


def assert_followed(run: Traced) -> None:
    children, grandchildren = run.lines("child"), run.lines("grandchild")
    assert tids(run.created()) == sorted(line.number("pid") for line in children + grandchildren)
    for line in children:
        task = run.task(line.number("pid"))
        assert task.untraced_cleared
        assert creation(task).call == line["call"]
        # The flags are the program's, not those that the kernel was given in the end.
        signal = creation(task).exit_signal if line["call"] == "clone" else 0
        assert (creation(task).flags.raw or 0) | (signal or 0) == line.number("flags")
        assert creation(task).flags.has(CLONE_UNTRACED)
        assert run.creator(task) is run.root
        assert [image.argv for image in task.images] == [(b"untraced", b"leaf", b"11")]
        assert task.death is not None
        assert task.death.code == 11
    for line in grandchildren:
        task = run.task(line.number("pid"))
        assert not task.untraced_cleared
        assert run.creator(task).tid == line.number("parent")


@pytest.mark.parametrize("stops", ["seccomp", "syscalls"])
@pytest.mark.parametrize("m32", [False, True], ids=["64-bit", "32-bit"])
def test_followed(stops: str, m32: bool, program: Program, traced: Trace_) -> None:
    if os.uname().machine == "riscv64":
        pytest.skip("clone's flags are out of a tracer's reach there (arch/riscv/kernel/traps.c: orig_a0)")
    run = traced(program("untraced", m32=m32), options=[f"--stops={stops}"])
    assert (run.status, run.line("ok")["cases"]) == (0, str(len(CASES))), run.err
    assert_followed(run)


@pytest.mark.parametrize("case", [case for case in CASES if case != "ptrace"])
def test_left_alone_and_named(case: str, program: Program, traced: Trace_) -> None:
    # With every call in sight the creation is seen though no event tells of it; what the child does is not.
    options = ["--stops=syscalls", "--no-follow-untraced"]
    run = traced(program("untraced"), case, options=options, whole=False)
    assert run.status == 0, run.err  # its child forked and executed without a tracer
    (task,) = run.created()
    assert task.tid == run.line("child").number("pid")
    assert not task.traced
    assert not task.untraced_cleared
    assert creation(task).flags.has(CLONE_UNTRACED)
    assert ("what children made with CLONE_UNTRACED do", "--no-follow-untraced") in [
        (blind.what, blind.why) for blind in run.trace.header.blind
    ]


@pytest.mark.parametrize("options", [["--stops=events"], ["--no-follow-untraced"]], ids=" ".join)
@pytest.mark.parametrize("case", [case for case in CASES if case != "ptrace"])
def test_unseen_and_said_so(case: str, options: list[str], program: Program, traced: Trace_) -> None:
    run = traced(program("untraced"), case, options=options)
    assert run.status == 0, run.err
    assert run.created() == []
    assert any("CLONE_UNTRACED" in blind.what for blind in run.trace.header.blind)
    # PTRACE_EVENT_VFORK_DONE comes all the same (kernel/fork.c: kernel_clone), and is all that is known.
    child = run.line("child").number("pid")
    assert [what for what, _ in run.trace.notes if str(child) in what] == [
        f"a child {child} that task 1 made with CLONE_UNTRACED|CLONE_VFORK"
    ] * case.startswith("vfork")


@pytest.mark.parametrize("options", [["--stops=events"], ["--stops=syscalls", "--no-follow-untraced"]], ids=" ".join)
def test_clone_ptrace_attaches_it_without_an_event(options: list[str], program: Program, traced: Trace_) -> None:
    # CLONE_PTRACE makes the child a tracee of its creator's tracer, CLONE_UNTRACED keeps the event back.
    run = traced(program("untraced"), "ptrace", options=options)
    assert run.status == 0, run.err
    child = run.task(run.line("child").number("pid"))
    grandchild = run.task(run.line("grandchild").number("pid"))
    assert (child.stop, child.traced) == (None, True)
    assert run.creator(grandchild) is child
    if options == ["--stops=events"] and os.uname().machine != "x86_64":
        # In the child's registers its result is where the flags were: it is known to be there, and no more.
        assert (child.how, child.creation) == ("adopted", None)
        return
    assert creation(child).flags.raw == CLONE_UNTRACED | CLONE_PTRACE
    assert run.creator(child) is run.root
