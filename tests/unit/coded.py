"""Stories with code in them: modules, places, stacks and scripts, told when a creation first goes through them."""

from __future__ import annotations

import struct
from typing import Any, cast, get_args

from happenings import THREAD, Story, number
from hypothesis import strategies as st

from forklore.abi.flags import CLONE_VFORK, CLONE_VM
from forklore.abi.units import Unavailable
from forklore.events import records as ev

PTHREAD = THREAD | 0x3D0F00
"""glibc's pthread_create."""
SPAWN = CLONE_VM | CLONE_VFORK


LIBC = "/usr/lib/x86_64-linux-gnu/libc.so.6"
_OF_LIBC = {"__clone3", "clone", "fork", "vfork", "popen", "posix_spawn", "pthread_create", "start_thread"}


class Code:
    """The code of a story: ``stack("__clone3", "pthread_create", "start_pool@pool.c:88", "main")``, innermost first.

    A frame is a symbol, with ``+OFFSET``, ``@FILE:LINE``, ``!HOW`` behind it in this order; ``<inlined@FILE:LINE``
    before all of these adds a function that is inlined there; ``?`` for a symbol leaves the address alone.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self._modules: dict[ev.Text, int] = {}
        self._places: dict[str, int] = {}
        self._stacks: dict[object, int] = {}
        self._scripts: dict[object, int] = {}

    def module(self, path: ev.Text) -> int:
        if path not in self._modules:
            self._modules[path] = number = len(self._modules) + 1
            self._story.tell(ev.Module(t=self._story.t, module=number, path=path, build_id="ab" * 20))
        return self._modules[path]

    def place(self, text: str) -> int:
        if text in self._places:
            return self._places[text]
        symbol, *inlined = text.split("<")
        symbol, _, source = symbol.partition("@")
        name, _, offset = symbol.partition("+")
        self._places[text] = number = len(self._places) + 1
        start = None if name == "?" else 0x1000 * number
        address = 0x1000 * number + int(offset or "0x10", 16)
        function = None if name == "?" else ev.text(name.encode())
        module = self.module(LIBC if name in _OF_LIBC else "/usr/bin/pool")
        self._story.tell(
            ev.Place(t=self._story.t, place=number, module=module, address=address, function=function, start=start)
        )
        lines = [_line(each) for each in inlined[::-1]] + ([_line(f"{name}@{source}")] if source or inlined else [])
        if lines:
            self._story.tell(ev.Lines(t=self._story.t, place=number, lines=lines))
        return number

    def stack(self, *frames: str, end: str = "outermost") -> int:
        key = (frames, end)
        if key not in self._stacks:
            found = []
            for index, frame in enumerate(frames):
                text, _, how = frame.partition("!")
                usual: ev.FrameHow = "rule" if index else "register"
                found.append(ev.Frame(self.place(text), cast("ev.FrameHow", how) if how else usual))
            self._stacks[key] = number = len(self._stacks) + 1
            self._story.tell(ev.Stack(t=self._story.t, stack=number, frames=found, end=end))
        return self._stacks[key]

    def script(self, *frames: tuple[str, str, int], language: str = "CPython 3.11", end: str = "outermost") -> int:
        key = (frames, language, end)
        if key not in self._scripts:
            found = [ev.ScriptFrame(function=function, file=file, line=line) for function, file, line in frames]
            self._scripts[key] = number = len(self._scripts) + 1
            self._story.tell(ev.Script(t=self._story.t, script=number, language=language, frames=found, end=end))
        return self._scripts[key]

    def runs(self, routine: str, fn: str = "start_thread") -> ev.Runs:
        return ev.Runs(how="nptl", fn=7, fn_place=self.place(fn), routine=9, routine_place=self.place(routine))


def _line(text: str) -> ev.Line:
    name, _, source = text.partition("@")
    file, _, line = source.partition(":")
    return ev.Line(function=name or None, file=file or None, line=int(line) if line else None)


def pool(story: Story, root: int, code: Code, tid: int, **more: Any) -> int:
    """A thread that start_pool made to run worker."""
    given = {
        "stack": code.stack("__clone3", "pthread_create", "start_pool@pool.c:88", "main@pool.c:120"),
        "runs": code.runs("worker@pool.c:20"),
        **more,
    }
    return story.clone3(root, tid, PTHREAD, 0, stop="clone", **given)


def bare(story: Story, root: int, tid: int) -> int:
    """A thread that glibc made, of which nothing but the call is known."""
    tid_word = 0x7F00_0000_9990
    words = (PTHREAD, tid_word, tid_word, tid_word, 0, 0x7F00_0000_0000, 0x9000, 0x7F00_0000_96C0, 0, 0, 0)
    raw = struct.pack("<11Q", *words).hex()
    return story.create(root, tid, nr=number("clone3"), args=(4096, 88, 0, 0, 0, 0), struct=raw, stop="clone")


def spawned(story: Story, root: int, code: Code, tid: int, **more: Any) -> int:
    """A process that read_config made by popen."""
    stack = code.stack("__clone3", "posix_spawn", "popen", "read_config@/src/conf.c:12", "main@pool.c:121")
    return story.clone3(root, tid, SPAWN, **{"stop": "vfork", "stack": stack, **more})


SYMBOLS = st.binary(max_size=12) | st.sampled_from([b"pthread_create", b"_ZN3foo3barEv", b"a;b c", b"\x1b[31m"])


@st.composite
def coded(draw: st.DrawFn, story: Story) -> dict[str, Any]:
    """A stack, a script and a routine of any kind, for a creation of the story."""
    code = len([event for event in story.events if isinstance(event, ev.Stack)]) + 1
    places = []
    for index in range(draw(st.integers(0, 4))):
        number = code * 10 + index
        symbol = draw(st.none() | SYMBOLS)
        function = None if symbol is None else ev.text(symbol)
        if draw(st.booleans()):
            path = ev.text(draw(SYMBOLS))
            story.tell(ev.Module(t=story.t, module=number, path=path))
        module = number if isinstance(story.events[-1], ev.Module) else None
        story.tell(ev.Place(t=story.t, place=number, module=module, address=99, function=function, start=draw(STARTS)))
        lines = draw(st.lists(LINES, max_size=3))
        story.tell(ev.Lines(t=story.t, place=number, lines=lines))
        places.append(number)
    frames = [ev.Frame(number, draw(st.sampled_from(get_args(ev.FrameHow)))) for number in places]
    end = draw(st.sampled_from(["outermost", "depth", "no rules;\x1b"]))
    callers = draw(st.sets(st.integers(1, len(places) - 1))) if len(places) > 1 else ()
    jumped = [ev.Jumped(caller, draw(st.sampled_from(places))) for caller in callers]
    story.tell(ev.Stack(t=story.t, stack=code, frames=frames, end=end, jumped=jumped))
    called = draw(st.lists(st.builds(ev.ScriptFrame, function=TEXT, file=TEXT, line=st.none() | COUNT), max_size=3))
    story.tell(ev.Script(t=story.t, script=code, language=draw(st.text(max_size=4)), frames=called, end=end))
    runs = ev.Runs(
        how=draw(st.sampled_from(get_args(ev.RunsHow))),
        fn=draw(st.none() | COUNT),
        fn_place=draw(st.sampled_from([None, *places])),
        routine=draw(st.none() | COUNT),
        routine_place=draw(st.sampled_from([None, *places])),
        unknown=draw(st.none() | st.just(Unavailable(14, "\x1b"))),
    )
    return {
        "stack": draw(st.sampled_from([None, code])),
        "script": draw(st.sampled_from([None, code])),
        "runs": draw(st.sampled_from([None, runs])),
    }


COUNT = st.integers(0, 99)
STARTS = st.none() | COUNT
TEXT = SYMBOLS.map(ev.text)
LINES = st.builds(ev.Line, st.none() | TEXT, st.none() | TEXT, st.none() | COUNT)
