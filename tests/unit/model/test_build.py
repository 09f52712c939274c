"""What the model makes of each kind of event."""

from __future__ import annotations

from typing import get_args

import pytest
from happenings import FORK, MS, THREAD, Story, number, task

from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_FILES, CLONE_PARENT, CLONE_UNTRACED, CLONE_VFORK, CLONE_VM
from forklore.abi.units import Unavailable
from forklore.decode.calls import Unshare
from forklore.events import records as ev
from forklore.model.build import Builder, kernel_version

ENOENT, EACCES, EINVAL, ENOEXEC, EAGAIN = 2, 13, 22, 8, 11


def test_every_kind_of_event_is_taken() -> None:
    builder = Builder(Story().header)
    assert set(builder._feed) == set(get_args(ev.AnyEvent))


def test_a_fork_an_exec_and_two_ends() -> None:
    story = Story()
    root = story.begin(100, comm="sh", parent_tid=99)
    child = story.clone(root, 101)
    story.exec(child, "/bin/ls", argv=["ls", "-l"], exe="/usr/bin/ls", comm="ls", began=2 * MS)
    story.exit(child, 3)
    story.exit(root)
    trace = story.end().trace()
    made = task(trace, child)
    assert [t.id for t in trace.roots] == [root]
    assert (made.tid, made.tgid, made.kind, made.creator, made.parent, made.leader) == (
        101, 101, "process", root, root, child,
    )  # fmt: skip
    assert made.creation is not None
    assert (made.creation.call, made.creation.flags.raw, made.creation.exit_signal) == ("clone", FORK, 17)
    assert (made.created, made.ended, made.lifetime, made.exec_after) == (1 * MS, 3 * MS, 2 * MS, 1 * MS)
    (image,) = made.images
    assert (image.path, image.argv, image.exe, image.comm) == (b"/bin/ls", (b"ls", b"-l"), b"/usr/bin/ls", b"ls")
    assert (image.t, image.began, image.former_tid) == (2 * MS, 2 * MS, None)
    assert made.death is not None
    assert (made.death.code, made.death.signal) == (3, None)
    assert (made.name, made.comm, task(trace, root).name) == (b"ls", b"ls", b"sh")
    assert (trace.ended, trace.end_reason) == (5 * MS, "done")


def test_names() -> None:
    story = Story()
    root = story.begin(100, comm="make")
    child = story.clone(root, 101)
    grandchild = story.clone(child, 102)
    story.exec(child, "/usr/lib/cc1", comm="cc1")
    story.exec(grandchild, Unavailable(14, "unmapped"), exe=ev.Opaque("ff2f"), comm=None)
    assert [task(story.trace(), n).name for n in (root, child, grandchild)] == [b"make", b"cc1", b"\xff"]
    story.exec(child, Unavailable(0, "not recorded"), exe=Unavailable(13, "secret"), comm="sh")
    assert task(story.trace(), child).name == b"sh"
    other = story.begin(200, how="adopted")
    assert task(story.trace(), other).name is None


def test_a_thread() -> None:
    story = Story()
    root = story.begin(100, parent_tid=99)
    leader = story.clone(root, 101)
    thread = story.thread(leader, 102)
    of_thread = story.clone(thread, 103)
    trace = story.trace()
    made = task(trace, thread)
    assert (made.kind, made.tgid, made.leader, made.creator, made.parent) == ("thread", 101, leader, leader, root)
    # The group waits, not the thread that called.
    assert (task(trace, of_thread).creator, task(trace, of_thread).parent) == (thread, leader)
    assert task(trace, leader).children == [thread]
    assert task(trace, thread).children == [of_thread]


def test_clone_parent() -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101)
    sibling = story.clone(child, 102, FORK | CLONE_PARENT)
    of_thread = story.clone(story.thread(child, 103), 104, FORK | CLONE_PARENT)
    outside = story.clone(root, 105, FORK | CLONE_PARENT)
    trace = story.trace()
    assert (task(trace, sibling).creator, task(trace, sibling).parent) == (child, root)
    assert task(trace, of_thread).parent == root
    assert task(trace, outside).parent is None
    assert task(trace, root).children == [child, outside]


