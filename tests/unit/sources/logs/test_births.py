"""Who made whom where the log's pids do not say: pid namespaces, and logs in which a task shows before its creation."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from log_events import only, read, tree

from forklore.events.records import Begin, Create, Event, Exit, Gone, Note, VforkDone

EXEC = '10 execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0\n'
FORK = "clone(child_stack=NULL, flags=SIGCHLD"
INTO = EXEC + "10 clone(child_stack=NULL, flags=CLONE_NEWPID|SIGCHLD) = 11\n"
NO_MORE = "11 +++ exited with 10 +++\n10 +++ exited with 0 +++\n"


def made(events: list[Event]) -> dict[int, tuple[int, list[int] | None]]:
    """By tid: its creator's tid, and its tids in namespaces."""
    tids = {e.child: e.tid for e in only(events, Create)} | {e.task: e.tid for e in only(events, Begin)}
    return {e.tid: (tids[e.task], e.ns_tids) for e in only(events, Create)}


def statuses(events: list[Event]) -> dict[int, int | None]:
    tids = {e.child: e.tid for e in only(events, Create)} | {e.task: e.tid for e in only(events, Begin)}
    return {tids[e.task]: None if e.status is None else e.status >> 8 for e in only(events, Exit)}


def test_calls_in_a_row_made_pids_in_a_row(tmp_path: Path) -> None:
    """12 shows while the second call runs: it is the first call's all the same, for that had returned by then."""
    events, warnings = read(
        tmp_path / "log",
        f"{INTO}11 {FORK}) = 2\n11 {FORK} <unfinished ...>\n12 exit_group(20) = ?\n11 <... clone resumed>) = 3\n"
        f"12 +++ exited with 20 +++\n13 exit_group(21) = ?\n13 +++ exited with 21 +++\n{NO_MORE}",
    )
    assert made(events) == {11: (10, [11, 1]), 12: (11, [12, 2]), 13: (11, [13, 3])}
    assert statuses(events) == {10: 0, 11: 10, 12: 20, 13: 21}
    assert warnings == []


def test_a_child_that_shows_late_is_not_the_next_call_s(tmp_path: Path) -> None:
    """As strace had it with -e trace=process: no unshare, and who was made first shows last."""
    events, warnings = read(
        tmp_path / "log",
        f"{EXEC}10 {FORK}) = 22\n10 wait4(-1,  <unfinished ...>\n22 {FORK}) = 2\n22 {FORK}) = 3\n"
        "22 wait4(-1,  <unfinished ...>\n24 exit_group(21) = ?\n24 +++ exited with 21 +++\n"
        "22 <... wait4 resumed>NULL, 0, NULL) = 3\n"
        "22 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=3, si_uid=0, si_status=21, si_utime=0} ---\n"
        "22 wait4(-1,  <unfinished ...>\n23 exit_group(20) = ?\n23 +++ exited with 20 +++\n"
        "22 <... wait4 resumed>NULL, 0, NULL) = 2\n22 exit_group(10) = ?\n22 +++ exited with 10 +++\n"
        "10 <... wait4 resumed>NULL, 0, NULL) = 22\n10 +++ exited with 0 +++\n",
    )
    assert made(events) == {22: (10, None), 23: (22, [23, 2]), 24: (22, [24, 3])}
    assert warnings == []


def test_a_number_that_is_the_same_outside_is_no_pid_inside(tmp_path: Path) -> None:
    """13 is in a pid namespace, and its child never shows: then 10 may be in one as well, for all that is known."""
    events, warnings = read(tmp_path / "log", f"13 vfork() = 5\n10 {FORK}) = 28\n28 gettid() = 28\n")
    assert made(events)[28] == (10, None)
    assert warnings == []


SIGCHLD = "--- SIGCHLD {si_signo=SIGCHLD, si_code=%s, si_pid=%d, si_uid=0, si_status=%s} ---"


