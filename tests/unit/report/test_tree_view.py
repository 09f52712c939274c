"""The tree at three tasks and at three thousand: what is on a line, what is folded or left out, and that it is told."""

from __future__ import annotations

import re
import sys

import msgspec
import pytest
from happenings import FORK, Story, stories
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tree_shape import without_starts

from forklore.abi.flags import CLONE_FILES, CLONE_NEWPID, CLONE_PARENT, CLONE_UNTRACED
from forklore.events import records as ev
from forklore.report.styled_lines import plain, width_of
from forklore.report.tree.tree import Limits, tree_lines

UNLIMITED = Limits(columns=None, depth=None, siblings=None, lines=None)
ROW = re.compile(r"^((?:[│ ]  )*)[├└]─ (.*)$")
MANY = re.compile(r"^([\d,]+) × ")
BELOW = re.compile(r"\(\+([\d,]+) tasks? below\b")
MORE = re.compile(r"^… ([\d,]+) tasks? ")
NO_TASK = re.compile(r"^(?:[\d,]+ × )?[✗·] |^… ")


def view(story: Story, limits: Limits | None = None) -> list[str]:
    """The lines without the column of start times."""
    return without_starts(tree_lines(story.trace(), limits or Limits()))


def numeral(text: str) -> int:
    return int(text.replace(",", ""))


def accounted(lines: list[str]) -> int:
    """How many tasks the lines speak of: shown, several on a line, below what is cut, or left out."""
    total = 0
    open_rows: list[int] = [1]  # how often each level of the path down to the line counts
    for line in lines:
        found = ROW.match(line)
        if found is None:
            total += not line.startswith(("│", " ", "Not known", "made by", "a / b"))  # a root
            continue
        depth, text = len(found[1]) // 3 + 1, found[2]
        del open_rows[depth:]
        times = open_rows[-1]
        if more := MORE.match(text):
            total += times * numeral(more[1])
            continue
        if NO_TASK.match(text):
            continue
        many = MANY.match(text)
        times *= numeral(many[1]) if many else 1
        below = BELOW.search(text)
        total += times * (1 + (numeral(below[1]) if below else 0))
        open_rows.append(times)
    return total


def test_three_tasks() -> None:
    story = Story(command=["sh", "-c", "ls | wc"])
    root = story.begin(100, comm="sh")
    ls = story.clone(root, 101)
    story.exec(ls, "/bin/ls")
    wc = story.vfork(root, 102)
    story.exec(wc, "/usr/bin/wc")
    story.exit(ls, 1)
    story.killed(wc, 11)
    story.exit(root)
    lines = view(story.end())
    assert accounted(lines) == 3
    head, first, second = [line for line in lines if ROW.match(line) or line == lines[0]]
    assert head.startswith("100 sh -c 'ls | wc'")
    assert "exit 0 · 7.0 ms" in head
    assert "3 processes, 3 at once at most" in head
    assert first.startswith("├─ 101 ls  fork ")
    assert first.endswith("  exit 1 · 4.0 ms")
    assert second.startswith("└─ 102 wc  vfork ")
    assert "SIGSEGV" in second
    assert len(lines) == 3
    more = "\n".join(view(story, Limits(verbose=True)))
    for detail in (
        "clone(CHILD_CLEARTID|CHILD_SETTID|SIGCHLD)",
        "vfork() · shares mm",
        "exec /bin/ls after 1.0 ms",
        "exec /usr/bin/wc after 1.0 ms",
    ):
        assert detail in more
    assert "Not known" not in more


def test_equal_siblings_take_one_line() -> None:
    story = Story()
    root = story.begin(100)
    for index in range(3000):
        child = story.clone(root, 1000 + index)
        story.exec(child, "/bin/true")
        story.exit(child)
    lines = view(story.end())
    assert accounted(lines) == 3001
    assert len(lines) == 3
    (row,) = [line for line in lines if ROW.match(line)]
    assert row.startswith("└─ 3,000 × 1000…3999 true")


def test_two_equal_ones_are_not_folded_and_three_are() -> None:
    story = Story()
    root = story.begin(100)
    for tid in (101, 102):
        story.exec(story.clone(root, tid), "/bin/two")
    for tid in (103, 104, 105):
        story.exec(story.clone(root, tid), "/bin/three")
    rows = [found[2] for line in view(story) if (found := ROW.match(line))]
    assert [row.split("  ")[0] for row in rows] == ["101 two", "102 two", "3 × 103…105 three"]


