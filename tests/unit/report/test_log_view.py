"""The log: one line an event, with the words for each."""

from __future__ import annotations

import pytest
from happenings import FORK, Story, stories
from hypothesis import HealthCheck, given, settings

from forklore.abi.flags import CLONE_FS, CLONE_UNTRACED
from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.report.log import LogView
from forklore.report.styled_lines import plain


def log(story: Story) -> list[str]:
    builder = story.builder()
    view = LogView(builder)
    lines = []
    for event in story.events:
        builder.feed(event)
        line = view.line(event)
        if line is not None:
            lines.append(plain(line))
    return lines


def only(story: Story) -> str:
    """The one line of a story, without its time."""
    (line,) = log(story)
    return line.partition("] ")[2]


def test_the_time_and_who() -> None:
    story = Story()
    story.exit(story.begin(100, comm="sh"))
    assert log(story) == ["[    0.001000] 100 sh  exit 0"]
    story = Story(times=False)
    story.exit(story.begin(100))
    assert log(story) == ["[            ] 100 ?  exit 0"]


def test_creations() -> None:
    story = Story()
    root = story.begin(100, comm="sh")
    story.clone(root, 101)
    assert only(story) == "100 sh  clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD) → process 101"
    story = Story()
    story.thread(story.begin(100, comm="sh"), 101)
    assert only(story).endswith(" → thread 101  shares mm fs files sighand thread")
    story = Story()
    story.vfork(story.begin(100, comm="sh"), 101)
    assert only(story) == "100 sh  vfork() → process 101  shares mm"
    story = Story()
    story.clone3(story.begin(100), 101, CLONE_FS)
    assert only(story) == "100 ?  clone3(CLONE_FS, exit SIGCHLD) → process 101  shares fs"


def test_a_creation_of_which_little_is_known() -> None:
    story = Story()
    root = story.begin(100)
    story.create(root, 101, nr=None)
    assert only(story) == "100 ?  system call not known → task 101"
    story = Story()
    story.clone(story.begin(100), 101, FORK | CLONE_UNTRACED, traced=False, ns_tids=[101, 2, 1])
    assert only(story).endswith("→ process 101  pid 2/1 inside its namespace  not followed")


def test_refusals() -> None:
    story = Story()
    root = story.begin(100)
    story.fail(root, 22)
    line = only(story)
    assert line.startswith("100 ?  clone(CLONE_SIGHAND|SIGCHLD) = EINVAL  ")
    assert "CLONE_VM" in line
    story = Story()
    story.call(story.begin(100), "setsid", result=-1)
    assert only(story).startswith("100 ?  setsid() = EPERM  ")
    story = Story()
    story.call(story.begin(100), "setns", 3, 0, target="net:[4\x1b]")
    assert only(story) == r"100 ?  setns(3, 0) [net:[4\x1b]] = 0"
    story = Story()
    story.call(story.begin(100), "setns", 3, 0, result=-22, target="\x1b[31m")
    assert only(story).endswith(r"(it is \x1b[31m)")
    story = Story()
    story.call(story.begin(100), "setsid", result=None)
    assert only(story) == "100 ?  setsid() = ?"


def test_execs() -> None:
    story = Story()
    story.exec(story.begin(100), "/bin/ls", argv=["ls", "-l", "a b", "it's"], argc=4000)
    assert only(story) == """100 ls  execve /bin/ls  ls -l 'a b' 'it'"'"'s' … 4000 arguments"""
    story = Story()
    story.exec(story.begin(100), Unavailable(14, "un\x07mapped"), argv=Unavailable(14, "bad"), comm="x")
    assert only(story) == r"100 x  execve ? (un\x07mapped)"
    story = Story()
    root = story.begin(100)
    thread = story.thread(root, 101)
    story.gone(root, "superseded")
    story.exec(thread, "/bin/ls", former_tid=101)
    assert log(story)[-1].endswith("100 ls  execve /bin/ls  by thread 101, which takes over the tid")
    story = Story()
    story.exec_fail(story.begin(100), "/bin/\nls", 13)
    assert only(story) == r"100 ?  execve /bin/\nls = EACCES"