@pytest.mark.parametrize(
    "evidence",
    [
        "11 wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 20}], 0, NULL) = 3",
        "11 wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 21}], 0, NULL) = 4",
        "11 waitid(P_PID, 3, {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=3, si_status=20}, WEXITED, NULL) = 0",
        "11 " + SIGCHLD % ("CLD_EXITED", 3, "20"),
        "14 " + SIGCHLD % ("CLD_EXITED", 4, "21"),
    ],
)
def test_who_is_waited_for_ended_with_that_status(evidence: str, tmp_path: Path) -> None:
    """Two threads fork at the same time; the order of their pids says nothing."""
    thread = "clone(child_stack=0x1, flags=CLONE_VM|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD"
    events, _ = read(
        tmp_path / "log",
        f"{INTO}11 {thread}) = 2\n14 {FORK} <unfinished ...>\n11 {FORK} <unfinished ...>\n15 exit_group(20) = ?\n"
        "16 exit_group(21) = ?\n15 +++ exited with 20 +++\n16 +++ exited with 21 +++\n11 <... clone resumed>) = 3\n"
        f"14 <... clone resumed>) = 4\n{evidence}\n{NO_MORE}",
    )
    assert made(events)[15] == (11, [15, 3])
    assert made(events)[16] == (14, [16, 4])
    assert only(events, Note) == []


@pytest.mark.parametrize("says", ["set_tid_address(0x7f) = 4", "gettid() = 4", "setsid() = 4"])
def test_a_task_that_names_itself(says: str, tmp_path: Path) -> None:
    events, _ = read(
        tmp_path / "log",
        f"{INTO}11 {FORK}) = 2\n12 {FORK} <unfinished ...>\n11 {FORK} <unfinished ...>\n15 {says}\n"
        f"16 exit_group(1) = ?\n11 <... clone resumed>) = 3\n12 <... clone resumed>) = 4\n{NO_MORE}",
    )
    assert made(events)[15] == (12, [15, 4])
    assert made(events)[16] == (11, [16, 3])


def test_what_nothing_decides_is_said_to_be_unknown(tmp_path: Path) -> None:
    """Of two calls at the same time by two tasks nobody can tell; of one task's, the creator at least is known."""
    thread = "clone(child_stack=0x1, flags=CLONE_VM|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD"
    events, _ = read(
        tmp_path / "log",
        f"{INTO}11 {thread}) = 2\n12 {FORK} <unfinished ...>\n11 {FORK} <unfinished ...>\n15 exit_group(1) = ?\n"
        f"16 exit_group(1) = ?\n11 <... clone resumed>) = 3\n12 <... clone resumed>) = 4\n{NO_MORE}",
    )
    assert {e.tid for e in only(events, Begin)} == {10, 15, 16}
    assert [e.what for e in only(events, Note)] == ["creator", "creator"]


@pytest.mark.parametrize(("second", "what"), [(FORK, "pid inside"), ("vfork(", "call, and pid inside")])
def test_of_one_task_s_calls_the_creator_is_known(second: str, what: str, tmp_path: Path) -> None:
    """One child of two shows: it can be either's."""
    events, _ = read(tmp_path / "log", f"{INTO}11 {FORK}) = 2\n11 {second}) = 3\n15 exit_group(1) = ?\n{NO_MORE}")
    assert made(events)[15] == (11, None)
    notes = only(events, Note)
    assert [e.what.partition(" its ")[0] for e in notes] == [what, "tid"]
    (never_shown,) = [e for e in only(events, Create) if e.child == notes[1].task]
    assert (never_shown.task, never_shown.tid, never_shown.ns_tids) == (2, 0, None)


def test_where_no_line_tells_of_ends_a_wait_tells_of_none(tmp_path: Path) -> None:
    """strace -qqq: that 15 and 16 are not said to have ended does not keep them from being waited for."""
    thread = "clone(child_stack=0x1, flags=CLONE_VM|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD"
    events, _ = read(
        tmp_path / "log",
        f"{INTO}11 {thread}) = 2\n12 {FORK} <unfinished ...>\n11 {FORK} <unfinished ...>\n15 exit_group(1) = ?\n"
        f"16 exit_group(2) = ?\n11 <... clone resumed>) = 3\n12 <... clone resumed>) = 4\n"
        f"11 {SIGCHLD % ('CLD_EXITED', 3, '2')}\n11 exit_group(0) = ?\n10 exit_group(0) = ?\n",
    )
    assert made(events)[16] == (11, [16, 3])
    assert made(events)[15] == (12, [15, 4])