def test_subtrees_are_equal_only_as_a_whole() -> None:
    story = Story()
    root = story.begin(100)
    for index in range(6):
        child = story.clone(root, 200 + index)
        story.exec(child, "/bin/sh")
        story.exec(story.clone(child, 300 + index), "/bin/odd" if index == 3 else "/bin/even")
    lines = view(story)
    assert accounted(lines) == 13
    rows = [found[2] for line in lines if (found := ROW.match(line))]
    assert [row.split("  ")[0] for row in rows] == ["5 × sh", "even", "203 sh", "303 odd"]


def test_siblings_that_differ_are_limited_and_counted() -> None:
    story = Story()
    root = story.begin(100)
    for index in range(3000):
        child = story.clone(root, 1000 + index)
        story.exec(child, f"/bin/p{index}")
        story.exit(story.clone(child, 5000 + index))
    story.fail(root, 22)
    lines = view(story.end())
    assert accounted(lines) == 6001
    rows = [line for line in lines if ROW.match(line) and not line.startswith((" ", "│"))]
    assert len(rows) == 40
    assert "1 refused or unsharing call" in rows[-1]
    assert "--siblings 3001" in rows[-1]
    assert len(lines) <= 400
    wider = view(story, Limits(siblings=100))
    assert accounted(wider) == 6001
    assert len([line for line in wider if ROW.match(line) and not line.startswith((" ", "│"))]) == 100


def test_a_chain_of_two_thousand() -> None:
    story = Story()
    task = story.begin(100)
    for index in range(2000):
        task = story.clone(task, 1000 + index)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        lines = view(story)
        everything = view(story, UNLIMITED)
    finally:
        sys.setrecursionlimit(limit)
    assert accounted(lines) == 2001
    assert len(lines) < 100
    assert max(map(len, lines)) <= 80
    assert accounted(everything) == 2001
    assert len(everything) >= 2001


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_depth(depth: int) -> None:
    story = Story()
    task = story.begin(100)
    for index in range(8):
        task = story.clone(task, 1000 + index)
    lines = view(story, Limits(depth=depth))
    assert len([line for line in lines if ROW.match(line)]) == depth
    assert f"(+{8 - depth} tasks below: --depth)" in "\n".join(lines)
    assert accounted(lines) == 9


def test_levels_are_shown_until_the_lines_are_spent() -> None:
    story = Story()
    root = story.begin(100)
    tid = 1000
    for first in range(10):
        child = story.clone(root, tid := tid + 1)
        story.exec(child, f"/bin/a{first}")
        for second in range(30):
            grandchild = story.clone(child, tid := tid + 1)
            story.exec(grandchild, f"/bin/b{first}-{second}")
            for third in range(4):
                story.exec(story.clone(grandchild, tid := tid + 1), f"/bin/c{third}")
    for lines_limit, rows in ((None, 1510), (400, 310), (309, 10), (5, 10)):
        lines = view(story, Limits(lines=lines_limit))
        assert len([line for line in lines if ROW.match(line)]) == rows
        assert accounted(lines) == 1511


@st.composite
def forests(draw: st.DrawFn) -> Story:
    """Tasks with few names, so that many look the same."""
    story = Story(times=draw(st.booleans()))
    tasks = [story.begin(1, comm="root")]
    for tid in range(2, draw(st.integers(2, 40))):
        task = story.clone(draw(st.sampled_from(tasks)), tid)
        story.exec(task, "/bin/" + draw(st.sampled_from("ab")))
        tasks.append(task)
        if draw(st.integers(0, 9)) == 0:
            story.fail(draw(st.sampled_from(tasks)), 22)
        if draw(st.integers(0, 9)) == 0:
            tasks.append(story.begin(1000 + tid, how="adopted"))
    return story


LIMITS = st.builds(
    Limits,
    columns=st.sampled_from([None, 40, 80, 200]),
    depth=st.none() | st.integers(1, 5),
    siblings=st.none() | st.integers(1, 6),
    lines=st.none() | st.integers(1, 30),
    fold=st.integers(2, 5),
)


