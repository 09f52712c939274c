"""What stands beside and below the tree: when each task began, and what is said once for all rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from forklore.abi.errors import errno_name
from forklore.abi.units import Nanoseconds, Unavailable
from forklore.model.tasks import Task, Trace
from forklore.report.tree.fold import TreeRow
from forklore.report.words import words

_S: Final = 1_000_000_000
_MAKERS: Final = 6
_NAMES: Final = 4


class Starts:
    """The column of the times at which tasks began, in seconds since the first; empty where there are no times."""

    def __init__(self, trace: Trace) -> None:
        roots = {root.id for root in trace.roots}
        began = [task.created for task in trace.tasks.values() if task.created is not None and task.id not in roots]
        self._origin = next((root.created for root in trace.roots if root.created is not None), Nanoseconds(0))
        last = max(began, default=None)
        # Three figures of the longest.
        span = 0 if last is None else max(last - self._origin, 0)
        coarse = trace.header.clock.resolution
        told = max(0, 10 - len(str(coarse)))
        self._digits = min(2 if span >= _S else 3 if span >= _S // 10 else 4, told)
        self._width = 0 if last is None else len(f"{span / _S:.{self._digits}f}")
        self.blank = " " * (self._width + 1) if self._width else ""

    def text(self, row: TreeRow) -> str:
        """When the first thing of a row happened."""
        first = row.tasks[0].created if row.tasks else row.leaves[0].t
        if first is None or not self._width:
            return self.blank
        return f"{(first - self._origin) / _S:>{self._width}.{self._digits}f} "


class Legend:
    """What is said once below the tree."""

    def __init__(self) -> None:
        self._makers: dict[str, dict[str, None]] = {}
        self._several = False

    def made(self, maker: str, row: TreeRow) -> None:
        """Who made a row that has no room for it."""
        name = words.task_name(row.tasks[0]) or row.tasks[0].kind
        self._makers.setdefault(maker, {})[name] = None

    def saw(self, row: TreeRow, ended: bool) -> None:
        """A row is shown."""
        self._several = self._several or (ended and len(row.tasks) > 1)

    def texts(self) -> Iterator[str]:
        """The lines, to be wrapped."""
        if self._makers:
            shown = [f"{maker}: {_few(names)}" for maker, names in list(self._makers.items())[:_MAKERS]]
            if len(self._makers) > _MAKERS:
                shown.append(f"{len(self._makers) - _MAKERS} more ways (-v)")
            yield "made by " + "; ".join(shown)
        if self._several:
            yield "a / b / c: the least, the median, the most; Σ: the sum"


def _few(names: Iterable[str]) -> str:
    shown = list(names)
    more = [f"{len(shown) - _NAMES} more"] if len(shown) > _NAMES else []
    return ", ".join([*shown[:_NAMES], *more])


def unread(trace: Trace, *, verbose: bool) -> Iterator[tuple[str, str]]:
    """What the kernel refused to tell of tasks, in short, with its reason. ``verbose``: what only -v shows, too."""
    refused = Counter(errno for task in trace.tasks.values() if (errno := _refused(task)))
    for errno, count in refused.items() if verbose else ():
        what = f"what is really shared by {words.count(count, 'task')}"
        yield what, f"{errno_name(errno)} from kcmp(2); told by the calls"
    given = [image.argv for task in trace.tasks.values() for image in task.images]
    for errno, count in Counter(argv.errno for argv in given if isinstance(argv, Unavailable) and argv.errno).items():
        yield f"the arguments of {words.count(count, 'program')}", f"{errno_name(errno)} on reading memory"


def _refused(task: Task) -> int:
    # The errno of each comparison with its creator, where all were refused; else 0.
    answers = task.kcmp
    if not isinstance(answers, tuple) or not answers or not min(answers) == max(answers) < 0:
        return 0
    return -answers[0]
