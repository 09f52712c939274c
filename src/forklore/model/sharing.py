"""What tasks share, for how long, and how that is known: groups of tasks that hold one object, over time.

A task's hold on a resource is a list of :class:`Hold`, one after the other, each in one group. All tasks in a group at
one time share the object. Groups have numbers within a trace; views give them letters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

from msgspec import Struct

from forklore.abi.errors import errno_name
from forklore.abi.flags import UNSHARE
from forklore.abi.kcmp import UNSET, Order
from forklore.abi.resources import BY_KEY, EXEC_ENDS, NAMESPACES, OBJECTS, Resource
from forklore.abi.units import Nanoseconds, TaskId, Unavailable
from forklore.decode.calls import Call
from forklore.decode.creation import Creation
from forklore.decode.flagset import flag_set
from forklore.decode.holders import Holders
from forklore.decode.unsharing import ended_by, linked, set_for_children
from forklore.events import records as ev

Observed = Literal["shared", "separate", "both-unset", "unknown"]
How = Literal["kcmp", "/proc", "rule", "flag"]
"""How a hold is known: observed by kcmp(2) or /proc, derived from a named rule, or only asked for by a flag."""

RESOURCES: Final = (*OBJECTS, *NAMESPACES)
"""Every resource that tasks are grouped by, in the order in which views show them."""


class Hold(Struct, gc=False):
    """One task's hold on one object of a resource. ``until`` None: to the end of the trace, or not known."""

    resource: str
    group: int
    since: Nanoseconds | None
    how: How
    until: Nanoseconds | None = None
    ended_by: str | None = None
    """exec, unshare, setns, close_range, exit: what ended it."""
    inode: int | None = None
    """Of a namespace, where it was read."""


class Answer(Struct, frozen=True, gc=False):
    """A child's and its creator's hold on one resource, right after the creation."""

    resource: str
    asked: bool | None
    """Whether the call asked to share it; None where its flags are not known."""
    observed: Observed
    how: How
    reason: str | None = None
    """Why it is unknown."""
    sentence: str | None = None
    """Why what is observed is not what was asked for."""

    @property
    def differs(self) -> bool:
        """Whether the kernel did something else than the flags say at first sight."""
        return self.sentence is not None


class Change(Struct, frozen=True, gc=False):
    """A later moment at which a task's hold changed, or was seen not to."""

    t: Nanoseconds | None
    resource: str
    cause: str
    shared: bool | None
    """Whether it still shares with the task it was compared with; None: could not be asked."""
    other: TaskId
    reason: str | None = None


@lru_cache(maxsize=4096)
def object_answers(flags: int | None, kcmp: tuple[int, ...] | Unavailable | None) -> tuple[Answer, ...]:
    """What a call with ``flags`` asked for and kcmp(2) saw, for each object."""
    return tuple(_object_answer(flags, kcmp, index, each) for index, each in enumerate(OBJECTS.values()))


def _object_answer(flags: int | None, kcmp: tuple[int, ...] | Unavailable | None, index: int, what: Resource) -> Answer:
    name = what.name
    asked = None if flags is None else bool(flags & what.shared_by)
    if kcmp is None or isinstance(kcmp, Unavailable):
        return Answer(name, asked, "unknown", "flag", "not compared" if kcmp is None else kcmp.why)
    answer = kcmp[index]
    if answer < 0:
        return Answer(name, asked, "unknown", "kcmp", f"{errno_name(-answer)} from kcmp(2)")
    if answer == UNSET:
        return Answer(name, asked, "both-unset", "kcmp", None, _UNSET_SENTENCES.get(name) if asked else None)
    shared = answer == Order.EQUAL
    sentence = None
    if asked is not None and asked != shared:
        sentence = "shared, though the call did not ask for it" if shared else "asked for, and yet not shared"
    return Answer(name, asked, "shared" if shared else "separate", "kcmp", None, sentence)