@given(forests(), LIMITS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_task_is_accounted_for(story: Story, limits: Limits) -> None:
    # At 40 columns the ends of lines may be cut, and with them the numbers.
    if limits.columns == 40:
        limits = Limits(columns=None, depth=limits.depth, siblings=limits.siblings, lines=limits.lines)
    assert accounted(view(story, limits)) == len(story.trace().tasks)


@given(stories(), LIMITS)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_line_is_too_wide_and_none_can_steer_a_terminal(story: Story, limits: Limits) -> None:
    for line in tree_lines(story.trace(), limits):
        text = plain(line)
        assert text.isprintable()
        assert limits.columns is None or width_of(text) <= limits.columns


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
@pytest.mark.parametrize(
    "name",
    ["漢字" * 40, "e\u0301" * 60, "x" * 300, "\x1b[31mred\x07", "a\nb\tc", "\u202eright to left", "🦊" * 50, " " * 90],
    ids=["CJK", "combining", "long", "escape", "newline", "bidi", "emoji", "spaces"],
)
def test_names_of_any_kind_are_escaped_and_fitted(name: str, columns: int) -> None:
    story = Story(command=[name])
    root = story.begin(100)
    child = story.clone(root, 101)
    story.exec(child, f"/bin/{name}", argv=[name])
    story.exec_fail(child, name)
    story.call(child, "setns", 3, target=name)
    story.exit(child)
    lines = [plain(line) for line in tree_lines(story.trace(), Limits(columns=columns))]
    assert any(" 101 " in line for line in lines)
    for line in lines:
        assert width_of(line) <= columns
        assert line.isprintable()


def test_bytes_that_are_no_text_are_shown_as_escapes() -> None:
    story = Story()
    root = story.begin(100)
    story.exec(story.clone(root, 101), ev.text(b"/bin/\xff\x1bx"))
    assert r"101 \xff\x1bx" in "\n".join(view(story))


def test_what_is_unusual_is_said() -> None:
    story = Story()
    root = story.begin(100)
    parent = story.clone(root, 101)
    sibling = story.clone(parent, 102, FORK | CLONE_PARENT)
    story.clone(parent, 103, FORK | CLONE_UNTRACED, untraced_cleared=True)
    story.clone(parent, 104, FORK | CLONE_UNTRACED, traced=False)
    story.clone(parent, 105, ns_tids=[105, 7, 1])
    story.tell(ev.GroupStop(t=story.t, task=sibling, signal=20))
    story.exit(parent)
    story.tell(ev.Reparent(t=story.t, task=sibling, parent_tid=1))
    text = "\n".join(view(story, UNLIMITED))
    for said in (
        "child of 100, not of its creator", "asked for CLONE_UNTRACED, followed all the same", "not followed",
        "pid 7/1 inside its namespace", "orphan, now of 1", "was stopped",
    ):  # fmt: skip
        assert text.count(said) >= 1, said


def test_an_exec_that_takes_over_a_tid() -> None:
    story = Story(command=["java"])
    root = story.begin(100)
    thread = story.thread(root, 101)
    story.gone(root, "superseded")
    story.exec(thread, "/bin/new", former_tid=101)
    story.exit(thread, 4)
    text = "\n".join(view(story.end()))
    assert text.startswith("100 java")
    assert "exit 4" in text.splitlines()[0]
    assert "superseded by exec of thread 101" in text
    assert "took over tid 100 at exec, was 101" in text


def test_refusals_are_on_lines_of_their_own() -> None:
    story = Story()
    root = story.begin(100)
    for _ in range(4):
        story.fail(root, 22)
    story.call(root, "setsid", result=-1)
    text = "\n".join(view(story))
    assert "4 creations refused" in text
    assert "4 × ✗ clone(SIGHAND|SIGCHLD) = EINVAL" in text
    assert "needs CLONE_VM" in text
    assert "✗ setsid() = EPERM" in text


@pytest.mark.parametrize("times", [True, False])
def test_what_a_task_did_stands_in_its_order_with_and_without_times(times: bool) -> None:
    story = Story(times=times)
    root = story.begin()
    story.call(root, "unshare", CLONE_NEWPID)
    story.exit(story.clone(root, 101, FORK), 3)
    story.fail(root, 12, 0)
    story.exec_fail(root, "/bin/gone")
    story.exit(story.clone(root, 102, FORK), 4)
    lines = [plain(line) for line in tree_lines(story.end().trace(), Limits(columns=100))]
    wanted = ("unshare(", "─ 101", "ENOMEM", "gone", "─ 102")
    places = ["\n".join(lines).index(word) for word in wanted]
    assert places == sorted(places), lines


def test_what_the_trace_could_not_see() -> None:
    story = Story(blind=[ev.Blind("this", "because"), ev.Blind("that", "because")])
    root = story.begin(100)
    for what in ("a", "b", "c", "d"):
        story.tell(ev.Note(t=story.t, what=what, why="of it", task=root))
    text = re.sub(r"\s+", " ", " ".join(view(story)))
    assert "this, that: because" in text
    assert "a, b, c and 1 more: of it" in text
    assert "the trace was cut off" in text
    assert "cut off" not in " ".join(view(story.end()))


def test_what_a_log_never_tells_takes_one_line() -> None:
    blind = [ev.Blind("arch", "assumed"), ev.Blind("calls", "ltrace was run without -S: x"), ev.Blind("host", "no")]
    story = Story(source=ev.Source("ltrace"), blind=blind)
    story.begin(100)
    assert view(story.end())[1:] == [
        "Not known: as of any log of ltrace (-v): arch, host",
        "Not known: calls: ltrace was run without -S: x",
    ]
    assert len(view(story, Limits(verbose=True))[1:]) == 3


def test_what_an_attached_program_never_tells_takes_one_line() -> None:
    blind = [ev.Blind("what was before", "attached"), ev.Blind("failed calls", "no filter")]
    story = Story(blind=blind, options={"attach": "100"})
    story.begin(100)
    assert view(story.end())[1:] == ["Not known: as of any program attached to (-v): what was before, failed calls"]
    assert len(view(story, Limits(verbose=True))[1:]) == 2


def test_what_the_bpf_engine_never_tells_takes_one_line() -> None:
    blind = [ev.Blind("copies", "nobody is held"), ev.Blind("zombies", "unseen"), ev.Blind("deeper", "--max-depth")]
    story = Story(blind=blind, options={"engine": "bpf"})
    story.begin(100)
    assert view(story.end())[1:] == [
        "Not known: as of any trace by the bpf engine (-v): copies, zombies",
        "Not known: deeper: --max-depth",
    ]


def test_of_a_long_chain_of_execs_what_runs_now_is_not_cut() -> None:
    story = Story()
    child = story.clone(story.begin(), 101)
    for name in ("first", "second", "third", "fourth", "last"):
        story.exec(child, f"/bin/{name}", argv=[name, "argument"])
    story.end()
    assert view(story, Limits(columns=120))[-1].startswith("└─ 101 first → second → third → fourth → last")
    assert view(story, Limits(columns=60))[-1].startswith("└─ 101 first → … → last argument")


@pytest.mark.parametrize("verbose", [False, True])
def test_that_no_call_of_a_trace_was_seen_is_not_said_on_each_line(verbose: bool) -> None:
    story = Story()
    root = story.begin()
    for tid, flags in ((101, FORK), (102, None), (103, CLONE_FILES)):
        story.create(root, tid, nr=None, flags=flags)
    unseen = ["system call not known" in line for line in view(story.end(), Limits(verbose=verbose))[2:]]
    assert unseen == [verbose, verbose, True]


def test_what_tracing_changed_stands_at_the_root_and_is_not_unknown() -> None:
    blind = [ev.Blind("no_new_privs is set", "of a filter", changed=True)]
    story = Story(blind=blind)
    root = story.begin(100, how="root")
    left = story.clone(root, 101)
    other = story.clone(root, 102)
    story.killed(other, 9)
    story.exit(root)
    story.killed(left, 9)
    lines = view(story.end("root"))
    assert "no_new_privs is set · 1 process killed at its end" in " ".join(lines[:2])
    assert not [line for line in lines if line.startswith("Not known") or "filter" in line]
    assert view(story, Limits(verbose=True))[-1] == "Because it was traced, no_new_privs is set: of a filter"


def test_an_empty_trace() -> None:
    assert view(Story().end("done")) == []


def test_several_roots() -> None:
    story = Story()
    first = story.begin(100, comm="sh")
    story.clone(first, 101)
    second = story.begin(200, how="adopted", comm="left")
    story.thread(second, 201)
    lines = view(story.end())
    assert accounted(lines) == 4
    heads = [line for line in lines if not ROW.match(line) and not line.startswith((" ", "│"))]
    assert heads[0].startswith("100 make -j2")
    assert "2 processes" in heads[0]
    assert heads[1].startswith("200 left")
    assert "1 process, 1 thread" in heads[1]
    assert "its creation was not seen" in heads[1]


@pytest.mark.parametrize(("former", "named"), [(None, "the file before"), ("/tmp/t\x1b.2", "t\\x1b.2")])
def test_a_task_of_an_earlier_file(former: str | None, named: str) -> None:
    story = Story()
    first = story.begin(100, how="continued", comm="sh")
    story.clone(first, 101)
    trace = story.end().trace()
    trace.header = msgspec.structs.replace(trace.header, continues=former)
    assert any(f"carried over from {named}" in plain(line) for line in tree_lines(trace))