def test_a_vfork_child_shows_before_its_creator_goes_on(tmp_path: Path) -> None:
    """Of two threads that vfork at once, the first to go on has the only child that had shown by then."""
    thread = "clone(child_stack=0x1, flags=CLONE_VM|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD"
    run = 'execve("/b", ["b"], 0x1 /* 1 var */) = 0'
    events, _ = read(
        tmp_path / "log",
        f"{INTO}11 {thread}) = 2\n12 vfork( <unfinished ...>\n11 vfork( <unfinished ...>\n15 {run}\n"
        f"11 <... vfork resumed>) = 3\n16 {run}\n12 <... vfork resumed>) = 4\n12 setsid() = -1 EPERM (no)\n{NO_MORE}",
    )
    assert (made(events)[15], made(events)[16]) == ((11, [15, 3]), (12, [16, 4]))


def test_a_lower_pid_that_is_the_log_s_own(tmp_path: Path) -> None:
    """Pids begin anew at their limit."""
    start = '32000 execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0\n'
    shown = f"{start}32000 {FORK}) = 350\n350 exit_group(1) = ?\n350 +++ exited with 1 +++\n"
    events, warnings = read(tmp_path / "log", f"{shown}32000 {FORK}) = 351\n32000 +++ exited with 0 +++\n")
    assert made(events) == {350: (32000, None), 351: (32000, None)}
    assert [type(e) for e in events[2:4]] == [Create, Exit]
    assert [(e.task, e.why) for e in only(events, Gone)] == [(3, "ended")]
    assert warnings == []


def test_a_pid_of_another_namespace_is_nobody_s_of_the_log(tmp_path: Path) -> None:
    """The inner pid 10 is not the task 10, which lives on."""
    events, _ = read(
        tmp_path / "log",
        f"{EXEC}10 {FORK}) = 11\n11 {FORK}) = 10\n12 setsid() = 10\n10 setsid() = -1 EPERM (no)\n{NO_MORE}",
    )
    assert made(events) == {11: (10, None), 12: (11, [12, 10])}
    assert only(events, Gone)[0].task == 3


def test_a_vfork_inside_ends_where_it_returned(tmp_path: Path) -> None:
    events, _ = read(
        tmp_path / "log",
        f"{INTO}11 vfork( <unfinished ...>\n12 exit_group(1) = ?\n11 <... vfork resumed>) = 2\n{NO_MORE}",
    )
    (done,) = only(events, VforkDone)
    assert (done.child, done.tid) == (3, 12)
    assert made(events)[12] == (11, [12, 2])


def test_more_calls_than_are_kept_tell_nothing_of_each_other(tmp_path: Path) -> None:
    """And reading them takes time in proportion to their number."""
    calls = "".join(f"11 {FORK}) = {number}\n" for number in range(2, 3000))
    shown = "".join(f"{number} exit_group(1) = ?\n" for number in range(20_000, 21_000))
    start = INTO + "10 setsid() = -1 EPERM (no)\n"
    events, warnings = read(tmp_path / "log", start + calls + shown + f"30000 gettid() = 2999\n{NO_MORE}")
    assert any("too many at once to tell whose they are" in text for text in warnings)
    assert all(inside is None for tid, (_creator, inside) in made(events).items() if tid >= 20_000)
    assert len(only(events, Exit)) == 1002


# strace -z: only calls that succeeded, each on one line when it has returned


def test_a_child_that_shows_before_its_creation_is_written(tmp_path: Path) -> None:
    events, warnings = read(
        tmp_path / "log",
        EXEC
        + '11 rt_sigprocmask(SIG_BLOCK, NULL, [], 8) = 0\n11 execve("/b", ["b"], 0x1 /* 1 var */) = 0\n'
        "10 vfork() = 11\n11 +++ exited with 1 +++\n10 +++ exited with 0 +++\n",
    )
    assert tree(events) == {1: None, 2: 1}
    assert warnings == []
    assert [type(e) for e in events][2] is Create


def test_one_that_has_ended_and_made_others_before_it_is_written(tmp_path: Path) -> None:
    events, warnings = read(
        tmp_path / "log",
        EXEC + f"12 setsid() = 12\n11 {FORK}) = 12\n12 +++ exited with 2 +++\n11 +++ exited with 1 +++\n"
        f"10 {FORK}) = 11\n10 {FORK}) = 11\n10 +++ exited with 0 +++\n",
    )
    assert made(events) == {11: (10, None), 12: (11, None)}
    assert len(only(events, Create)) == 3
    assert warnings == []