def last(event: ev.Event, task_name: str = "sh") -> str:
    story = Story()
    story.clone(story.begin(100, comm=task_name), 101)
    story.tell(event)
    return log(story)[-1].partition("] ")[2]


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (ev.Begin(t=0, task=3, tid=7, tgid=7, how="adopted"), "7 ?  comes into the trace (adopted)"),
        (ev.VforkDone(t=2_500_000, task=1, child=2, tid=101), "100 sh  goes on: 101 released its memory, held 1.5 ms"),
        (ev.VforkDone(t=0, task=1, tid=109), "100 sh  goes on: 109 released its memory"),
        (ev.Exit(t=0, task=1, status=0x300), "100 sh  exit 3"),
        (ev.Exit(t=0, task=1, status=0x8B), "100 sh  SIGSEGV (core dumped)"),
        (ev.Exit(t=0, task=1, status=None), "100 sh  ended"),
        (ev.Gone(t=0, task=1, why="released"), "100 sh  released"),
        (ev.Gone(t=0, task=1, why="ended"), "100 sh  no end seen"),
        (ev.Signal(t=0, task=1, signal=15, code=0, sender=9), "100 sh  SIGTERM from 9 (si_code 0)"),
        (ev.Signal(t=0, task=1, signal=11, code=1, address=16), "100 sh  SIGSEGV at 0x10 (si_code 1)"),
        (
            ev.Borrowed(t=0, task=2, creator=1, changes=[ev.Written(16, 4, "heap", "[heap]", "05", "0a")]),
            "101 sh  changed 1 place of 100's memory: heap",
        ),
        (
            # A range reaches over a variable whose value stayed; what .cold is a piece of is named.
            ev.Borrowed(t=0, task=2, creator=1, changes=[ev.Written(16, 12, "live stack", "", "05", "0a", [
                ev.Variable("a", "main.cold", "5", "10"), ev.Variable("b", "main.cold", "1", "1"),
                ev.Variable("c", "grow.part.0"), ev.Variable("d", None, "true", "true"),
            ])]),
            "101 sh  changed 1 place of 100's memory: main: a 5 → 10, grow: c",
        ),
        (ev.Borrowed(t=0, task=2, creator=1), "101 sh  changed nothing of 100's memory that stays"),
        (
            ev.Descriptors(t=0, task=2, table=[ev.Held(fd=7, kind="pipe", target="pipe:[1]")]),
            "101 sh  holds 1 descriptor beyond 0-2: 7 pipe",
        ),
        (
            ev.Cow(t=0, task=2, creator=1, moment="created", exact=True, page_size=4096, common=340),
            "101 sh  has 340 pages (1,360 KiB) in common with 100",
        ),
        (
            ev.Cow(t=0, task=2, creator=1, moment="exit", side=2, exact=True, common=340, parted=15, copied=12),
            "101 sh  copied 12 of 340 pages in common with 100 by exit; 100 copied 3",
        ),
        (
            ev.Cow(t=0, task=2, creator=1, moment="exit", side=1, exact=True, common=340, parted=15, copied=12),
            "101 sh  copied 3 of 340 pages in common with 100 by the exit of 100, which copied 12",
        ),
        (
            ev.Cow(t=0, task=2, creator=1, moment="exec", side=2, common=9, parted=5, copied=Unavailable(1, "x")),
            "101 sh  5 of about 9 pages in common with 100 were copied by exec, by whom is not known",
        ),
        (
            ev.Cow(t=0, task=2, creator=1, moment="exit", side=2, unknown=Unavailable(0, "so")),
            "101 sh  pages in common with 100: not known (so)",
        ),
        (ev.GroupStop(t=0, task=1, signal=20), "100 sh  stopped by SIGTSTP"),
        (ev.Resume(t=0, task=1), "100 sh  goes on"),
        (ev.Reparent(t=0, task=2, parent_tid=1), "101 sh  orphan, now of 1"),
        (
            ev.Reap(t=0, task=2, how="left", since=0, parent_tid=100, parent=1),
            "101 sh  100 never waited for it, and ended",
        ),
        (ev.Note(t=0, what="it", why="so\x1b"), r"it: so\x1b"),
        (ev.Note(t=0, what="it", why="so", task=1), "100 sh  it: so"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ev.Event) else "",
)
def test_each_kind(event: ev.Event, line: str) -> None:
    assert last(event) == line


def test_the_root_and_the_end_have_no_line() -> None:
    story = Story()
    story.begin(100)
    assert log(story.end()) == []


@given(stories())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_can_steer_a_terminal(story: Story) -> None:
    lines = log(story)
    assert all(line.isprintable() for line in lines)
    silent = sum(isinstance(e, ev.End) or (isinstance(e, ev.Begin) and e.how == "root") for e in story.events)
    # Told only where they hold something, or nobody waited for long.
    tables = sum(isinstance(e, ev.Descriptors | ev.Reap) for e in story.events)
    assert len(story.events) - silent - tables <= len(lines) <= len(story.events) - silent
