"""What a trace tells about the caller of a refused call, besides what was read at the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.abi.resources import NAMESPACES
from forklore.abi.units import TaskId
from forklore.decode.calls import Call, Unshare
from forklore.decode.unsharing import linked, set_for_children
from forklore.events.records import Standing
from forklore.model.tasks import Task, Trace

if TYPE_CHECKING:
    from collections.abc import Mapping

_CLOSED: Final = "No such file or directory"
"""How the target of a closed descriptor was recorded before its number was."""


class PidNamespace(Struct):
    """A pid namespace that some task's children go to: its init, once there is one."""

    init: TaskId | None = None
    known: bool = True
    """False: it was there before, and its init is outside the trace."""


class ChildNamespaces:
    """Grows with a trace: where the children of its tasks go, as far as that is another place than their own."""

    def __init__(self, trace: Trace, kernel: tuple[int, ...] | None) -> None:
        self._trace = trace
        self._exec_enters = NAMESPACES["time"].entered_by_exec(kernel)
        self._spaces: dict[TaskId, PidNamespace] = {}
        """By the task that unshare or setns sent to it, and what descends from that."""
        self._times: set[TaskId] = set()
        """Tasks whose children go to another time namespace, until they execute."""

    def called(self, task: TaskId, call: Call, target: str | None) -> None:
        """Take a successful call."""
        entered = linked(target)
        for key in set_for_children(call, None if entered is None else entered[0]):
            if key == "time_ns":
                self._times.add(task)
            elif isinstance(call, Unshare):
                self._spaces[task] = PidNamespace()
            else:
                init = None if entered is None else self._init_of(entered[1])
                self._spaces[task] = PidNamespace(init, known=init is not None)

    def created(self, creator: TaskId, child: TaskId) -> None:
        """Take a creation: the first child in a new pid namespace is its init, and a child's children go there too."""
        space = self._spaces.get(creator)
        if space is not None:
            if space.init is None and space.known:
                space.init = child
            self._spaces[child] = space

    def executed(self, task: TaskId) -> None:
        """Take an exec."""
        if self._exec_enters:
            self._times.discard(task)

    def forget(self, task: TaskId) -> None:
        """A task ended and is needed no more."""
        self._spaces.pop(task, None)
        self._times.discard(task)

    def told(self, task: Task, limits: Mapping[str, int], *, one_thread: bool) -> dict[str, int]:
        """``limits``, as read, and what is told of the caller besides, by the names of ``rules.rule.Context``.

        ``one_thread``: for a call that needs a process with one thread, which is looked for.
        """
        found: dict[str, int] = {}
        if one_thread and "threads" not in limits and (threads := self._threads(task)) > 1:
            found["threads"] = threads
        space = self._spaces.get(task.id)
        if space is not None and space.init != task.id:
            init = None if space.init is None else self._trace.tasks.get(space.init)
            if space.init is None and space.known:
                found["init_ended"] = 0
            elif init is not None:
                found["init_ended"] = int(init.death is not None or init.gone is not None)
        if task.id in self._times:
            found["time_pending"] = 1
        return {**found, **limits}

    def _threads(self, task: Task) -> int:
        # Of all tasks those that count are few: the leader and who has it for a leader.
        leader = self._trace.tasks.get(task.leader) if task.leader is not None else None
        if leader is None:
            return 0
        alive, waiting = 0, [leader.id]
        while waiting:
            member = self._trace.tasks.get(waiting.pop())
            if member is None or member.leader != leader.id:
                continue
            alive += member.death is None and member.gone is None
            waiting.extend(member.children)
        return alive

    def _init_of(self, inode: int) -> TaskId | None:
        for task in self._trace.tasks.values():
            known = task.standing.namespaces if isinstance(task.standing, Standing) else None
            if task.ns_tids[-1:] == (1,) and known is not None and known.get("pid") == inode:
                return task.id
        return None


def target_of(target: str | None) -> tuple[str | None, dict[str, int]]:
    """What a setns was about as a trace has it, and what that says of the descriptor."""
    if target is not None and target.startswith("/proc/") and target.endswith(_CLOSED):
        return None, {"fd_open": 0}
    return target, {}
