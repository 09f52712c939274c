"""What each view and format costs grows with the trace and no faster: counted in lines of code run and in memory."""

from __future__ import annotations

import gc
import io
import sys
import textwrap
import tracemalloc
from collections.abc import Callable
from types import CodeType, FrameType
from typing import IO, Any, cast

import pytest
from happenings import FORK, Story
from hypothesis import given
from hypothesis import strategies as st
from test_exporters import Told

from forklore.decode.holders import Holders
from forklore.events import records as ev
from forklore.events.trace_file import TraceFile
from forklore.export.table import EXPORTERS, VIEWS, ExportOptions
from forklore.report.styled_lines import wrapped


def chain(story: Story, n: int) -> None:
    task = story.begin(100)
    for tid in range(1000, 1000 + n):
        task = story.clone(task, tid)


def siblings(story: Story, n: int) -> None:
    root = story.begin(100)
    for tid in range(1000, 1000 + n):
        child = story.clone(root, tid, kcmp=(1, 2, 1, 2, 1, 2))
        story.exec(child, f"/bin/p{tid % 7}", argv=["p", str(tid)], compared={"files": (root, 1)})
        story.exit(child, tid % 5)


def living(story: Story, n: int) -> None:
    root = story.begin(100)
    for tid in range(1000, 1000 + n):
        thread = story.thread(root, tid)
        story.exec(story.vfork(thread, 100_000 + tid), "/bin/p")
        story.tell(ev.VforkDone(t=story.t, task=thread, child=thread + 1, tid=100_000 + tid))
        story.call(thread, "unshare", 0x400)


def takeovers(story: Story, n: int) -> None:
    task = story.begin(100)
    for tid in range(1000, 1000 + n):
        thread = story.thread(task, tid)
        story.vfork(thread, 100_000 + tid)
        story.gone(task, "superseded")
        story.exec(thread, "/bin/p", former_tid=tid)
        task = thread


def roots(story: Story, n: int) -> None:
    for tid in range(1000, 1000 + n):
        story.begin(tid, how="log")


def attached(story: Story, n: int) -> None:
    first = story.begin(100, how="attached")
    for tid in range(1000, 1000 + n):
        task = story.begin(tid, how="attached", parent_tid=100, together={"fs": first})
        pipe = ev.Held(fd=5, kind="pipe", target="pipe:[7]", flags=tid % 2, inode=7, cloexec=False, same=0)
        story.tell(ev.Descriptors(t=story.t, task=task, creator=first, table=[pipe], creators_pipes=[pipe]))


def refused(story: Story, n: int) -> None:
    child = story.clone(story.begin(100), 101)
    for number in range(n):
        story.fail(child, 22)
        story.fail(child, 11, limits={"rlimit_nproc": number})
        story.exec_fail(child, f"/d{number}/x")
        story.exec_fail(child, f"/d/y{number}")
        story.call(child, "unshare", 0x400, result=-22)


def doings(story: Story, n: int) -> None:
    child = story.clone(story.begin(100), 101)
    for number in range(n):
        story.exec(child, f"/bin/y{number}", argv=["y", str(number)], comm=f"y{number}")
        story.tell(ev.Name(t=story.t, task=child, comm=f"n{number}", how="prctl"))
        story.call(child, "unshare", 0x400)
        story.tell(ev.GroupStop(t=story.t, task=child, signal=19))
        story.tell(ev.Resume(t=story.t, task=child))
        story.tell(ev.Reparent(t=story.t, task=child, parent_tid=number + 1))
        story.tell(ev.Cow(t=story.t, task=child, creator=1, moment="exec", side=child, common=5, parted=3, copied=2))
        story.tell(ev.Note(t=story.t, what=f"what {number}", why=f"why {number % 9}"))


def stacks(story: Story, n: int) -> None:
    root = story.begin(100)
    story.tell(ev.Module(t=story.t, module=1, path="/bin/p"))
    for number in range(1, n + 1):
        story.tell(ev.Place(t=story.t, place=number, module=1, address=number * 16, function=f"f{number}", start=1))
        frames = [ev.Frame(place=place) for place in {1, number}]
        story.tell(ev.Stack(t=story.t, stack=number, frames=frames, end="outermost"))
        lines = [ev.ScriptFrame("a.py", f"f{number}", number)]
        story.tell(ev.Script(t=story.t, script=number, language="CPython 3.11", frames=lines, end="outermost"))
        story.clone(root, 1000 + number, stack=number, script=number)
    frames = [ev.Frame(place=place) for place in range(1, n + 1)]
    story.tell(ev.Stack(t=story.t, stack=n + 1, frames=frames, end="outermost"))
    story.clone(root, 100_000, stack=n + 1)


def wide_records(story: Story, n: int) -> None:
    root = story.begin(100)
    child = story.vfork(root, 101)
    story.exec(child, "/bin/p", argv=["word"] * n)
    table = [ev.Held(fd=fd, kind="pipe", target=f"pipe:[{fd}]", flags=0, inode=fd, same=0) for fd in range(n)]
    story.tell(ev.Descriptors(t=story.t, task=child, creator=root, table=table))
    changes = [ev.Written(4096 * at, 8, "live stack", "[stack]", "00", "01") for at in range(n)]
    story.tell(ev.Borrowed(t=story.t, task=child, creator=root, changes=changes))


