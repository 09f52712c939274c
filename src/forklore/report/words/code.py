"""A place in code, in words. Names come from files of strangers: cut to a length that can be read, and escaped."""

from __future__ import annotations

from typing import Final

from forklore.abi.patterns import regex
from forklore.abi.text import as_text, printable
from forklore.events import records as ev
from forklore.model.names import function_name, part_of_function, short_name, whole_name
from forklore.model.stacks import CodePlace, StackFrame
from forklore.report.words import words

_SHORT: Final = 40
_LONG: Final = 160
NO_FILE: Final = "code without a file"
"""What a compiler at run time makes, as a rule."""
_CLOSURES: Final = regex(r"(?:::\{(?:closure|lambda)[^{}]*\})+$|(?:::\{\{closure\}\})+$")
_SCOPES: Final = regex(r"::(?=[^:])")
_HOW: Final[dict[ev.FrameHow, str]] = {
    "register": "",
    "rule": "",
    "wrapper": "wrapper",
    "signal": "interrupted by a signal handler",
    "pointer": "a guess, by the frame pointer",
}


def clipped(text: str, most: int = _SHORT) -> str:
    """Escaped, and cut to ``most`` characters."""
    # Cut before it is escaped too: a symbol can be a megabyte.
    shown = printable(text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def clipped_name(text: str, most: int = _SHORT) -> str:
    """The same for a name with scopes: what many functions have in common goes first, ``…::DrainState::run``."""
    if len(text) <= most or "::" not in text:
        return clipped(text, most)
    closure = _CLOSURES.search(text)
    end = "" if closure is None else "::{closure}"
    text = text if closure is None else text[: closure.start()]
    if text.endswith(")"):
        text = _without(text, "(", ")")
    if text.endswith(">"):
        text = _without(text, "<", ">").removesuffix("::")
    room = most - len(end)
    if len(text) <= room:
        return clipped(text, room) + end
    tail = text[-room:]
    for found in _SCOPES.finditer(tail):
        at = found.start()
        # Of what was left out, a bracket that is closed later.
        opened = "<" if tail.count(">", at) - tail.count("->", at) > tail.count("<", at) else ""
        shown = f"{opened}…{printable(tail[at:])}{end}"
        if len(shown) <= most:
            return shown
    return clipped(f"…::{text.rpartition('::')[2]}", room) + end


def _without(text: str, opening: str, closing: str) -> str:
    """``scope::function<of::this>`` without what is in its last brackets; as it is where they are its name, or all."""
    depth = 0
    for at in range(len(text) - 1, 0, -1):
        depth += (text[at] == closing and text[at - 1] != "-") - (text[at] == opening)
        if depth == 0:
            return text if text[:at].endswith(("operator", "::", "'lambda'")) and opening == "(" else text[:at]
    return text


def bare(place: CodePlace) -> str:
    """A place without names: ``libfoo.so+0x1234``. Outside of any file not its address, which differs in each run."""
    module = clipped(words.base_name(place.path)) if place.path else ""
    return f"{module}+{place.address:#x}" if module else NO_FILE


def function_words(place: CodePlace, line: ev.Line | None = None) -> str:
    """The function there, or the bare place. ``line``: as for :func:`forklore.model.names.function_name`."""
    name = function_name(place, line)
    return clipped_name(name) if name else bare(place)


def functions(place: CodePlace) -> list[str]:
    """Every function that is open there: the one that the code belongs to, then those inlined in it."""
    inlined = [line.function for line in place.lines[-2::-1]]
    names = [_symbol(ev.raw_bytes(name)) if name is not None else "?" for name in inlined]
    if place.function is not None:
        return [_symbol(place.function), *names]
    last = place.lines[-1].function if place.lines else None
    return [bare(place) if last is None else _symbol(ev.raw_bytes(last)), *names]


def source_words(line: ev.Line | None) -> str:
    """``pool.c:88``; empty where it is not known."""
    if line is None or line.file is None:
        return ""
    name = clipped(words.base_name(ev.raw_bytes(line.file)))
    return name if line.line is None else f"{name}:{line.line}"


def place_words(place: CodePlace, line: ev.Line | None = None) -> str:
    """``start_pool, pool.c:88``; without debug information ``start_pool``, without names ``libfoo.so+0x1234``."""
    source = source_words(line if line is not None else place.lines[0] if place.lines else None)
    return f"{function_words(place, line)}, {source}" if source else function_words(place, line)


def script_place(frame: ev.ScriptFrame) -> str:
    """``build.py:41``; empty where the file is not known."""
    return source_words(ev.Line(file=frame.file, line=frame.line))


def script_words(frame: ev.ScriptFrame) -> str:
    """``build.py:41 compile_all``."""
    return f"{script_place(frame)} {clipped(as_text(ev.raw_bytes(frame.function)))}".strip()


def frame_words(number: int, frame: StackFrame) -> list[str]:
    """A frame on a line, after a line for each function that is inlined there, the innermost first."""
    place = frame.place
    module = f" ({clipped(words.base_name(place.path))})" if place.path else ""
    found = []
    for line in place.lines[:-1]:
        name = "?" if line.function is None else _symbol(ev.raw_bytes(line.function))
        found.append(f"#{number} {name}{module} {source_words(line)}".rstrip() + " [inlined]")
    # What the code itself belongs to has the offset; what is inlined there was told before.
    last = place.lines[-1] if place.lines else None
    if place.function is not None:
        offset = "" if place.offset is None else f"{part_of_function(place.function)}+{place.offset:#x}"
        outer = f"{_symbol(place.function)}{offset}{module}"
    elif last is not None and last.function is not None:
        outer = f"{_symbol(ev.raw_bytes(last.function))}{module}"
    else:
        outer = bare(place) if place.path else f"{place.address:#x} ({NO_FILE})"
    notes = [_HOW[frame.how]]
    if frame.called is not None:
        notes.append(f"called {function_words(frame.called)}, which went on by a jump")
    noted = "; ".join(filter(None, notes))
    found.append(f"#{number} {outer} {source_words(last)}".rstrip() + (f" [{noted}]" if noted else ""))
    return found


def _symbol(raw: bytes) -> str:
    whole = whole_name(raw)
    return clipped(whole if len(whole) <= _LONG else short_name(raw), _LONG)
