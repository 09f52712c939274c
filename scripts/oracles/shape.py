"""Two runs of one program: their trees compared by shape, as pids and order differ from run to run.

A task's shape is one line: the programs above it, how it was made, what it ran, how it ended. A tree is the
multiset of these lines. Real programs vary (a pool's threads, a race between siblings), so a line that occurs
3 to 5 times in one tracer's runs and 4 times in the other's is no difference; 3 to 5 against 6 to 7 is one.
"""

from __future__ import annotations

import os.path
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from .tree import CLONE_UNTRACED, Task, Tree, flag_names

UNKNOWN: Final = "?"


def image(task: Task, inherited: str) -> str:
    """The names of the programs that a task ran, ``sh``, ``env→perl``; its creator's where it ran none."""
    names = [os.path.basename(one.path) if one.path is not None else UNKNOWN for one in task.execs]
    return "→".join(names) or inherited


def untraced(task: Task) -> bool:
    """Whether the call asked for CLONE_UNTRACED: strace then sees nothing of the task but its creation."""
    return bool(task.flags is not None and task.flags & CLONE_UNTRACED)


def _made(task: Task) -> str:
    if task.creator is None:
        return "root"
    flags = UNKNOWN if task.flags is None else flag_names(task.flags)
    signal = f", exit signal {task.exit_signal}" if task.exit_signal is not None and not task.thread else ""
    return f"{task.kind} by {task.call}({flags}{signal})"


def _line(task: Task, chain: tuple[str, ...], created_in: str) -> str:
    if untraced(task):
        return f"{' > '.join((*chain, created_in))}: {_made(task)}"
    ran = f", ran {image(task, '')}" if task.execs else ""
    threads = " by a thread" if any(one.former_tid is not None for one in task.execs) else ""
    end = task.end or task.gone or "not seen to end"
    return f"{' > '.join((*chain, created_in)) or 'root'}: {_made(task)}{ran}{threads}, {end}"


def shape(tree: Tree) -> Counter[str]:
    """The tree as a multiset of lines: tasks, and creations that failed.

    What an untraced task did is left out of every tree, as strace's log cannot have it.
    """
    chains: dict[int, tuple[str, ...]] = {}
    images: dict[int, str] = {}
    lines: Counter[str] = Counter()
    unseen: set[int] = set()
    for task in tree.tasks:
        if task.creator in unseen:
            unseen.add(task.id)
            continue
        if untraced(task):
            unseen.add(task.id)
        above = chains.get(task.creator, ()) if task.creator is not None else ()
        inherited = images.get(task.creator, UNKNOWN) if task.creator is not None else UNKNOWN
        created_in = inherited if task.creator is not None else ""
        lines[_line(task, above, created_in)] += 1
        images[task.id] = image(task, inherited)
        chains[task.id] = (*above, created_in) if created_in else above
    for failure in tree.failures:
        flags = UNKNOWN if failure.flags is None else flag_names(failure.flags)
        lines[f"failed {failure.call}({flags}) = {failure.errno}"] += 1
    return lines


@dataclass(slots=True)
class Runs:
    """Shapes of several runs under one tracer."""

    who: str
    shapes: list[Counter[str]] = field(default_factory=list)

    def add(self, tree: Tree) -> None:
        self.shapes.append(shape(tree))

    def range(self, line: str) -> tuple[int, int]:
        """The fewest and the most times that a line occurs in a run."""
        counts = [one[line] for one in self.shapes]
        return min(counts), max(counts)


def _times(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low} to {high}"


def differences(ours: Runs, theirs: Runs) -> list[str]:
    """Lines whose number of occurrences differs for good: the two ranges have nothing in common."""
    lines: Sequence[str] = sorted(set().union(*ours.shapes, *theirs.shapes))
    found = []
    for line in lines:
        a, b = ours.range(line), theirs.range(line)
        if a[1] < b[0] or b[1] < a[0]:
            found.append(f"{line}: {_times(*a)} in {ours.who}, {_times(*b)} in {theirs.who}")
    return found


def variable(ours: Runs, theirs: Runs) -> list[str]:
    """Lines whose number varies within one tracer's own runs."""
    lines = sorted(set().union(*ours.shapes, *theirs.shapes))
    spread = [(line, ours.range(line), theirs.range(line)) for line in lines]
    return [
        f"{line}: {_times(*a)} in {ours.who}, {_times(*b)} in {theirs.who}"
        for line, a, b in spread
        if a[0] != a[1] or b[0] != b[1]
    ]
