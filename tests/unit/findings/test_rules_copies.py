"""Forks beside threads, raw clones, costly forks and vfork children: what shows each rule, and what is right."""

from __future__ import annotations

from typing import Any

from coded import PTHREAD, SPAWN, Code
from happenings import FORK, MS, Story, number
from judged import found, ids, one

from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.events import records as ev
from forklore.findings.finding import Folded


def forked(*, threads: int = 2, ended: bool = False, after: int | None = None, python: bool = False) -> Story:
    story = Story()
    root = story.begin(100, comm="server")
    workers = [story.clone3(root, 101 + each, PTHREAD, 0, stop="clone") for each in range(threads)]
    if ended:
        for worker in workers:
            story.exit(worker)
    code = Code(story)
    more: dict[str, Any] = {"stack": code.stack("fork", "accept_one@net.c:50", "main@net.c:90")}
    if python:
        more["script"] = code.script(("start", "/srv/app.py", 12))
    child = story.clone(root, 200, **more)
    if after is not None:
        story._t += after
        story.exec(child, "/bin/cat")
    story.exit(child)
    return story


def test_a_fork_beside_threads() -> None:
    wrong = one(forked(), "fork-with-threads")
    assert wrong.severity == "warning"
    assert "was forked by fork while 2 other threads of 100 ran, and ran for 1.0 ms" in wrong.first.text
    assert (wrong.first.site, wrong.first.advice) == ("net.c:50", "")
    python = one(forked(python=True), "fork-with-threads")
    assert python.first.site == "app.py:12"
    assert "spawn or forkserver" in python.first.advice
    late = one(forked(after=700 * MS), "fork-with-threads")
    assert "ran for 701 ms before it executed cat" in late.first.text


def test_forks_that_are_right_beside_threads() -> None:
    assert ids(forked(threads=0)) == set()
    assert ids(forked(ended=True)) == set(), "the other threads have ended"
    assert ids(forked(after=2 * MS)) == set(), "it executes at once"
    story = Story()
    root = story.begin(100)
    story.thread(root, 101)
    story.exit(story.clone(root, 102, CLONE_VM | CLONE_VFORK))
    assert "fork-with-threads" not in ids(story), "nothing is copied"


def joined(after: int, *, before_the_child: bool = True) -> list[Folded]:
    """A thread that ended when a fork was just over."""
    story = Story()
    root = story.begin(100)
    worker = story.thread(root, 101)
    child = story.clone(root, 200)
    story._t += after
    for each in (worker, child) if before_the_child else (child, worker):
        story.exit(each)
        story._t += 1 * MS
    return found(story, "fork-with-threads")


def test_a_thread_that_was_joined_ends_a_little_later() -> None:
    assert joined(5 * MS) == []
    assert joined(200 * MS) != []
    assert joined(5 * MS, before_the_child=False) != [], "perhaps it was told to end when the child had"


def raw(*, chain: tuple[str, ...] = ("syscall",), execs: bool = False, flags: int = 0) -> Story:
    story = Story()
    root = story.begin(100)
    code = Code(story)
    code.module("/usr/lib/x86_64-linux-gnu/libc.so.6")
    of_libc = tuple(f"{name}" for name in chain)
    child = story.clone(root, 101, flags, stack=code.stack(*of_libc, "start@a.c:3", "main@a.c:9"))
    if execs:
        story.exec(child, "/bin/true")
    story.exit(child)
    story.exit(root)
    return story


def test_a_raw_clone_runs_with_its_creators_thread_descriptor() -> None:
    wrong = one(raw(chain=("clone",)), "stale-thread-descriptor")
    assert wrong.first.text.endswith("what the library has for its thread still says 100")
    assert wrong.first.site == "a.c:3"
    assert "stale-thread-descriptor" not in ids(raw(chain=("clone",), execs=True))
    assert "stale-thread-descriptor" not in ids(raw(chain=("fork",), flags=FORK))


def spent(took: int, *, flags: int = FORK, execs: bool = True, peak: int = 4_000_000) -> Story:
    story = Story()
    root = story.begin(100, comm="db")
    child = story.clone(root, 101, flags, took=took)
    if execs:
        story.exec(child, "/bin/gzip")
    story.exit(child)
    story.tell(ev.Exit(t=story.t, task=root, status=0, peak=peak))
    return story


