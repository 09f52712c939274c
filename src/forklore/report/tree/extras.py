"""What a line of the tree says of its tasks beyond their creation and end: pages, borrowed memory, descriptors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from forklore.abi.text import printable
from forklore.abi.units import Unavailable
from forklore.model.tasks import Task, Trace
from forklore.report.words import words
from forklore.report.words.cow import last_words
from forklore.report.words.descriptors import Key, beyond, held_words, key
from forklore.report.words.vfork_memory import borrowed_words, changed_kinds


class Extras:
    """For all rows of one trace."""

    def __init__(self, trace: Trace, given: frozenset[Key]) -> None:
        self._trace = trace
        self._given = given

    def look(self, task: Task) -> tuple[object, ...]:
        """What two tasks must have in common to share a line: kinds, not numbers."""
        last = task.cow[-1] if task.cow else None
        return (
            None if last is None else (last.moment, last.source, last.unknown is not None, last.side is None),
            tuple((changed_kinds(record), bool(record.remaps)) for record in task.borrowed),
            isinstance(task.descriptors[-1].table, Unavailable) if task.descriptors else None,
            self._kinds(task),
        )

    def texts(self, tasks: Sequence[Task]) -> list[str]:
        """Pages and borrowed memory in words, for one task or for several that look the same."""
        task = tasks[0]
        if len(tasks) == 1:
            found = [last_words(task.cow, self._trace)]
            found += [borrowed_words(record, self._trace) for record in task.borrowed]
            return [text for text in found if text]
        return [text for text in (self._pages(tasks), self._borrowed(task)) if text]

    def held(self, tasks: Sequence[Task]) -> str:
        """The descriptors of one task, or of several that look the same; empty for none to speak of."""
        return held_words(tasks[0].descriptors, self._given) if len(tasks) == 1 else self._held(tasks[0])

    def _kinds(self, task: Task) -> tuple[str, ...]:
        if not task.descriptors:
            return ()
        return tuple(sorted(h.kind for h in beyond(task.descriptors[-1]) if key(h) not in self._given))

    def _held(self, task: Task) -> str:
        kinds = Counter(map(printable, self._kinds(task)))
        if not kinds:
            return ""
        which = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in kinds.most_common(3))
        return f"each holds {words.count(kinds.total(), 'descriptor')} beyond 0-2: {which}"

    def _borrowed(self, task: Task) -> str:
        kinds = [kind for record in task.borrowed for kind in changed_kinds(record)]
        return f"each changed {', '.join(kinds)} of its creator's memory" if kinds else ""

    def _pages(self, tasks: Sequence[Task]) -> str:
        last = [task.cow[-1] for task in tasks if task.cow]
        copied = [record.copied for record in last if isinstance(record.copied, int)]
        if not copied or len(copied) < len(tasks):
            return ""
        verb = "changed" if last[0].told_by == "contents" else "copied"
        total = _range([record.common for record in last])
        return f"each {verb} {_range(copied)} of {total} pages in common by {last[0].moment}"


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