def test_flags_that_are_not_known() -> None:
    story = Story()
    root = story.begin(100)
    no_struct = story.create(root, 101, nr=number("clone3"), args=(4096, 88), struct=Unavailable(14, "unmapped"))
    no_call = story.create(root, 102, nr=None, stop="clone")
    below = story.clone(no_call, 103)
    trace = story.trace()
    for made in (task(trace, no_struct), task(trace, no_call)):
        assert (made.kind, made.tgid, made.leader, made.parent) == ("task", None, made.id, None)
        assert made.creation is not None
        assert made.creation.problems
    # Of a thread's child another is the parent, and whether this is one is not known.
    assert task(trace, below).parent is None


def test_pids_are_used_again() -> None:
    story = Story()
    root = story.begin(100)
    first = story.clone(root, 101)
    story.exec(first, "/bin/one")
    story.exit(first, 1)
    second = story.clone(root, 101)
    thread = story.thread(second, 102)
    story.exit(second, 2)
    trace = story.trace()
    assert first != second
    assert [task(trace, n).tid for n in (first, second)] == [101, 101]
    assert [image.path for image in task(trace, first).images] == [b"/bin/one"]
    assert not task(trace, second).images
    codes = [death.code for n in (first, second) if (death := task(trace, n).death) is not None]
    assert codes == [1, 2]
    assert task(trace, thread).leader == second


def test_an_adopted_thread_finds_its_leader() -> None:
    story = Story()
    root = story.begin(100)
    old = story.clone(root, 101)
    story.exit(old)
    leader = story.clone(root, 101)
    thread = story.begin(102, tgid=101, how="adopted", comm="worker")
    lost = story.begin(104, tgid=103, how="adopted")
    trace = story.trace()
    assert (task(trace, thread).kind, task(trace, thread).leader) == ("thread", leader)
    assert (task(trace, lost).kind, task(trace, lost).leader) == ("thread", None)
    assert [t.id for t in trace.roots] == [root, thread, lost]


def taken_over() -> tuple[Story, int, int, int, int]:
    story = Story()
    root = story.begin(100)
    leader = story.clone(root, 101)
    thread, other = story.thread(leader, 102), story.thread(leader, 103)
    story.exit(other)
    story.gone(leader, "superseded")
    story.exec(thread, "/bin/new", former_tid=102)
    return story, root, leader, thread, other


def test_a_thread_that_is_not_the_leader_executes() -> None:
    story, root, leader, thread, other = taken_over()
    later = story.clone(thread, 104)
    story.exit(thread, 5)
    trace = story.end().trace()
    old, new = task(trace, leader), task(trace, thread)
    assert (old.heir, old.gone, old.death, old.lifetime) == (thread, "superseded", None, None)
    assert (new.tid, new.tgid, new.leader, new.parent, new.creator) == (101, 101, thread, root, leader)
    assert new.images[0].former_tid == 102
    assert (new.death and new.death.code, new.kind) == (5, "thread")
    assert task(trace, later).parent == thread
    assert task(trace, other).heir is None
    assert old.children == [thread, other]


def test_a_thread_of_the_new_image_has_it_as_leader() -> None:
    story, _root, _leader, thread, _other = taken_over()
    second = story.thread(thread, 105)
    trace = story.trace()
    assert (task(trace, second).leader, task(trace, second).tgid) == (thread, 101)
    story.gone(thread, "superseded")
    story.exec(second, "/bin/newer", former_tid=105)
    trace = story.trace()
    assert task(trace, thread).heir == second
    assert task(trace, second).tid == 101


def test_a_log_that_does_not_know_that_it_was_a_thread() -> None:
    # ltrace tells nothing of clone3's flags: that the caller took over another's tid proves that it was its thread.
    story = Story()
    root = story.begin(100)
    leader = story.clone(root, 101)
    unknown = story.create(leader, 102, nr=number("clone3"), args=(None, None))
    story.gone(leader, "superseded")
    story.exec(unknown, "/bin/new", former_tid=102)
    trace = story.trace()
    assert task(trace, leader).heir == unknown
    made = task(trace, unknown)
    assert (made.tid, made.tgid, made.kind, made.parent, made.leader) == (101, 101, "thread", root, unknown)