def longer_and_longer(story: Story, n: int) -> None:
    # It has n * n / 2 descriptors to tell of.
    child = story.clone(story.begin(100), 101)
    for number in range(n):
        table = [ev.Held(fd=fd, kind="file", target="/f") for fd in range(number)]
        story.tell(ev.Descriptors(t=story.t, task=child, table=table))


SHAPES = (chain, siblings, living, takeovers, roots, attached, refused, doings, stacks, wide_records)
EVERYTHING = ExportOptions(everything=True, stacks=True)
WAYS = {
    **{f"tree of {view}": ("tree", ExportOptions(view=view, task="#2" if view == "task" else None)) for view in VIEWS},
    "the tree with everything": ("tree", EVERYTHING),
    "the tree as deep and wide as it is": ("tree", ExportOptions(depth=1 << 20, siblings=1 << 20)),
    "all rows of who shares what": ("tree", ExportOptions(view="sharing", everything=True)),
    "all sites": ("tree", ExportOptions(view="sites", everything=True)),
    "sites as json": ("json", ExportOptions(view="sites")),
    "times as json": ("json", ExportOptions(view="time")),
    **{name: (name, ExportOptions()) for name in EXPORTERS if name != "tree"},
}


def written(shape: Callable[[Story, int], None], n: int, way: str) -> Callable[[], None]:
    """What writes the trace of so many things."""
    story = Story(blind=[ev.Blind(f"what {number}", f"why {number % 9}") for number in range(n)], command=["p"] * n)
    shape(story, n)
    name, options = WAYS[way]
    if name == "otlp":
        missing = "OpenTelemetry's packages are not installed (pip install '.[otlp]')"
        pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason=missing)
    out: IO[Any] = io.StringIO() if EXPORTERS[name].text else io.BytesIO()
    source = cast("TraceFile", Told(story.end()))
    return lambda: EXPORTERS[name].write(source, out, options, lambda _warning: None)


def lines_run(work: Callable[[], None]) -> int:
    """How many lines of Python run in this package."""
    count = 0
    ours: dict[CodeType, bool] = {}

    def line(_frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
        nonlocal count
        count += 1
        return line

    def call(frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        if code not in ours:
            ours[code] = "forklore" in code.co_filename
        return line if ours[code] else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def peak(work: Callable[[], None]) -> int:
    """The most bytes that it has at one time."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bend(shape: Callable[[Story, int], None], n: int, way: str) -> float:
    """How many more lines the third ``n`` costs than the second, as a part of that: 0 is linear, 0.5 the square of n.

    A bend to the other side, where a view has shown what it shows, is below 0.
    """
    one, two, three = (lines_run(written(shape, times * n, way)) for times in (1, 2, 3))
    return ((three - two) - (two - one)) / max(two - one, one // 10)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_lines_run(shape: Callable[[Story, int], None], way: str) -> None:
    n = 24
    written(shape, n, way)()  # what is imported and cached for all
    assert bend(shape, n, way) < 0.1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [chain, siblings], ids=lambda shape: shape.__name__)
def test_memory(shape: Callable[[Story, int], None], way: str) -> None:
    written(shape, 9, way)()
    # Four times as many, by powers of two: tables grow by doubling.
    one, four = (peak(written(shape, n, way)) for n in (64, 256))
    assert four < 4.4 * one


def test_a_bend_is_seen() -> None:
    assert bend(longer_and_longer, 32, "log") > 0.5


# What one line of Python can hide, for it runs in C


@pytest.mark.parametrize("text", ["\\u202e" * 9000, "x" * 50_000, "a-" * 20_000, "a b " * 9000, "x" * 5000 + " y " * 9])
def test_wrapping_copies_no_more_than_the_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = 0
    long_word = textwrap.TextWrapper._handle_long_word

    def counted(self: textwrap.TextWrapper, chunks: list[str], *rest: Any) -> None:
        nonlocal copied
        copied += len(chunks[-1])
        long_word(self, chunks, *rest)

    monkeypatch.setattr(textwrap.TextWrapper, "_handle_long_word", counted)
    lines = wrapped(text, 40, "   ")
    assert max(map(len, lines)) <= 40
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert copied <= 30 * len(text)


@given(st.text(st.sampled_from("ab -\u202e"), max_size=300), st.integers(8, 60))
def test_usual_text_is_wrapped_as_everywhere(text: str, width: int) -> None:
    assert wrapped(text, width, " ") == textwrap.wrap(text, width, subsequent_indent=" ")


def test_a_search_grows_in_place() -> None:
    story = Story()
    task = story.begin(100)
    builder = story.builder()
    story.exec_fail(task, "/a/x")
    builder.feed(story.events[0])
    builder.feed(story.events[1])
    (failed,) = builder.trace.tasks[task].failed_execs  # type: ignore[index]
    story.exec_fail(task, "/b/x")
    builder.feed(story.events[2])
    assert failed.paths == [b"/a/x", b"/b/x"]


def test_an_exec_looks_at_no_set_of_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    root = story.begin(100)
    for tid in range(101, 111):
        story.exec(story.clone(root, tid, FORK | 0x400), "/bin/p")
    monkeypatch.setattr(Holders, "others", lambda *_words: pytest.fail("all who share were copied"))
    story.trace(sharing=True)
