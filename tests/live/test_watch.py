"""What is measured while tasks are held, against programs that say what is to be seen."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, Program, Trace_, Traced, bare

import forklore
from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.model.pipes import pipes
from forklore.report.words.vfork_memory import lasting


def shown(run: Traced, *options: str) -> str:
    """A view of a trace, in lines wide enough for anything."""
    done = bare(*FORKLORE, "show", "--columns", "400", *options, run.file)
    assert done.status == 0, done.err
    return done.out


def last_table(run: Traced, tid: int) -> ev.Descriptors:
    record = run.task(tid).descriptors[-1]
    assert not isinstance(record.table, Unavailable)
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
    tree, view = shown(run, "-v"), shown(run, "--view", "descriptors")
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


def test_a_pipeline_is_told_by_both_ends(traced: Trace_) -> None:
    run = traced("sh", "-c", "ls / | sort", close_fds=True)
    ls, sort = run.created()
    (pipe,) = (
        pipe for pipe in pipes(run.trace) if (sort.id, 0) in [(each.task, each.fd) for each in pipe.readers]
    )  # fmt: skip
    assert (ls.id, 1) in [(each.task, each.fd) for each in pipe.writers]


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
    assert "No descriptors were recorded" in shown(run, "--view", "descriptors")


# What a vfork child writes

LIVE = {"stack": {"live stack"}, "static": {"data", "bss"}, "heap": {"heap"}, "mapped": {"anonymous"}}
BOUND = {**ENVIRONMENT, "LD_BIND_NOW": "1"}
"""Nothing is bound lazily, so that the dynamic linker writes nothing on a child's behalf."""


def changes(run: Traced, tid: int) -> list[ev.Written]:
    """What a child changed that its creator can notice."""
    (record,) = run.task(tid).borrowed
    assert not isinstance(record.changes, Unavailable), record.changes.why
    assert (record.more, record.remaps, record.left_out, record.threads) == (0, [], [], 1)
    return lasting(record)


@pytest.mark.parametrize("end", ["exit", "exec", "kill"])
def test_a_vfork_childs_writes_are_those_that_the_program_says(program: Program, traced: Trace_, end: str) -> None:
    run = traced(program("vfork_writes"), "vfork", end, options=["--vfork-writes"], env=BOUND)
    places = run.lines("place")
    found = {change.start: change for change in changes(run, places[0].number("child"))}
    assert sorted(found) == sorted(place.number("address") for place in places)
    for place in places:
        change, size = found[place.number("address")], place.number("size")
        assert change.length == size
        assert bytes.fromhex(change.old) == bytes([place.number("old")]) * size
        assert bytes.fromhex(change.new) == bytes([place.number("wrote")]) * size
        assert change.where in LIVE[place["what"]]
    assert f"changed 4 places of {run.root.tid}'s memory: " in shown(run)
    card = bare(*FORKLORE, "show", "--columns", "400", "--view", "task", run.file, places[0]["child"]).out
    for place in places:
        assert place["address"] in card


@pytest.mark.parametrize("end", ["exit", "exec", "kill"])
def test_a_vfork_child_that_writes_nothing(program: Program, traced: Trace_, end: str) -> None:
    run = traced(program("vfork_writes"), "none", end, options=["--vfork-writes"], env=BOUND)
    (child, *_) = run.created()
    assert changes(run, child.tid) == []
    assert f"changed nothing of {run.root.tid}'s memory that stays" in shown(run)


def test_a_fork_child_borrows_nothing(program: Program, traced: Trace_) -> None:
    run = traced(program("vfork_writes"), "fork", "exit", options=["--vfork-writes"])
    assert not any(task.borrowed for task in run.trace.tasks.values())


def test_the_classic_demonstration_has_two_answers(program: Program, traced: Trace_) -> None:
    by_vfork = traced(program("textbook_vfork"), options=["--vfork-writes"], env=BOUND)
    by_fork = traced(program("textbook_fork"), options=["--vfork-writes"], env=BOUND)
    (child,) = by_vfork.created()
    found = {(change.where, change.old, change.new) for change in changes(by_vfork, child.tid)}
    assert found == {("live stack", "05", "0a"), ("data", "07", "0c"), ("heap", "0b", "10")}
    sentence = f"changed 3 places of {by_vfork.root.tid}'s memory"
    assert sentence in shown(by_vfork)
    assert "'s memory" not in shown(by_fork)
    assert "shares mm" in shown(by_vfork, "-v")
    assert "shares mm" not in shown(by_fork)


def test_nothing_is_kept_unless_asked_for(program: Program, traced: Trace_) -> None:
    run = traced(program("textbook_vfork"))
    assert not any(task.borrowed for task in run.trace.tasks.values())


# Copy-on-write


def outcome(run: Traced, tid: int) -> ev.Cow:
    """What became of the pages that a child had in common with its creator."""
    created, last = run.task(tid).cow
    assert (created.moment, created.unknown, created.side) == ("created", None, None)
    assert last.unknown is None, last.unknown
    assert last.common == created.common
    assert last.still + last.parted + last.swapped + last.gone == last.common
    return last


