"""The part that is about what tasks share, with whom and how long."""

from __future__ import annotations

from msgspec import Struct

from forklore.abi.units import TaskId
from forklore.events import records as ev
from forklore.export.json_tree.parts import TaskNumber, Time, Word, word
from forklore.model.holds import Hold, How
from forklore.model.sharing import Answer, Change, Observed, Sharing


class SharingObject(Struct, frozen=True):
    """What a task shared."""

    at_creation: list[AnswerObject]
    """For each resource what the call asked for and what was observed right after it."""
    holds: list[HoldObject]
    """For each resource the objects that it held, one after the other."""
    asked_again: list[ChangeObject]
    """What was observed when it could have changed, by exec, unshare, setns or close_range."""

    @classmethod
    def of(cls, task: TaskId, sharing: Sharing, known: dict[int, list[AnswerObject]]) -> SharingObject:
        """All that is known of one task. ``known``: what was made of answers before, kept for who is asked next."""
        answers = sharing.answers.get(task, ())
        # Tasks that were made alike have one tuple of answers, and the trace keeps it.
        at_creation = known.get(id(answers))
        if at_creation is None:
            at_creation = known[id(answers)] = [AnswerObject.of(answer) for answer in answers]
        return cls(
            at_creation,
            [HoldObject.of(hold) for holds in sharing.holdings.holds(task).values() for hold in holds],
            [ChangeObject.of(change) for change in sharing.changes.get(task, ())],
        )


class AnswerObject(Struct, frozen=True, gc=False):
    """A child's and its creator's hold on one resource, right after the creation."""

    resource: str
    """``mm``, ``files``, ``fs``, ``sighand``, ``sysvsem``, ``io``, or a namespace: ``mnt``, ``uts``, ``ipc``, ``net``,
    ``pid``, ``time``, ``user``, ``cgroup``."""
    asked: bool | None
    """Whether the call asked to share it; null where its flags are not known."""
    observed: Observed
    """``shared``, ``separate``, ``both-unset`` (neither task has one), ``unknown``."""
    source: How
    """How that is known: ``kcmp``, ``/proc``, by a ``rule`` of the kernel, or only from the ``flag``."""
    reason: str | None
    """Why it is unknown."""
    sentence: str | None
    """Why what is observed is not what was asked for."""

    @classmethod
    def of(cls, answer: Answer) -> AnswerObject:
        """One of a task's answers."""
        return cls(answer.resource, answer.asked, answer.observed, answer.how, answer.reason, answer.sentence)


class HoldObject(Struct, frozen=True, gc=False):
    """A task's hold on one object of a resource."""

    resource: str
    """As in an [answer](#answer)."""
    group: ev.Id
    """Tasks with the same number of the same resource at the same time share the object."""
    since: Time
    """When the hold began."""
    until: Time
    """When it ended; null: with the trace, or not known."""
    ended_by: str | None
    """``exec``, ``unshare``, ``setns``, ``close_range``, ``exit``."""
    source: How
    """How it is known: ``kcmp``, ``/proc``, ``rule``, ``flag``, as in an [answer](#answer)."""
    inode: Word | None
    """Of a namespace, where it was read."""

    @classmethod
    def of(cls, hold: Hold) -> HoldObject:
        """One of a task's holds."""
        return cls(hold.resource, hold.group, hold.since, hold.until, hold.ended_by, hold.how, word(hold.inode))


class ChangeObject(Struct, frozen=True, gc=False, rename={"other": "with"}):
    """A later moment at which a task's hold changed, or was seen not to."""

    t: Time
    """When it was asked."""
    resource: str
    """As in an [answer](#answer)."""
    cause: str
    """What had happened."""
    other: TaskNumber
    """Who it was compared with."""
    shared: bool | None
    """Whether they still share it."""
    reason: str | None
    """Why that is not known."""

    @classmethod
    def of(cls, change: Change) -> ChangeObject:
        """One of a task's changes."""
        return cls(change.t, change.resource, change.cause, change.other, change.shared, change.reason)