def test_a_search_through_path_is_one_failure() -> None:
    story = Story()
    root = story.begin(100)
    for errno, path in ((ENOENT, "/a/ls"), (EACCES, "/b/ls"), (ENOENT, "/c/ls")):
        story.exec_fail(root, path, errno)
    story.exec_fail(root, "/a/other", ENOENT)
    story.exec_fail(root, "/a/last", ENOEXEC)
    story.exec_fail(root, "/b/last", ENOENT)
    story.exec_fail(root, Unavailable(14, "unmapped"), 14)
    story.exec_fail(root, Unavailable(14, "unmapped"), 14)
    failed = task(story.trace(), root).failed_execs
    assert [(f.t, f.paths, f.errnos) for f in failed[:4]] == [
        (1 * MS, [b"/a/ls", b"/b/ls", b"/c/ls"], [ENOENT, EACCES, ENOENT]),
        (4 * MS, [b"/a/other"], [ENOENT]),
        (5 * MS, [b"/a/last"], [ENOEXEC]),  # a search ends at an error like this
        (6 * MS, [b"/b/last"], [ENOENT]),
    ]
    assert [f.paths for f in failed[4:]] == [[Unavailable(14, "unmapped")]] * 2


def test_how_long_a_vfork_held_its_creator() -> None:
    story = Story()
    root = story.begin(100)
    child = story.vfork(root, 101)
    story.exec(child, "/bin/true")
    story.tell(ev.VforkDone(t=story.t, task=root, child=child, tid=101))
    never = story.clone3(root, 102, CLONE_VM | CLONE_VFORK)
    trace = story.trace()
    assert task(trace, child).held == 2 * MS
    assert task(trace, never).held is None


def test_the_end_of_a_vfork_whose_child_was_not_seen() -> None:
    story = Story()
    root = story.begin(100)
    story.tell(ev.VforkDone(t=story.t, task=root, child=None, tid=101))
    ((what, why),) = story.trace().notes
    assert "101" in what
    assert why


def test_failures_have_reasons() -> None:
    story = Story()
    root = story.begin(100)
    story.fail(root, EINVAL, struct=None, limits={})
    story.fail(root, EAGAIN, 0, limits={"uid": 1000, "cap_eff": 0, "rlimit_nproc": 5, "user_tasks": 5})
    trace = story.trace()
    assert trace.failures == task(trace, root).failures
    first, second = trace.failures
    assert (first.t, first.errno, first.reasons[0].rule, first.reasons[0].certain) == (
        1 * MS, EINVAL, "sighand-without-vm", True,
    )  # fmt: skip
    assert second.limits["rlimit_nproc"] == 5
    assert second.reasons[0].certain
    assert "5" in second.reasons[0].text
    assert list(trace.tasks) == [root]


def test_calls_that_change_what_is_shared() -> None:
    story = Story()
    root = story.begin(100)
    story.call(root, "unshare", CLONE_FILES)
    story.call(root, "unshare", 1, result=-EINVAL)
    story.call(root, "setns", 3, 0, target="net:[4026531840]")
    story.call(root, "setsid", result=None)
    made = task(story.trace(), root).calls
    assert [(call.t, call.result, call.target) for call in made] == [
        (1 * MS, 0, None), (2 * MS, -EINVAL, None), (3 * MS, 0, "net:[4026531840]"), (4 * MS, None, None),
    ]  # fmt: skip
    assert isinstance(made[0].call, Unshare)
    assert [bool(call.reasons) for call in made] == [False, True, False, False]


def test_the_signal_that_ended_a_task_and_its_origin() -> None:
    story = Story()
    root = story.begin(100)
    first, second, third = (story.clone(root, tid) for tid in (101, 102, 103))
    story.tell(ev.Signal(t=story.t, task=first, signal=15, code=0, sender=100))
    story.tell(ev.Signal(t=story.t, task=second, signal=11, code=1, address=8))
    story.killed(second, 11 | 0x80)
    story.killed(first, 15)
    story.killed(third, 9)
    trace = story.trace()
    deaths = [task(trace, n).death for n in (first, second, third)]
    assert [(d.signal, d.core, d.sender, d.address) for d in deaths if d is not None] == [
        (15, False, 100, None), (11, True, None, 8), (9, False, None, None),
    ]  # fmt: skip


