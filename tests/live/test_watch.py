"""What is measured while tasks are held, against programs that say what is to be seen."""

from __future__ import annotations

import errno
import os

from tracing import FORKLORE, Program, Trace_, Traced, bare

from forklore.events import records as ev
from forklore.model.pipes import pipes


def shown(run: Traced, *options: str) -> str:
    """A view of a trace, in lines wide enough for anything."""
    done = bare(*FORKLORE, "show", "--columns", "400", *options, run.file)
    assert done.status == 0, done.err
    return done.out


def last_table(run: Traced, tid: int) -> ev.Descriptors:
    record = run.task(tid).descriptors[-1]
    assert not isinstance(record.table, ev.Absent)
    return record


# Descriptors


def test_what_survived_an_exec_is_what_the_program_finds(program: Program, traced: Trace_) -> None:
    run = traced(program("fds_leak"), close_fds=True)
    holds = run.lines("holds")
    (child,) = {line.number("pid") for line in holds}
    record = last_table(run, child)
    assert isinstance(record.table, list)
    found = {held.fd: held for held in record.table if held.fd > 2}
    assert sorted(found) == sorted(line.number("fd") for line in holds)
    for line in holds:
        assert found[line.number("fd")].kind == line["kind"].partition("-")[0]
    assert record.creator == run.root.id
    assert {held.same for held in found.values()} == {0}, "each is the open file of its creator"
    opened = {line.number("fd"): line["cloexec"] == "yes" for line in run.lines("opened")}
    assert {fd: held.creators_cloexec for fd, held in found.items()} == {fd: opened[fd] for fd in found}
    assert not any(opened[fd] for fd in found), "what was close-on-exec is gone"
    ends = {held.fd for held in record.creators_pipes if held.fd > 2}
    assert ends == {line.number("fd") for line in run.lines("opened") if line["kind"].startswith("pipe")}


def test_the_tree_and_the_views_say_what_leaked(program: Program, traced: Trace_) -> None:
    run = traced(program("fds_leak"))
    holds = run.lines("holds")
    tree, view = shown(run), shown(run, "--view", "descriptors")
    assert f"holds {len(holds)} descriptors beyond 0-2" in tree
    assert "/dev/null" in view
    for line in holds:
        number = line.number("fd")
        assert f"the same open file as {run.root.tid}'s {number}, open there without close-on-exec" in view
    card = bare(*FORKLORE, "show", "--columns", "400", "--view", "task", run.file, holds[0]["pid"]).out
    assert "Descriptors beyond 0-2 that survived its exec" in card
    assert card.count("open there without close-on-exec") == len(holds)


def test_a_reader_that_hangs_is_explained(program: Program, traced: Trace_) -> None:
    run = traced(program("fds_pipe_hang"))
    hang = run.line("hang")
    helper, reader = run.task(hang.number("child")), run.task(hang.number("pid"))
    held_by = [
        (pipe, holder) for pipe in pipes(run.trace) for holder in pipe.writers if holder.task == helper.id
        and holder.fd == hang.number("held_fd")
    ]  # fmt: skip
    ((pipe, holder),) = held_by
    assert holder.executed
    assert (reader.id, hang.number("fd")) in [(other.task, other.fd) for other in pipe.readers]
    assert f"{helper.tid} fds_pipe_hang (by {holder.fd}, ended at" in shown(run, "--view", "descriptors")


def test_a_program_that_leaks_nothing_is_not_blamed(traced: Trace_) -> None:
    run = traced("sh", "-c", "ls / | sort | tail -1", close_fds=True)
    assert "beyond 0-2" not in shown(run)
    assert all(task.descriptors for task in run.trace.tasks.values() if task.images)


def test_what_the_program_was_started_with_is_no_leak(traced: Trace_) -> None:
    kept = os.open("/dev/null", os.O_RDONLY)
    try:
        run = traced("sh", "-c", "ls / >/dev/null; true", pass_fds=(kept,))
    finally:
        os.close(kept)
    assert "beyond 0-2" not in shown(run)
    executed = [task for task in run.created() if task.images]
    assert executed
    for task in executed:
        table = last_table(run, task.tid).table
        assert isinstance(table, list)
        assert kept in [held.fd for held in table]


def test_a_descriptor_that_only_the_child_has(traced: Trace_) -> None:
    run = traced("sh", "-c", "(exec 9</etc/passwd; ls / >/dev/null); true", close_fds=True)
    (child,) = (task for task in run.created() if task.images)
    table = last_table(run, child.tid).table
    assert isinstance(table, list)
    (held,) = (held for held in table if held.fd == 9)
    assert (held.kind, held.target, held.same) == ("file", "/etc/passwd", -errno.EBADF)


def test_without_full_observation_nothing_is_looked_at(traced: Trace_) -> None:
    run = traced("sh", "-c", "ls / >/dev/null; true", options=["--observe=kcmp"])
    assert not any(task.descriptors for task in run.trace.tasks.values())
    assert "No descriptors were looked at" in shown(run, "--view", "descriptors")
