"""Whole call stacks, each of them once: where a task was made by a stack that was shown before, that task is named."""

from __future__ import annotations

from collections.abc import Iterator

from forklore.abi.text import printable
from forklore.events import records as ev
from forklore.model.stacks import CallStack
from forklore.model.tasks import Failure, Task
from forklore.report.styled_lines import Role
from forklore.report.words.code import frame_words, script_words


class ShownStacks:
    """The stacks below the tasks and refused calls of one view."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int], str] = {}

    def texts(self, made: Task | Failure) -> list[tuple[str, Role]]:
        """The stack that made it, innermost frame first, then the frames of an interpreter: a text for each line.

        Empty where none is known.
        """
        if made.stack is None and made.script is None:
            return []
        key = (made.stack.number if made.stack else 0, made.script.script if made.script else 0)
        who = f"task {made.tid}" if isinstance(made, Task) else "the refused call above"
        first = self._first.setdefault(key, who)
        if first is not who:
            return [(f"stack: as {first}", "quiet")]
        texts = [*(stack_texts(made.stack) if made.stack else ()), *(script_texts(made.script) if made.script else ())]
        return [(text, "quiet" if text.endswith("]") else "plain") for text in texts]


def stack_texts(stack: CallStack) -> Iterator[str]:
    """A line for each frame and each function inlined in one, and one for the end where that is not the outermost."""
    for number, frame in enumerate(stack.frames):
        yield from frame_words(number, frame)
    yield from _end(stack.end)


def script_texts(script: ev.Script) -> Iterator[str]:
    """A heading and a line for each frame: ``python: (CPython 3.11)``, ``#0 build.py:41 compile_all``."""
    language = printable(script.language)
    yield f"python: ({language})" if "python" in language.lower() else f"{language}:"
    for number, frame in enumerate(script.frames):
        yield f"#{number} {script_words(frame)}"
    yield from _end(script.end)


def _end(end: str) -> Iterator[str]:
    if end == "depth":
        yield "… it goes on: more frames than were to be read (--stack-depth)"
    elif end != "outermost":
        yield f"… not known any further: {printable(end)}"
