"""One run seen twice: a tree against the kernel's tracepoints of the same run, tid for tid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .kernel import KernelTask
from .tree import CLONE_UNTRACED, Exec, Task, Tree, flag_names

Life = tuple[int, int]
"""A tid and the how-manieth task it was given to in this run."""


@dataclass(slots=True)
class Verdict:
    """What a comparison found. ``differences`` are sentences; ``notes`` name what was let pass, and why."""

    tasks: int = 0
    execs: int = 0
    exits: int = 0
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def agree(self) -> bool:
        return not self.differences


def _lives(tids: Sequence[int]) -> list[Life]:
    seen: dict[int, int] = {}
    lives = []
    for tid in tids:
        seen[tid] = seen.get(tid, 0) + 1
        lives.append((tid, seen[tid]))
    return lives


def _name(life: Life) -> str:
    return f"task {life[0]}" if life[1] == 1 else f"task {life[0]} (number {life[1]} of that pid)"


def _kernel_made(tasks: Sequence[KernelTask]) -> set[KernelTask]:
    """Workers that the kernel made without a call (io_uring, vhost): kernel_clone never saw them."""
    return {task for task in tasks[1:] if not task.by_call}


def _unfollowed(tasks: Sequence[KernelTask]) -> tuple[set[KernelTask], set[KernelTask]]:
    """Tasks that asked the kernel for CLONE_UNTRACED and got it, and all below them."""
    untraced = {task for task in tasks if task.by_call and (task.flags or 0) & CLONE_UNTRACED}
    below: set[KernelTask] = set()
    for task in tasks:
        if task.creator in untraced or task.creator in below:
            below.add(task)
    return untraced, below


class _Comparison:
    def __init__(self, who: str, tree: Tree, kernel: Sequence[KernelTask]) -> None:
        self.who = who
        self.verdict = Verdict()
        made = _kernel_made(kernel)
        self.untraced, hidden = _unfollowed(kernel)
        seen = [task for task in kernel if task not in made and task not in hidden]
        self.kernel = dict(zip(_lives([task.tid for task in seen]), seen, strict=True))
        self.tree = dict(zip(_lives([task.tid for task in tree.tasks]), tree.tasks, strict=True))
        self.life_of_id = {task.id: life for life, task in self.tree.items()}
        self.life_of_kernel = {task: life for life, task in self.kernel.items()}
        if made:
            self._note(f"{len(made)} made by the kernel itself (io_uring or vhost workers), which no call shows")
        if self.untraced:
            self._note(
                f"{len(self.untraced)} made with CLONE_UNTRACED, which {who} does not follow; {len(hidden)} below them"
            )

    def _note(self, note: str) -> None:
        if note not in self.verdict.notes:
            self.verdict.notes.append(note)

    def _differ(self, life: Life, what: str) -> None:
        self.verdict.differences.append(f"{_name(life)}: {what}")

    def run(self) -> Verdict:
        for life, theirs in self.kernel.items():
            if life not in self.tree:
                by = self.life_of_kernel.get(theirs.creator) if theirs.creator else None
                self._differ(
                    life,
                    f"the kernel saw {_name(by) if by else 'the tracer'} make it with "
                    f"{flag_names(theirs.flags or 0)}, {self.who} has no such task",
                )
            else:
                self._pair(life, self.tree[life], theirs)
        for life in sorted(self.tree.keys() - self.kernel.keys()):
            self._differ(life, f"{self.who} has it, the kernel made no such task")
        return self.verdict

    def _pair(self, life: Life, ours: Task, theirs: KernelTask) -> None:
        self.verdict.tasks += 1
        if ours.creator is not None:
            self._creation(life, ours, theirs)
        if theirs in self.untraced:
            return
        self._execs(life, ours.execs, theirs.execs)
        self._end(life, ours, theirs)

    def _creation(self, life: Life, ours: Task, theirs: KernelTask) -> None:
        our_creator = self.life_of_id.get(ours.creator) if ours.creator is not None else None
        their_creator = self.life_of_kernel.get(theirs.creator) if theirs.creator else None
        if our_creator != their_creator:
            who = [_name(one) if one else "one outside the tree" for one in (their_creator, our_creator)]
            self._differ(life, f"its creator is {who[0]} for the kernel, {who[1]} for {self.who}")
        if ours.thread != theirs.thread:
            kind = "thread" if theirs.thread else "process"
            self._differ(life, f"it is a {kind} for the kernel, a {ours.kind} for {self.who}")
        if ours.flags is None or theirs.flags is None:
            self._differ(life, f"{self.who} does not know the flags that it was made with")
            return
        differing = ours.flags ^ theirs.flags
        if differing == CLONE_UNTRACED and not theirs.flags & CLONE_UNTRACED:
            self._note(f"CLONE_UNTRACED was asked for, and cleared by {self.who} for the call")
        elif differing:
            self._differ(
                life,
                f"made with {flag_names(theirs.flags)} for the kernel, with {flag_names(ours.flags)} for "
                f"{self.who} (they differ in {flag_names(differing)})",
            )

    def _execs(self, life: Life, ours: Sequence[Exec], theirs: Sequence[Exec]) -> None:
        self.verdict.execs += len(theirs)
        if len(ours) != len(theirs):
            self._differ(life, f"the kernel saw it exec {_paths(theirs)}, {self.who} {_paths(ours)}")
            return
        for mine, other in zip(ours, theirs, strict=True):
            if not _same_path(mine.path, other.path):
                path = "a path that it could not read" if mine.path is None else repr(mine.path)
                self._differ(life, f"the kernel saw it exec {other.path!r}, {self.who} {path}")
            if mine.former_tid != other.former_tid:
                self._differ(
                    life,
                    f"before its exec of {other.path!r} its tid was {other.former_tid or 'the same'} for the "
                    f"kernel, {mine.former_tid or 'the same'} for {self.who}",
                )

    def _end(self, life: Life, ours: Task, theirs: KernelTask) -> None:
        self.verdict.exits += theirs.exits
        if theirs.exits > 1:
            self._differ(life, f"the kernel saw it exit {theirs.exits} times")
        ended = ours.end is not None or ours.gone == "superseded"
        if ended != bool(theirs.exits):
            self._differ(
                life,
                f"{self.who} saw it end ({ours.end or ours.gone}), the kernel did not"
                if ended
                else f"the kernel saw it exit, {self.who} did not",
            )


def _paths(execs: Sequence[Exec]) -> str:
    return ", ".join(repr(one.path) for one in execs) or "nothing"


def _same_path(given: str | None, filename: str | None) -> bool:
    """Whether the path of the call is the kernel's file name.

    execveat with a descriptor becomes ``/dev/fd/N`` or ``/dev/fd/N/path`` (fs/exec.c: alloc_bprm).
    """
    if given is None or filename is None or given == filename:
        return given == filename and given is not None
    return filename.startswith("/dev/fd/") and (given == "" or filename.endswith("/" + given))


def compare(who: str, tree: Tree, kernel: Sequence[KernelTask]) -> Verdict:
    """Compare a tree with the kernel's tasks of the same run, the root first in both.

    ``who`` is the tree's source, for the messages. A tid that was given out several times is matched in the
    order of creation.
    """
    return _Comparison(who, tree, kernel).run()