@pytest.mark.parametrize("again", ["", f"12 {FORK}) = 13\n"], ids=["once", "in a circle"])
def test_all_who_made_a_task_s_creators_come_before_it(again: str, tmp_path: Path) -> None:
    """13 shows before 11, which it made, and after 12, which 11 made. That 12 made 13 is told of another 13."""
    shown = "".join(f"{tid} brk(NULL) = 0x5\n" for tid in (12, 13))
    events, _ = read(tmp_path / "log", f"{EXEC}{shown}11 {FORK}) = 12\n13 {FORK}) = 11\n10 {FORK}) = 13\n{again}")
    assert [(e.task, e.child) for e in only(events, Create)][:3] == [(1, 3), (3, 4), (4, 2)]
    assert {tid: made(events)[tid] for tid in (11, 12)} == {11: (13, None), 12: (11, None)}


def test_inside_a_namespace_the_first_pid_is_the_first_call_s_there_too(tmp_path: Path) -> None:
    events, _ = read(
        tmp_path / "log",
        f"{INTO}12 setsid() = 2\n11 {FORK}) = 2\n13 close(3) = 0\n11 {FORK}) = 3\n13 +++ exited with 1 +++\n{NO_MORE}",
    )
    assert made(events) == {11: (10, [11, 1]), 12: (11, [12, 2]), 13: (11, [13, 3])}


@pytest.mark.parametrize(
    "lines",
    [
        ["12 setsid() = 12", f"11 {FORK}) = 12", f"12 {FORK}) = 11"],
        [f"12 {FORK}) = 13", f"13 {FORK}) = 14", f"14 {FORK}) = 12"],
        [f"1111 {FORK}) = 2", f"11 {FORK}) = 2"],
    ],
)
def test_nobody_is_made_by_whom_it_made(lines: list[str], tmp_path: Path) -> None:
    events, _ = read(tmp_path / "log", EXEC + "\n".join(lines) + "\n10 +++ exited with 0 +++\n")
    above = tree(events)
    for task in above:
        seen = set()
        while (made := above[task]) is not None:
            assert made not in seen
            seen.add(made)
            task = made


def test_a_task_that_nobody_made_stands_alone_at_the_end(tmp_path: Path) -> None:
    events, warnings = read(tmp_path / "log", EXEC + "12 setsid() = 12\n10 +++ exited with 0 +++\n")
    assert tree(events) == {1: None, 2: None}
    assert warnings == [f"{tmp_path / 'log'}:2: a task whose creation the log does not show"]


@given(st.permutations(range(4)), st.lists(st.booleans(), min_size=4, max_size=4), st.booleans())
def test_whatever_shows_when_nobody_has_another_s_pid(
    tmp_path_factory: pytest.TempPathFactory, shows: list[int], whole: list[bool], waits: bool
) -> None:
    """Four calls in a row; their children show in any order, as early as they can."""
    lines = [INTO.rstrip()]
    numbers = itertools.count()
    pending = list(shows)

    def show(upto: int) -> None:
        while pending and pending[0] <= upto:
            child = pending.pop(0)
            lines.extend((f"{12 + child} exit_group({child}) = ?", f"{12 + child} +++ exited with {child} +++"))
            if waits and child < upto:
                lines.append("11 " + SIGCHLD % ("CLD_EXITED", 2 + child, child))

    for number, once in zip(numbers, whole, strict=False):
        if not once:
            lines.append(f"11 {FORK} <unfinished ...>")
            show(number)
        lines.append(f"11 {'<... clone resumed>' if not once else FORK}) = {2 + number}")
        show(number)
    show(4)
    events, _ = read(tmp_path_factory.mktemp("log") / "log", "\n".join([*lines, NO_MORE]))
    for tid, (creator, inner) in made(events).items():
        if tid > 11:
            assert creator == 11
            assert inner == [tid, tid - 10]


def test_a_task_that_was_announced_can_have_made_one_that_showed_before(tmp_path: Path) -> None:
    """Only logs of strace -z look like this; here the same pid shows twice as well."""
    log = (
        '4194303 execve("/a", ["a"], 0x1) = 0\n10 +++ exited with 0 +++\n10 fork() = 12\n12 fork() = 11\n'
        "11 vfork() = 10\n"
    )
    events, _ = read(tmp_path / "log", log)
    assert tree(events) == {1: None, 3: None, 4: 3, 5: 4, 2: 5}
