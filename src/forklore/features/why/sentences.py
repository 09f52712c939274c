"""The one sentence at the top: who waits, and the root cause. Pure."""

from __future__ import annotations

from typing import Final

from forklore.abi.text import printable
from forklore.features.why.conclude import Certainty, Chain, RootKind, Step
from forklore.features.why.graph import LOCKS, Ender, Graph, Role, Task, WaitKind
from forklore.report.words.words import count, span

_GONE: Final = frozenset({RootKind.COPIED_LOCK, RootKind.OWNER_GONE, RootKind.NOBODY})
_TOLD_BY_WAIT: Final = frozenset({WaitKind.CHILD, WaitKind.JOIN, WaitKind.PROCESS, WaitKind.VFORK})
"""Of these what is waited for names who is waited for."""
_LINKS: Final = {
    Role.WRITER: "{who} still holds its write end{fds} and", Role.READER: "{who} still holds its read end{fds} and",
    Role.PEER: "{who} has the other end{fds} and", Role.OWNER: "{who} has locked it and",
    Role.LISTENER: "{who} listens there{fds} and",
    Role.LOCK_HOLDER: "{who} has the lock{fds} and", Role.LEASE_HOLDER: "{who} has the lease{fds} and",
    Role.TRACER: "{who} is its tracer and",
}  # fmt: skip


def who(task: Task) -> str:
    """``4711 make``; a thread also with its process's number."""
    name = f"{task.tid} {printable(task.name)}"
    return name if task.leads else f"{name} (a thread of {task.pid})"


def headline(graph: Graph, chain: Chain) -> str:
    """The root cause, as one or two sentences."""
    return _Headline(graph, chain).text()


class _Headline:
    def __init__(self, graph: Graph, chain: Chain) -> None:
        self._graph = graph
        self._chain = chain
        self._first, self._last = chain.first, chain.last
        self._certain = chain.certainty is Certainty.CERTAIN
        self._direct = len(chain.steps) == 1

    def text(self) -> str:
        chain = self._chain
        if chain.root is RootKind.CYCLE:
            said = f"{who(self._first)} is {self._surely('deadlocked')}: {self._round()}."
        elif chain.root is RootKind.SELF:
            said = self._self()
        elif chain.root in _GONE and self._last.wait.kind is not WaitKind.OPEN:
            subject = "it" if self._direct else who(self._last)
            said = f"{who(self._first)} is {self._surely('deadlocked')}: {self._way()}{self._lock(subject)}"
        elif self._last.ended and chain.root is RootKind.UNREAPED:
            said = self._unreaped()
        else:
            said = f"{self._lead()} {_does(self._last)}{_tail(self._last)}."
        if self._first.zombies:
            children = count(len(self._first.zombies), "child", "children")
            said += (
                f" It has not waited for {children} that {'has' if len(self._first.zombies) == 1 else 'have'} ended."
            )
        if chain.certainty is Certainty.LIKELY and chain.why:
            said += f" Not certain: {chain.why}." if chain.root not in _STOPS else f" What ends it: {chain.why}."
        return said

    def _surely(self, word: str) -> str:
        return f"{word} for certain" if self._certain else f"likely {word}"

    # Locks that nobody will unlock

    def _lock(self, subject: str) -> str:
        wait, chain = self._last.wait, self._chain
        place = f" ({wait.place})" if wait.place and not wait.name else ""
        waits = f"{subject} waits for {wait.what}{place}"
        if chain.root is RootKind.COPIED_LOCK and wait.owner:
            return (
                f"{waits}, which {wait.owner} had locked when {self._last.pid} was forked. fork copies a locked mutex,"
                " not the thread that would unlock it."
            )
        alone = "no other task shares its memory"
        if chain.root is RootKind.COPIED_LOCK:
            return (
                f"{waits}, {alone}, and it runs the program of its parent {self._last.ppid}: a thread that is not here"
                " had locked it when it was forked, or it has locked it itself."
            )
        if wait.owner:
            return f"{waits}, which {wait.owner} has left locked."
        note = f" ({wait.note})" if wait.note else ""
        return f"{waits}, and {alone}, so nobody can wake it{note}."

    # Rounds

    def _round(self) -> str:
        start = self._chain.cycle or 0
        members = self._chain.steps[start:]
        if _waker(members[0].task) and len({step.task.pid for step in members}) == 1:
            return self._all_wait(members[0].task)
        parts = []
        for index, step in enumerate(members):
            subject = "it" if index == 0 and start == 0 else who(step.task)
            following = members[(index + 1) % len(members)].task
            parts.append(f"{subject} waits for {_object(step.task, following)}")
        return (self._way(start) if start else "") + ", and ".join(parts)

    def _all_wait(self, task: Task) -> str:
        # Nothing says which of the threads would have to wake which.
        threads = [other for other in self._graph.threads(task.pid) if other.tid != task.tid and not other.ended]
        rest = "its other thread waits" if len(threads) == 1 else f"all its {count(len(threads), 'other thread')} wait"
        place = f" ({task.wait.place})" if task.wait.place and not task.wait.name else ""
        return (
            f"it waits for {task.wait.what}{place}; another thread would have to wake it, and {rest} for ever as well"
        )

    def _self(self) -> str:
        wait = self._last.wait
        subject = who(self._first) if self._direct else f"{who(self._first)} {self._way()}{who(self._last)}"
        ender = next((each for each in wait.enders if each.able), None)
        if wait.kind in LOCKS:
            return f"{subject} is {self._surely('deadlocked')}: it waits for {wait.what}, which it has locked itself."
        ever = "for certain for ever" if self._certain else "likely for ever"
        role = None if ender is None else ender.role
        end = {Role.WRITER: "write end", Role.READER: "read end"}.get(role or Role.PEER, "other end")
        held = "" if ender is None else _fds(ender)
        return f"{subject} waits {ever} for {wait.what}: it holds the only {end} itself{held}."

    # Somebody else

    def _unreaped(self) -> str:
        task = self._last
        ender = next((each for each in task.wait.enders if each.role is Role.PARENT), None)
        threads = [] if ender is None else self._graph.threads(ender.pid)
        parent = f"{who(threads[0])}, its parent," if threads else "its parent"
        does = f", and {_does(threads[0])}" if threads else ""
        ended = f" ({task.wait.note})" if task.wait.note else ""
        said = f"has ended{ended} and is a zombie: {parent} has not waited for it{does}."
        return f"{who(task)} {said}" if self._direct else f"{self._lead()} {said}"

    def _lead(self) -> str:
        if self._direct:
            return who(self._first)
        step, before = self._chain.steps[-1], self._chain.steps[-2].task
        start = f"{who(self._first)} waits for {self._first.wait.what}"
        if len(self._chain.steps) > 2:
            start += f", and in the end for {before.wait.what}"
        return f"{start}: {self._link(step)}"

    def _link(self, step: Step) -> str:
        ender, task = step.ender, who(step.task)
        if ender is None or ender.role not in _LINKS:
            return task
        if ender.held and step.task.ppid not in {each.task.pid for each in self._chain.steps}:
            task = f"{task} (started {span(step.task.age)} ago)"
        return _LINKS[ender.role].format(who=task, fds=_fds(ender))

    def _way(self, end: int | None = None) -> str:
        """The way to a step, up to where its own wait is told."""
        last = len(self._chain.steps) - 1 if end is None else end
        if last == 0:
            return ""
        before = self._chain.steps[last - 1].task
        between = "" if last == 1 else f", and in the end for {before.wait.what}"
        return f"it waits for {self._first.wait.what}{between}; "


