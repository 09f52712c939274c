"""The fixture ``forklore``: commands that are traced, and lists that explain an assertion that failed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from forklore import api
from forklore.abi.text import as_text
from forklore.findings.finding import Folded
from forklore.report.words import words

if TYPE_CHECKING:
    from forklore.testing.client import Tracer


class Told(list[Any]):
    """A list out of a trace, which shows the tree where an assertion about it fails."""

    def __init__(self, values: Iterable[Any], ran: Ran) -> None:
        super().__init__(values)
        self._ran = ran

    def _forklore_explained(self, op: str, left: object, right: object) -> list[str]:
        return [f"{_shown(left)} {op} {_shown(right)}", "", *self._ran.tree().splitlines()]


def _shown(value: object) -> str:
    text = repr(list(value)) if isinstance(value, Told) else repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


class Ran:
    """A command that was traced to its end."""

    def __init__(self, trace: api.Trace) -> None:
        self.trace = trace
        """All of it: :class:`forklore.api.Trace`."""

    def __repr__(self) -> str:
        return repr(self.trace)

    @property
    def root(self) -> api.Task:
        """The program itself."""
        return self.trace.roots[0]

    @property
    def status(self) -> int | None:
        """Its exit status; the negative number of the signal that ended it; None where its end was not seen."""
        death = self.root.death
        if death is None:
            return None
        return death.code if death.signal is None else -death.signal

    @property
    def processes(self) -> Told:
        """Every process, the program itself first, as :class:`forklore.api.Task`."""
        return Told((task for task in self.trace.tasks.values() if task.kind == "process"), self)

    @property
    def threads(self) -> Told:
        """Every thread beyond the first ones of processes."""
        return Told((task for task in self.trace.tasks.values() if task.kind == "thread"), self)

    @property
    def programs(self) -> Told:
        """The base name of every program that was executed, in order: ``["make", "sh", "cc"]``."""
        images = [image for task in self.trace.tasks.values() for image in task.images]
        images.sort(key=lambda image: image.t or 0)
        names = ((image.file or b"").rpartition(b"/")[2] for image in images)
        return Told(map(as_text, names), self)

    @property
    def commands(self) -> Told:
        """The command line of every program that was executed, in order."""
        images = [image for task in self.trace.tasks.values() for image in task.images]
        images.sort(key=lambda image: image.t or 0)
        return Told((words.command(image.argv) for image in images if isinstance(image.argv, tuple)), self)

    @property
    def failures(self) -> Told:
        """Every creation that the kernel refused."""
        return Told(self.trace.failures, self)

    def findings(self, ignore: Sequence[str] = ()) -> Told:
        """What `forklore check` finds, as lines: ``assert trace.findings() == []``."""
        return Told(map(_line, self.trace.check(ignore).findings), self)

    def tree(self, columns: int = 100) -> str:
        """The tree, as `forklore show` prints it."""
        return self.trace.tree(columns=columns)


def _line(each: Folded) -> str:
    times = f" ({each.count} times)" if each.count > 1 else ""
    return f"{each.severity} {each.first.rule}: {each.first.text}{times}"


class Forklore:
    """What the fixture gives."""

    def __init__(self, tracer: Tracer | None) -> None:
        self._tracer = tracer

    def run(self, argv: Sequence[str | bytes | os.PathLike[str]], **options: Any) -> Ran:  # noqa: ANN401
        """Run a command to its end under a tracer; ``options`` are those of :func:`forklore.trace`.

        Raises what that raises.
        """
        return Ran(api.trace(argv, start=self._start(), **options))

    def load(self, path: str | os.PathLike[str]) -> Ran:
        """A trace file, with the same lists."""
        return Ran(api.load(path))

    def _start(self) -> Callable[[list[str], str | None], int] | None:
        tracer = self._tracer
        if tracer is None:
            return None
        return lambda words_, cwd: tracer.run(words_, cwd, dict(os.environ))


__all__ = ["Forklore", "Ran", "Told"]
