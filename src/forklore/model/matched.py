"""Which task of one trace is which of another: by what they ran, and by arguments where these tell siblings apart."""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Sequence
from typing import Final

from forklore.abi.units import TaskId
from forklore.model.tasks import Image, Task, Trace

Words = tuple[bytes, ...]

_TEMPORARY: Final = re.compile(rb"/tmp/[^\s:,;=]+")
"""Names that mkstemp(3) makes up."""
_PAIRS: Final = 250_000
"""So many command lines are set against each other, the more alike ones first; more go by their order."""


def lasting(word: bytes) -> bytes:
    """A word without what differs from run to run by itself: names below /tmp."""
    return _TEMPORARY.sub(b"/tmp/*", word)


def program_of(image: Image) -> bytes | None:
    """The name of the file that was executed; None: not known."""
    file = image.file
    return None if file is None else file.rstrip(b"/").rpartition(b"/")[2] or file


def arguments(image: Image) -> Words | None:
    """The arguments behind the program's name, as two runs are compared by them; None: not known."""
    return tuple(map(lasting, image.argv[1:])) if isinstance(image.argv, tuple) else None


def alike(left: Sequence[Words], come: Sequence[Words]) -> Iterator[tuple[int, int]]:
    """Which of ``left`` is which of ``come``, by their places: those that have most words in common."""
    if len(left) * len(come) > _PAIRS:
        yield from ((place, place) for place in range(min(len(left), len(come))))
        return
    bags = [Counter(words) for words in come]
    free = set(range(len(come)))
    for place, words in enumerate(left):
        if not free:
            return
        bag = Counter(words)
        best = max(free, key=lambda index: ((bag & bags[index]).total(), -index))
        free.remove(best)
        yield place, best


def matched(old: Trace, new: Trace) -> dict[TaskId, TaskId]:
    """Of each task of ``old`` that ``new`` has too: which one it is there.

    Tasks are matched below creators that are, for siblings are most alike; what ran the same command under another
    creator is matched after that. Where each trace has one root, they are each other's, whatever they ran.
    """
    matching = _Matching(old, new)
    roots = old.roots, new.roots
    if len(roots[0]) == len(roots[1]) == 1:
        matching.pair(roots[0][0], roots[1][0])
    else:
        matching.siblings(*roots)
    matching.below()
    matching.moved()
    return matching.found


class _Matching:
    def __init__(self, old: Trace, new: Trace) -> None:
        self.found: dict[TaskId, TaskId] = {}
        self._traces = old, new
        self._taken: set[TaskId] = set()
        self._left: deque[tuple[Task, Task]] = deque()

    def pair(self, old: Task, new: Task) -> None:
        self.found[old.id] = new.id
        self._taken.add(new.id)
        self._left.append((old, new))

    def below(self) -> None:
        """All that stands below those that are matched and were not looked at yet."""
        while self._left:
            old, new = self._left.popleft()
            self.siblings(*(self._children(side, task) for side, task in enumerate((old, new))))

    def siblings(self, old: Sequence[Task], new: Sequence[Task]) -> None:
        # First what is quite the same, in its order; then what ran the same programs, by most of its words.
        rest = self._same(old, new)
        kinds: dict[Hashable, tuple[list[Task], list[Task]]] = {}
        for side, tasks in enumerate(rest):
            for task in tasks:
                kinds.setdefault(_what(task), ([], []))[side].append(task)
        for left, come in kinds.values():
            for i, j in alike([_words(task) for task in left], [_words(task) for task in come]):
                self.pair(left[i], come[j])

    def moved(self) -> None:
        """What executed the same under another creator, and all below it."""
        first, second = self._traces
        old = [task for task in first.tasks.values() if task.images and task.id not in self.found]
        come: dict[Hashable, deque[Task]] = {}
        for task in second.tasks.values():
            if task.images and task.id not in self._taken:
                come.setdefault((_what(task), _words(task)), deque()).append(task)
        for task in old:
            if task.id in self.found:
                continue  # below one that was matched just now
            candidates = come.get((_what(task), _words(task)), deque())
            while candidates and candidates[0].id in self._taken:
                candidates.popleft()
            if candidates:
                self.pair(task, candidates.popleft())
                self.below()

    def _same(self, old: Sequence[Task], new: Sequence[Task]) -> tuple[list[Task], list[Task]]:
        waiting: dict[Hashable, deque[Task]] = {}
        for task in new:
            waiting.setdefault((_what(task), _words(task)), deque()).append(task)
        left: list[Task] = []
        for task in old:
            candidates = waiting.get((_what(task), _words(task)))
            if candidates:
                self.pair(task, candidates.popleft())
            else:
                left.append(task)
        return left, [task for task in new if task.id not in self._taken]

    def _children(self, side: int, task: Task) -> list[Task]:
        taken = self._taken if side else self.found
        tasks = self._traces[side].tasks
        return [tasks[child] for child in task.children if child not in taken]


def _what(task: Task) -> Hashable:
    return task.kind, tuple(map(program_of, task.images)) if task.images else ("", task.comm)


def _words(task: Task) -> Words:
    return arguments(task.images[-1]) or () if task.images else ()