def test_a_fork_that_copies_much_for_an_exec() -> None:
    costly = one(spent(31 * MS), "costly-fork")
    assert costly.severity == "note"
    assert costly.first.text == (
        "fork of 100 db, whose process had up to 3.8 GB resident, took 31 ms for a child that only executes gzip;"
        " what posix_spawn would take is not known, for no call here shares memory"
    )
    beside = spent(31 * MS)
    beside.exit(beside.clone(1, 300, CLONE_VM | CLONE_VFORK))
    assert one(beside, "costly-fork").first.text.endswith("as posix_spawn's, took less than 1 ms here")
    for right in (spent(2 * MS), spent(31 * MS, execs=False), spent(31 * MS, peak=9000), spent(31 * MS, flags=SPAWN)):
        assert found(right, "costly-fork") == []


def borrowing(**record: Any) -> Story:
    story = Story()
    root = story.begin(100, comm="sh")
    code = Code(story)
    made = code.stack("vfork", "run@sh.c:5", "main@sh.c:9")
    child = story.create(root, 101, nr=number("vfork"), args=(0,) * 6, stop="vfork", stack=made)
    if "frames" in record:
        record["stack"] = code.stack(*record.pop("frames"))
    story.exit(child)
    story.tell(ev.Borrowed(t=story.t, task=child, creator=root, **{"threads": 1, **record}))
    story.tell(ev.VforkDone(t=story.t, task=root, child=child, tid=101))
    story.header = ev.Header(
        source=story.header.source, clock=story.header.clock, options={"vfork_writes": True, "stack_depth": 32}
    )
    return story


def written(where: ev.WrittenWhere, new: str = "01", length: int = 1) -> ev.Written:
    return ev.Written(0x1000, length, where, "", "00" * length, new, [])


def test_a_vfork_child_that_writes() -> None:
    wrong = one(borrowing(changes=[written("data")]), "vfork-child-writes")
    assert wrong.first.text == "101 sh, a vfork child, changed 1 place of 100's memory: data"
    assert found(borrowing(changes=[written("data")], threads=3), "vfork-child-writes") == [], "another thread can have"
    loader = ev.Written(0x2000, 1, "data", "/lib64/ld-linux-x86-64.so.2", "5a", "5b", [ev.Variable("_rtld_global")])
    assert found(borrowing(changes=[loader, written("data", "01" * 6, 6)]), "vfork-child-writes") == []
    assert one(borrowing(changes=[loader, written("heap")]), "vfork-child-writes").first.text.endswith("memory: heap")
    pid = written("live stack", "00000000", 4)
    assert found(borrowing(changes=[pid, written("dead stack")]), "vfork-child-writes") == []
    assert found(borrowing(changes=[]), "vfork-child-writes") == []


def test_a_vfork_child_that_exits_or_returns() -> None:
    exits = one(borrowing(frames=("_exit", "exit", "run@sh.c:7", "main@sh.c:9")), "vfork-child-exits")
    assert exits.severity == "error"
    assert "called exit()" in exits.first.text
    returns = one(borrowing(frames=("_exit", "other@sh.c:30", "main@sh.c:9")), "vfork-child-returns")
    assert returns.severity == "error"
    assert "returned from run, which had called vfork" in returns.first.text
    right = borrowing(frames=("_exit", "run@sh.c:5", "main@sh.c:9"))
    assert found(right, "vfork-child-exits") == found(right, "vfork-child-returns") == []


def held(for_: int) -> Story:
    story = Story()
    root = story.begin(100, comm="sh")
    child = story.vfork(root, 101)
    story._t += for_
    story.exec(child, "/bin/true")
    story.tell(ev.VforkDone(t=story.t, task=root, child=child, tid=101))
    return story


def test_a_vfork_child_that_takes_its_time() -> None:
    wrong = one(held(700 * MS), "vfork-child-runs-long")
    assert wrong.first.text == "101 true, a vfork child, kept 100 sh waiting for 702 ms before it executed anything"
    assert found(held(5 * MS), "vfork-child-runs-long") == []


