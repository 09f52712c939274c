"""Where a new task belongs: to which thread group, and who waits for that (kernel/fork.c: copy_process)."""

from __future__ import annotations

from typing import Generic, TypeVar

from msgspec import Struct

from forklore.abi.flags import CLONE_PARENT, CLONE_THREAD

Who = TypeVar("Who")


class Lineage(Struct, Generic[Who], frozen=True, gc=False):
    """A new task's place among the others, each named as the caller of :func:`lineage` names them."""

    thread: bool
    """Whether it joins its creator's thread group."""
    group: Who
    """Its thread group."""
    parent: Who | None
    """The thread group that waits for its own; None where that is not known of its creator's."""


def lineage(flags: int, child: Who, group: Who, parent: Who | None) -> Lineage[Who]:
    """The place of ``child``, made with ``flags`` by a task of ``group``, for which ``parent`` waits.

    A thread group goes by anything that is its own: its tgid, its leader, an object. ``child`` is what a group of the
    child's own goes by. ``flags`` are without the exit signal; 0 where they are not known.
    """
    if flags & CLONE_THREAD:
        return Lineage(True, group, parent)
    return Lineage(False, child, parent if flags & CLONE_PARENT else group)
