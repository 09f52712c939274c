"""What tasks share, for how long, and how that is known: what the events of a trace say of who holds what."""

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
from forklore.decode.unsharing import ended_by, linked, set_for_children
from forklore.events import records as ev
from forklore.model.holds import RESOURCES, First, Firsts, Holdings, How

Observed = Literal["shared", "separate", "both-unset", "unknown"]


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
        self.holdings: Final = Holdings()
        self.answers: dict[TaskId, tuple[Answer, ...]] = {}
        self.changes: dict[TaskId, list[Change]] = defaultdict(list)
        self._by_inode: dict[tuple[str, int], int] = {}
        self._for_children: dict[tuple[TaskId, str], int] = {}
        """The groups that a task's next children enter, where that need not be its own; 0: one that none is in yet."""
        self._made: dict[TaskId, tuple[tuple[Answer, ...], Firsts]] = {}
        """What a living task's last child began with, for the next one that is made alike."""

    def began(
        self, task: TaskId, t: Nanoseconds | None, standing: ev.Standing | None, together: dict[str, int] | None = None
    ) -> None:
        """A task of unknown creation: it holds what it was seen to hold with others, else objects of its own."""
        firsts: list[First] = []
        for resource in RESOURCES:
            other = (together or {}).get(resource)
            if other is None or other == task:
                how: How = "rule" if other is None else "kcmp"
                firsts.append(self._another(resource, how, self._inode(standing, resource)))
            else:
                firsts.append(self._same(TaskId(other), resource, "kcmp", None))
        self.holdings.begin(task, t, firsts)

    def created(self, task: TaskId, creator: TaskId, creation: Creation, event: ev.Create) -> None:
        """A child's holds at its creation, by what was observed and else by rule."""
        t = None if event.t is None else Nanoseconds(event.t)
        standing = event.standing if isinstance(event.standing, ev.Standing) else None
        flags = creation.flags.raw
        by_rule = (standing is None or standing.namespaces is None) and not self._for_children
        if by_rule:
            answers = _answers_by_rule(flags, event.kcmp)
            alike = self._made.get(creator)
            if alike is not None and alike[0] is answers:
                self.answers[task] = answers
                self.holdings.begin_alike(task, t, alike[1])
                return
        else:
            told = [self._namespace(creator, creation, standing, name) for name in NAMESPACES]
            answers = (*object_answers(flags, event.kcmp), *told)
        self.answers[task] = answers
        if creator not in self.holdings:
            self.holdings.begin(creator, t, [(None, "rule", None)] * len(RESOURCES))
        init = event.ns_tids is not None and event.ns_tids[-1:] == [1]  # of a new pid namespace (pid_namespaces(7))
        firsts = self.holdings.begin(
            task, t, [self._first(creator, answer, self._inode(standing, answer.resource), init) for answer in answers]
        )
        if by_rule and not self.holdings.over(creator):
            self._made[creator] = answers, firsts

    def _first(self, creator: TaskId, answer: Answer, inode: int | None, init: bool) -> First:
        resource = answer.resource
        if answer.observed == "shared":
            return self._same(creator, resource, answer.how, inode)
        if answer.observed == "unknown" and answer.asked:
            return self._same(creator, resource, "flag", inode)
        if answer.asked and answer.how == "rule":
            return self._set_for_children(creator, resource), "rule", inode
        fresh = answer.asked is False or (resource == "pid" and init)
        return self._another(resource, answer.how, inode, fresh=fresh)

    def _namespace(
        self, creator: TaskId, creation: Creation, standing: ev.Standing | None, name: str
    ) -> Answer:
        new = creation.flags.has(NAMESPACES[name].new_by)
        asked = None if new is None else not new
        inode = self._inode(standing, name)
        theirs = self.holdings.inode(creator, name)
        if inode is None or theirs is None:
            problem = None if standing is None or standing.namespaces is None else standing.namespaces.get(name)
            if isinstance(problem, Unavailable):
                return Answer(name, asked, "unknown", "/proc", problem.why)
            # But for what was set for children; a thread stays with its process.
            later = self._for_children.get((creator, name))
            if asked and not creation.is_thread and later not in (None, self.holdings.group(creator, name)):
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

    def _another(self, resource: str, how: How, inode: int | None, *, fresh: bool = False) -> First:
        return None if inode is None else self._namespace_group(resource, inode, fresh=fresh), how, inode

    def _same(self, other: TaskId, resource: str, how: How, inode: int | None) -> First:
        group = self.holdings.enterable(other, resource)
        return group, how, inode if inode is not None else self.holdings.inode(other, resource)

    def _namespace_group(self, resource: str, inode: int, *, fresh: bool = False) -> int:
        # A namespace that others were seen in is known by its inode, as long as it lives: the kernel gives the number
        # of one that is gone to the next (fs/proc/generic.c: proc_alloc_inum). A ``fresh`` one is certainly another.
        group = None if fresh else self._by_inode.get((resource, inode))
        group = self._by_inode[resource, inode] = self.holdings.new_group() if group is None else group
        return group

    def _set_for_children(self, task: TaskId, name: str) -> int:
        group = self._for_children[task, name] or self.holdings.new_group()
        self._for_children[task, name] = group
        return group

    def executed(self, task: TaskId, event: ev.Exec) -> None:
        """execve: a new memory and, where they were shared, a new descriptor table and new handlers."""
        t = None if event.t is None else Nanoseconds(event.t)
        self._asked_again(task, event.t, "exec", event.compared)
        for name in NAMESPACES:
            inode = self._inode(event.standing, name)
            self._namespace_again(task, name, event.t, "exec", inode)
            if name in self._entered_by_exec and (task, name) in self._for_children:
                if inode is None and not self.holdings.over(task):
                    self._move(task, name, t, "exec", (self._set_for_children(task, name), "rule", None))
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
        if (inode is None and not moved) or self.holdings.over(task):
            return
        before = self.holdings.inode(task, name)
        if inode is None:
            self._leave(task, name, at, cause, "rule")
        elif before is None and not moved:
            self._by_inode.setdefault((name, inode), self.holdings.learn(task, name, inode))
            self._made.pop(task, None)
        elif before != inode:
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
            if self.holdings.shared(task, resource):
                self._leave(task, resource, at, cause, "rule")

    def _leave(
        self, task: TaskId, resource: str, at: int | None, cause: str, how: How, inode: int | None = None, *,
        fresh: bool = False,
    ) -> None:  # fmt: skip
        if not self.holdings.over(task):
            t = None if at is None else Nanoseconds(at)
            self._move(task, resource, t, cause, self._another(resource, how, inode, fresh=fresh))

    def _move(self, task: TaskId, resource: str, t: Nanoseconds | None, cause: str, to: First) -> None:
        self.holdings.move(task, resource, t, cause, to)
        self._made.pop(task, None)

    def ended(self, task: TaskId, at: int | None) -> None:
        """A task's end is the end of all it holds."""
        self.holdings.end(task, None if at is None else Nanoseconds(at))
        self._made.pop(task, None)
        if self._for_children:
            for resource in RESOURCES:
                self._for_children.pop((task, resource), None)

    def forget(self, task: TaskId) -> None:
        """Nothing is asked any more of a task that ended."""
        self.holdings.forget(task)
        self.answers.pop(task, None)
        self.changes.pop(task, None)


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