def counted(cow: ev.Cow) -> tuple[int, int]:
    """Pages that the side which ended copied, and the other."""
    assert isinstance(cow.copied, int)
    return cow.copied, cow.parted - cow.copied


def without_randomness(program: Path) -> list[str | Path]:
    """So that two runs differ in nothing but what they were told: the stack lies on the same pages."""
    if shutil.which("setarch") is None:
        pytest.skip("setarch (util-linux) is not installed")
    return ["setarch", "-R", program]


@pytest.mark.parametrize("end", ["exit", "exec"])
@pytest.mark.parametrize(("by_child", "by_parent"), [(23, 7), (101, 0), (0, 53)])
def test_pages_are_counted_for_the_side_that_wrote_them(
    program: Program, traced: Trace_, end: str, by_child: int, by_parent: int
) -> None:
    command = without_randomness(program("cow_pages"))
    runs = {}
    for words in ((0, 0), (by_child, by_parent)):
        run = traced(*command, "101", *map(str, words), end, options=["--cow"])
        line = run.line("cow")
        assert (line.number("child_wrote"), line.number("parent_wrote")) == words
        cow = runs[words] = outcome(run, line.number("child"))
        assert (cow.moment, cow.side, cow.page_size) == (end, run.task(line.number("child")).id, line.number("page"))
        assert cow.common >= 101
        text = f"{'copied' if cow.told_by == 'frames' else 'changed'} {cow.copied} of "
        assert text in shown(run)
    # Stack and data are copied in either run, some of it by whoever is first to write to a page that both write to.
    none, some = runs[0, 0], runs[by_child, by_parent]
    assert none.common == some.common
    assert none.still - some.still == by_child + by_parent
    assert none.parted < 23
    child, parent = counted(some)
    assert by_child <= child <= by_child + none.parted
    assert by_parent <= parent <= by_parent + none.parted


def test_a_user_who_sees_no_frames_is_told_by_contents(program: Program, tmp_path: Path) -> None:
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed: it takes CAP_SYS_ADMIN from root here")
    drop = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"] if os.geteuid() == 0 else []
    command = without_randomness(program("cow_pages"))
    found = []
    for by_child in ("0", "23"):
        file = tmp_path / f"{by_child}.jsonl"
        done = bare(*drop, *FORKLORE, "run", "-q", "--cow", "-o", file, "--", *command, "101", by_child)
        assert done.status == 0, done.err
        run = Traced(done.status, done.out, done.err, file, forklore.load(file))
        cow = outcome(run, run.line("cow").number("child"))
        assert cow.told_by == "contents"
        assert isinstance(cow.copied, int)
        assert int(by_child) <= cow.copied <= cow.parted
        found.append(cow)
    none, some = found
    assert none.still - some.still == 23
    assert none.parted < 23


def test_a_killed_child_is_still_measured(program: Program, traced: Trace_) -> None:
    run = traced(program("vfork_writes"), "fork", "kill", options=["--cow"])
    (child, *_) = run.created()
    cow = outcome(run, child.tid)
    assert (cow.moment, cow.side) == ("exit", child.id)
    assert cow.parted >= 4, "stack, data, heap and a mapped page"


def test_a_creator_that_ends_first_is_the_side_that_is_measured(program: Program, traced: Trace_) -> None:
    run = traced(program("setsid_daemon"), options=["--cow"])
    orphans = [task for task in run.created() if task.reapers and task.cow]
    assert orphans
    for task in orphans:
        last = task.cow[-1]
        assert (last.moment, last.unknown) == ("exit", None)
        assert last.side == task.creator


def test_a_failed_exec_takes_no_memory_away(program: Program, traced: Trace_) -> None:
    run = traced(program("path_search"), options=["--cow"])
    for task in run.created():
        if task.cow:
            assert [record.moment for record in task.cow] == ["created", "exec" if task.images else "exit"]


def test_threads_and_vfork_children_have_no_pages_of_their_own(program: Program, traced: Trace_) -> None:
    for name in ("textbook_thread", "textbook_vfork"):
        run = traced(program(name), options=["--cow"])
        assert not any(task.cow for task in run.trace.tasks.values())


def test_a_process_with_threads_loses_its_memory_with_the_last(program: Program, traced: Trace_) -> None:
    for name in ("leader_exits_first", "threads_exit_group", "thread_vfork", "exec_nonleader"):
        words = ["leader-gone"] if name == "exec_nonleader" else []
        run = traced(program(name), *words, options=["--cow"])
        for task in run.created():
            if task.cow:
                assert len(task.cow) == 2


def test_with_events_alone_an_exec_comes_too_late(traced: Trace_) -> None:
    run = traced("sh", "-c", "(exec /bin/true); true", options=["--cow", "--stops=events"])
    (child,) = (task for task in run.created() if task.images)
    last = child.cow[-1]
    assert last.moment == "exec"
    assert last.unknown is not None
    assert "--stops seccomp or syscalls" in re.sub(r"\s+", " ", shown(run, "-v"))