def test_an_end_of_which_nothing_is_told() -> None:
    story = Story()
    root = story.begin(100)
    story.tell(ev.Exit(t=story.t, task=root, status=None))
    death = task(story.trace(), root).death
    assert death is not None
    assert (death.code, death.signal) == (None, None)


def test_stops_and_reapers() -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101)
    story.tell(ev.Resume(t=story.t, task=child))  # of a stop before the trace
    story.tell(ev.GroupStop(t=story.t, task=child, signal=20))
    story.tell(ev.Resume(t=story.t, task=child))
    story.tell(ev.GroupStop(t=story.t, task=child, signal=19))
    story.tell(ev.Reparent(t=story.t, task=child, parent_tid=100, parent=root))
    story.tell(ev.Reparent(t=story.t, task=child, parent_tid=1))
    made = task(story.trace(), child)
    assert [(s.t, s.signal, s.resumed) for s in made.stops] == [(3 * MS, 20, 4 * MS), (5 * MS, 19, None)]
    assert [(r.t, r.tid, r.task) for r in made.reapers] == [(6 * MS, 100, root), (7 * MS, 1, None)]
    assert made.parent == root


def test_tasks_that_are_seen_no_more() -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101, FORK | CLONE_UNTRACED, traced=False, stop=None)
    story.gone(root, "released")
    trace = story.trace()
    assert (task(trace, root).gone, task(trace, root).ended, task(trace, root).lifetime) == ("released", 2 * MS, None)
    assert not task(trace, child).traced


def test_namespaces_and_what_the_tracer_did() -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101, ns_tids=[101, 1], untraced_cleared=True, stop="clone")
    story.tell(ev.Note(t=story.t, what="it", why="so", task=root))
    trace = story.trace()
    made = task(trace, child)
    assert (made.ns_tids, made.untraced_cleared, made.stop) == ((101, 1), True, "clone")
    assert trace.notes == [("it", "so")]


def test_a_trace_that_was_cut_off() -> None:
    story = Story()
    root = story.begin(100)
    story.clone(root, 101)
    trace = story.trace()
    assert (trace.end_reason, trace.ended) == (None, None)
    story.exit(root)
    assert story.trace().ended == 2 * MS


def test_a_log_without_times() -> None:
    story = Story(times=False)
    root = story.begin(100)
    child = story.vfork(root, 101)
    story.exec(child, "/bin/true")
    story.tell(ev.VforkDone(t=None, task=root, child=child, tid=101))
    story.fail(root, EINVAL)
    story.exit(child)
    trace = story.end("log").trace()
    made = task(trace, child)
    assert (made.created, made.ended, made.lifetime, made.exec_after, made.held) == (None,) * 5
    assert (trace.ended, trace.end_reason) == (None, "log")


def test_more_arguments_than_were_recorded() -> None:
    story = Story()
    root = story.begin(100)
    story.exec(root, "/bin/x", argv=["x"], argc=5000)
    story.exec(root, "/bin/x", argv=Unavailable(0, "not recorded"))
    first, second = task(story.trace(), root).images
    assert (first.argv, first.argc) == ((b"x",), 5000)
    assert second.argv == Unavailable(0, "not recorded")


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc", (6, 18)),
        ("5.4", (5, 4)),
        ("10.0-rc1", (10, 0)),
        ("6", None),
        ("v6.1", None),
        ("", None),
        (None, None),
        ("99999999999.1", None),
    ],
)
def test_kernel_versions(release: str | None, version: tuple[int, int] | None) -> None:
    assert kernel_version(release) == version


def test_the_kernel_of_the_header_decides_which_rules_hold() -> None:
    def rules(kernel: str) -> set[str]:
        story = Story(kernel=kernel)
        story.fail(story.begin(100), EINVAL, THREAD | CLONE_PARENT)
        return {reason.rule for reason in story.trace().failures[0].reasons if reason.certain}

    story = Story(arch=Arch.X86_64)
    assert story.trace().tasks == {}
    assert rules("6.18") == rules("6.18.9-x")