@lru_cache(maxsize=4096)
def _answers_by_rule(flags: int | None, kcmp: tuple[int, ...] | Unavailable | None) -> tuple[Answer, ...]:
    # One tuple for all tasks that were made alike: there can be very many.
    return (*object_answers(flags, kcmp), *(_namespace_by_rule(flags, name) for name in NAMESPACES))


def _namespace_by_rule(flags: int | None, name: str) -> Answer:
    # kernel/nsproxy.c: copy_namespaces shares all that no CLONE_NEW* names.
    if flags is None:
        return Answer(name, None, "unknown", "flag", "its flags are not known")
    new = bool(flags & NAMESPACES[name].new_by)
    return Answer(name, not new, "separate" if new else "shared", "rule")


class Sharing:
    """Grows with the events of a trace. Everything here is by task number and resource."""

    def __init__(self, kernel: tuple[int, ...] | None = None) -> None:
        """``kernel``: its version, where that is known."""
        self._entered_by_exec = [name for name, each in NAMESPACES.items() if each.entered_by_exec(kernel)]
        self.holds: dict[TaskId, dict[str, list[Hold]]] = defaultdict(dict)
        self.answers: dict[TaskId, tuple[Answer, ...]] = {}
        self.changes: dict[TaskId, list[Change]] = defaultdict(list)
        self._members: dict[int, set[TaskId]] = defaultdict(set)
        self._holders: Holders[str, TaskId] = Holders()
        self._by_inode: dict[tuple[str, int], int] = {}
        self._for_children: dict[tuple[TaskId, str], int] = {}
        """The groups that a task's next children enter, where that need not be its own; 0: one that none is in yet."""
        self._last = 0

    def current(self, task: TaskId, resource: str) -> Hold | None:
        """The hold that a task has now; None once it has ended, or where nothing is known."""
        holds = self.holds[task].get(resource)
        return holds[-1] if holds and holds[-1].until is None and holds[-1].ended_by is None else None

    def partners(self, task: TaskId, resource: str) -> frozenset[TaskId]:
        """Who shares the resource with a task now, as far as is known."""
        return self._holders.others(task, resource)

    def began(
        self, task: TaskId, t: Nanoseconds | None, standing: ev.Standing | None, together: dict[str, int] | None = None
    ) -> None:
        """A task of unknown creation: it holds what it was seen to hold with others, else objects of its own."""
        for resource in RESOURCES:
            other = (together or {}).get(resource)
            if other is None or other == task:
                how: How = "rule" if other is None else "kcmp"
                self._enter(task, resource, t, how, self._inode(standing, resource))
            else:
                self._join(task, TaskId(other), resource, t, "kcmp", None)

    def created(self, task: TaskId, creator: TaskId, creation: Creation, event: ev.Create) -> None:
        """A child's holds at its creation, by what was observed and else by rule."""
        t = None if event.t is None else Nanoseconds(event.t)
        standing = event.standing if isinstance(event.standing, ev.Standing) else None
        flags = creation.flags.raw
        if (standing is None or standing.namespaces is None) and not self._for_children:
            answers = _answers_by_rule(flags, event.kcmp)
        else:
            told = [self._namespace(creator, creation, standing, name) for name in NAMESPACES]
            answers = (*object_answers(flags, event.kcmp), *told)
        self.answers[task] = answers
        init = event.ns_tids is not None and event.ns_tids[-1:] == [1]  # of a new pid namespace (pid_namespaces(7))
        for answer in answers:
            inode = self._inode(standing, answer.resource)
            if answer.observed == "shared":
                self._join(task, creator, answer.resource, t, answer.how, inode)
            elif answer.observed == "unknown" and answer.asked:
                self._join(task, creator, answer.resource, t, "flag", inode)
            elif answer.asked and answer.how == "rule":
                self._add(task, answer.resource, self._set_for_children(creator, answer.resource), t, "rule", inode)
            else:
                fresh = answer.asked is False or (answer.resource == "pid" and init)
                self._enter(task, answer.resource, t, answer.how, inode, fresh=fresh)

    def _namespace(
        self, creator: TaskId, creation: Creation, standing: ev.Standing | None, name: str
    ) -> Answer:
        new = creation.flags.has(NAMESPACES[name].new_by)
        asked = None if new is None else not new
        inode = self._inode(standing, name)
        holds = self.holds[creator].get(name)
        theirs = holds[-1].inode if holds else None
        if inode is None or theirs is None:
            problem = None if standing is None or standing.namespaces is None else standing.namespaces.get(name)
            if isinstance(problem, Unavailable):
                return Answer(name, asked, "unknown", "/proc", problem.why)
            # But for what was set for children; a thread stays with its process.
            own = holds[-1].group if holds else None
            if asked and not creation.is_thread and self._for_children.get((creator, name), own) != own:
                return Answer(name, asked, "separate", "rule", None, _PENDING[name])
            return _namespace_by_rule(creation.flags.raw, name)
        shared = inode == theirs
        sentence = None
        if asked is not None and asked != shared:
            sentence = _PENDING.get(name, "another namespace than the flags ask for") if asked else (
                "a new namespace was asked for, and the child is in its creator's"
            )
        return Answer(name, asked, "shared" if shared else "separate", "/proc", None, sentence)

    @staticmethod
    def _inode(standing: ev.Standing | Unavailable | None, name: str) -> int | None:
        if not isinstance(standing, ev.Standing) or standing.namespaces is None:
            return None
        inode = standing.namespaces.get(name)
        return inode if isinstance(inode, int) else None

    def _enter(
        self, task: TaskId, resource: str, t: Nanoseconds | None, how: How, inode: int | None, *, fresh: bool = False
    ) -> None:
        self._add(task, resource, self._group(resource, inode, fresh=fresh), t, how, inode)

    def _group(self, resource: str, inode: int | None, *, fresh: bool = False) -> int:
        # A namespace that others were seen in is known by its inode, as long as it lives: the kernel gives the number
        # of one that is gone to the next (fs/proc/generic.c: proc_alloc_inum). A ``fresh`` one is certainly another.
        group = None if inode is None or fresh else self._by_inode.get((resource, inode))
        if group is None:
            self._last += 1
            group = self._last
        if inode is not None:
            self._by_inode[resource, inode] = group
        return group

    def _set_for_children(self, task: TaskId, name: str) -> int:
        group = self._for_children[task, name] or self._group(name, None)
        self._for_children[task, name] = group
        self._members[group]  # for who enters next
        return group

    def _join(
        self, task: TaskId, other: TaskId, resource: str, t: Nanoseconds | None, how: How, inode: int | None
    ) -> None:
        holds = self.holds[other].get(resource)
        if not holds:
            self._enter(other, resource, t, "rule", None)
            holds = self.holds[other][resource]
        self._known(other, resource)
        self._add(task, resource, holds[-1].group, t, how, inode if inode is not None else holds[-1].inode)

    def _known(self, task: TaskId, resource: str) -> None:
        # Others may enter the task's group from now on. Most groups have one member for ever, and no set.
        hold = self.current(task, resource)
        if hold is not None and hold.group not in self._members:
            self._holders.enter(task, resource, self._members[hold.group])

    def _add(
        self, task: TaskId, resource: str, group: int, t: Nanoseconds | None, how: How, inode: int | None
    ) -> None:
        if inode is not None or group in self._members:
            self._holders.enter(task, resource, self._members[group])
        else:
            self._holders.leave(task, resource)
        hold = Hold(resource, group, t, how, None, None, inode)
        before = self.holds[task].setdefault(resource, [hold])
        if before[-1] is not hold:
            before.append(hold)

    def executed(self, task: TaskId, event: ev.Exec) -> None:
        """execve: a new memory and, where they were shared, a new descriptor table and new handlers."""
        t = None if event.t is None else Nanoseconds(event.t)
        self._asked_again(task, event.t, "exec", event.compared)
        for name in NAMESPACES:
            inode = self._inode(event.standing, name)
            self._namespace_again(task, name, event.t, "exec", inode)
            if name in self._entered_by_exec and (task, name) in self._for_children:
                if inode is None:
                    self._end(task, name, t, "exec")
                    self._add(task, name, self._set_for_children(task, name), t, "rule", None)
                del self._for_children[task, name]
        self._by_rule(task, event.t, "exec", [name for name in EXEC_ENDS if name not in event.compared])

    def called(self, task: TaskId, event: ev.Other, call: Call, cause: str) -> None:
        """unshare, setns or close_range, as it was observed right after, and else by rule."""
        if event.result is None or event.result < 0:
            return
        link = linked(event.target)
        kind = link[0] if link else None
        entered = dict([link] if link else ())
        ended = {BY_KEY[key].name for key in ended_by(call, kind) if key in BY_KEY}
        self._asked_again(task, event.t, cause, event.compared)
        for name in NAMESPACES:
            moved = name in ended
            seen = self._inode(event.standing, name)
            inode = entered.get(name) if moved and seen is None else seen
            self._namespace_again(task, name, event.t, cause, inode, moved=moved)
        self._by_rule(task, event.t, cause, [name for name in OBJECTS if name in ended and name not in event.compared])
        for key in set_for_children(call, kind):
            name = BY_KEY[key].name
            self._for_children[task, name] = self._by_inode.get((name, entered.get(name, 0)), 0)

    def _namespace_again(
        self, task: TaskId, name: str, at: int | None, cause: str, inode: int | None, *, moved: bool = False
    ) -> None:
        # ``moved``: the task is in another one by rule.
        hold = self.current(task, name)
        if hold is None:
            return
        if inode is None:
            if moved:
                self._leave(task, name, at, cause, "rule")
        elif hold.inode is None and not moved:
            hold.inode = inode
            self._by_inode.setdefault((name, inode), hold.group)
            self._known(task, name)
        elif hold.inode != inode:
            self._leave(task, name, at, cause, "/proc", inode, fresh=cause == "unshare")

    def _asked_again(
        self, task: TaskId, at: int | None, cause: str, compared: dict[str, tuple[int, int]]
    ) -> None:
        t = None if at is None else Nanoseconds(at)
        for resource, (other, answer) in compared.items():
            shared = None if answer < 0 else answer in (Order.EQUAL, UNSET)
            reason = f"{errno_name(-answer)} from kcmp(2)" if answer < 0 else None
            self.changes[task].append(Change(t, resource, cause, shared, TaskId(other), reason))
            if shared is False:
                self._leave(task, resource, at, cause, "kcmp")

    def _by_rule(self, task: TaskId, at: int | None, cause: str, ended: Iterable[str]) -> None:
        # ``ended``: objects that the task has to itself now, if it shared them.
        for resource in ended:
            if len(self._holders.of(task).get(resource, ())) > 1:
                self._leave(task, resource, at, cause, "rule")

    def _leave(
        self, task: TaskId, resource: str, at: int | None, cause: str, how: How, inode: int | None = None, *,
        fresh: bool = False,
    ) -> None:  # fmt: skip
        t = None if at is None else Nanoseconds(at)
        self._end(task, resource, t, cause)
        self._enter(task, resource, t, how, inode, fresh=fresh)

    def _end(self, task: TaskId, resource: str, t: Nanoseconds | None, cause: str) -> None:
        hold = self.current(task, resource)
        if hold is not None:
            hold.until, hold.ended_by = t, cause
            self._holders.leave(task, resource)

    def ended(self, task: TaskId, at: int | None) -> None:
        """A task's end is the end of all it holds."""
        t = None if at is None else Nanoseconds(at)
        for resource in self.holds[task]:
            self._end(task, resource, t, "exit")
            self._for_children.pop((task, resource), None)
        self._holders.end(task)


_UNSET_SENTENCES: Final = {
    "io": "CLONE_IO shares an I/O context only if the caller has one, and it had none (block/blk-ioc.c: __copy_io)",
    "sysvsem": "neither has a list of semaphore undos",
}
_PENDING: Final = {
    name: f"the creator had called unshare({flag_set(UNSHARE, each.new_by).text()}) or setns: its children enter"
    f" another {name} namespace than its own"
    for name, each in NAMESPACES.items()
    if each.later
}
