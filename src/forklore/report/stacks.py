"""Whole call stacks, each of them once: where a task was made by a stack that was shown before, that task is named."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from forklore.abi.text import printable
from forklore.events import records as ev
from forklore.model.library_calls import INTERPRETER_FILE
from forklore.model.stacks import CallStack, StackFrame
from forklore.model.tasks import Failure, Task
from forklore.report.styled_lines import Role
from forklore.report.words import words
from forklore.report.words.code import frame_words, script_words


class ShownStacks:
    """The stacks below the tasks and refused calls of one view."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._first: dict[tuple[int, int], str] = {}
        self._verbose = verbose

    def texts(self, made: Task | Failure) -> list[tuple[str, Role]]:
        """The frames of a script, innermost first, then those of the machine's code: a text for each line. Without
        ``verbose``, frames of the interpreter itself are counted where the script's are known.

        Empty where none is known.
        """
        if made.stack is None and made.script is None:
            return []
        key = (made.stack.number if made.stack else 0, made.script.script if made.script else 0)
        who = f"task {made.tid}" if isinstance(made, Task) else "the refused call above"
        first = self._first.setdefault(key, who)
        if first is not who:
            return [(f"stack: as {first}", "quiet")]
        texts: list[str] = []
        if made.script is not None:
            texts += [*script_texts(made.script), *(["native:"] if made.stack is not None else [])]
        if made.stack is not None:
            texts += stack_texts(made.stack, folded=made.script is not None and not self._verbose)
        return [(text, "quiet" if text.endswith("]") or text.startswith("…") else "plain") for text in texts]


def stack_texts(stack: CallStack, *, folded: bool = False) -> Iterator[str]:
    """A line for each frame and each function inlined in one, and one for the end where that is not the outermost.

    ``folded``: one for all neighbours that are of CPython itself.
    """
    for inside, numbered in groupby(enumerate(stack.frames), lambda pair: folded and _is_interpreter(pair[1])):
        frames = list(numbered)
        if inside and len(frames) > 1:
            yield f"… {words.count(len(frames), 'frame')} of the interpreter"
        else:
            yield from (text for number, frame in frames for text in frame_words(number, frame))
    yield from _end(stack.end)


def _is_interpreter(frame: StackFrame) -> bool:
    return INTERPRETER_FILE.match(words.base_name(frame.place.path).encode(errors="replace")) is not None


def script_texts(script: ev.Script) -> Iterator[str]:
    """A heading and a line for each frame: ``python: (CPython 3.11)``, ``#0 build.py:41 compile_all``."""
    language = printable(script.language) + (", names read later" if script.late else "")
    yield f"python: ({language})" if "python" in language.lower() else f"{language}:"
    for number, frame in enumerate(script.frames):
        yield f"#{number} {script_words(frame)}"
    yield from _end(script.end)


def _end(end: str) -> Iterator[str]:
    if end == "depth":
        yield "… it goes on: more frames than were to be read (--stack-depth)"
    elif end != "outermost":
        yield f"… not known any further: {printable(end)}"