_STOPS: Final = frozenset({RootKind.STOPPED, RootKind.FROZEN})


def _waker(task: Task) -> bool:
    """Whether it waits for a word that has no owner, so that another thread would have to wake it."""
    return task.wait.kind not in _TOLD_BY_WAIT and any(ender.role is Role.SIBLING for ender in task.wait.enders)


def _object(task: Task, following: Task) -> str:
    wait = task.wait
    ender = next((each for each in wait.enders if each.able and each.pid == following.pid), None)
    if wait.kind in _TOLD_BY_WAIT:
        return wait.what
    if (wait.kind in LOCKS and not _waker(task)) or (ender is not None and ender.role is Role.LOCK_HOLDER):
        return f"{wait.what}, which {who(following)} has locked"
    if ender is not None and ender.held:
        return f"{wait.what}, whose other end {who(following)} holds{_fds(ender)}"
    if ender is not None and ender.role is Role.SIBLING:
        return f"{wait.what}, for which {who(following)} would have to wake it"
    return f"{wait.what}, which {who(following)} could end"


def _fds(ender: Ender) -> str:
    if not ender.held:
        return ""
    shown = ", ".join(str(held.fd) for held in ender.held[:3])
    return f" (fd {shown}{', …' if len(ender.held) > 3 else ''})"


def _does(task: Task) -> str:
    """What a task does, after its name."""
    wait = task.wait
    if task.ended:
        return "has ended"
    if wait.kind is WaitKind.NOTHING:
        return "runs"
    if wait.kind is WaitKind.STOPPED:
        return f"is stopped, and waits {wait.what}"
    if wait.kind is WaitKind.FROZEN:
        return f"is frozen, and waits for {wait.what}"
    if wait.kind is WaitKind.TIME and wait.what == "time to pass":
        return "sleeps"
    if wait.kind is WaitKind.UNKNOWN:
        return f"is in {wait.what}"
    return f"waits for {wait.what}"


def _tail(task: Task) -> str:
    wait = task.wait
    if wait.ends_in is not None:
        return f", for {span(wait.ends_in)} more at most"
    if wait.timed:
        return ", with a timeout"
    if wait.kind is WaitKind.NOTHING and task.cpu is not None:
        return f" ({span(task.cpu)} of processor time so far)"
    return f" ({wait.note})" if wait.note else ""
