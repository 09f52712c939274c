"""What running tasks are and share, read from /proc and compared by kcmp(2). Nothing is stopped."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from forklore.abi.errors import errno_name
from forklore.abi.resources import KCMP, NULLABLE
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.features.inspect.inspection import (
    Dropped,
    Elsewhere,
    InspectedThread,
    Inspection,
    compare_all,
    concluded,
    partners,
)
from forklore.linux import kcmp
from forklore.linux import tasks as running


def inspect(named: Sequence[Tid], trees: Sequence[Tid], *, everything: bool, others: bool) -> Inspection:
    """The processes of the ``named`` tasks, and those of ``trees`` with their descendants.

    ``others``: also the processes that share an object with one of these. ``everything``: instead of them all
    processes but the kernel's own threads.
    """
    wanted, lost = (running.all_pids(), []) if everything else _wanted(named, trees)
    processes, gone = _scan(wanted, kernel=not everything)
    dropped = [*lost, *gone]
    tasks = _tasks(processes)
    elsewhere = None
    with kcmp.Unset() as unset:
        comparing = _Comparing(unset)
        if tasks and others and not everything:
            elsewhere, beside = _partners(tasks, comparing)
            more, gone = _scan(beside, kernel=True)
            processes += more
            dropped += gone
            tasks += _tasks(more)
        objects = compare_all(tasks, comparing.compare, comparing.control)
    dropped += _changed(processes, tasks)
    return concluded(tasks, wanted, objects, dropped=dropped, elsewhere=elsewhere)


class _Comparing:
    """kcmp(2) by the name of the object, and the task that has neither SEM_UNDO list nor I/O context."""

    control: Tid | None = None

    def __init__(self, unset: kcmp.Unset) -> None:
        try:
            self.control = unset.control()
        except OSError as problem:
            number = problem.errno or 0
            self._lost = Unavailable(
                number, f"{errno_name(number)}: fork failed, so there is no task to tell unset from shared by"
            )

    def compare(self, name: str, a: Tid, b: Tid) -> int | Unavailable:
        if self.control is None and name in NULLABLE:
            return self._lost
        answer = kcmp.raw(a, b, KCMP[name])
        return answer if answer >= 0 else kcmp.refused(a, b, -answer)


def _wanted(named: Sequence[Tid], trees: Sequence[Tid]) -> tuple[list[Pid], list[Dropped]]:
    found: dict[Pid, None] = {}
    lost = []
    for tid in [*named, *trees]:
        leader = running.leader_of(tid)
        if isinstance(leader, Unavailable):
            lost.append(Dropped(tid, leader.why))
        else:
            found.update(dict.fromkeys(running.descendants(leader) if tid in trees else [leader]))
    return list(found), lost


def _scan(pids: Iterable[Pid], *, kernel: bool) -> tuple[list[running.Process], list[Dropped]]:
    found, dropped = [], []
    for pid in pids:
        process = running.scan(pid)
        if not process.tasks:
            lost = process.lost
            ended = lost is None or lost.errno == errno.ESRCH
            why = "it ended before it was read" if ended or lost is None else lost.why
            dropped.append(Dropped(Tid(int(pid)), why))
        elif kernel or not process.tasks[0].state.flags & running.PF_KTHREAD:
            found.append(process)
    return found, dropped


def _partners(tasks: Sequence[InspectedThread], comparing: _Comparing) -> tuple[Elsewhere, list[Pid]]:
    asked = {task.pid for task in tasks}
    scans = [running.scan(pid, leader_only=True) for pid in running.all_pids() if pid not in asked]
    seen = [each for scan in scans for each in scan.tasks if not each.state.flags & running.PF_KTHREAD]
    others = [task for task in map(_task, seen) if not task.ended]
    found = compare_all([*tasks, *others], comparing.compare, comparing.control)
    refused = sum(task.tid in found["mm"].unknown for task in others)
    comparisons = sum(grouping.comparisons for grouping in found.values())
    beside = partners([task.tid for task in tasks], found)
    return Elsewhere(len(others) - refused, refused, comparisons), [Pid(int(tid)) for tid in beside]


def _tasks(processes: Iterable[running.Process]) -> list[InspectedThread]:
    return [_task(seen) for process in processes for seen in process.tasks]


def _task(seen: running.Seen) -> InspectedThread:
    state, cgroups = seen.state, seen.cgroups
    if not isinstance(cgroups, Unavailable):
        places = tuple((each.hierarchy, each.controllers, each.path) for each in cgroups)
    return InspectedThread(
        tid=state.tid,
        pid=state.tgid,
        ppid=state.ppid,
        name=state.comm,
        uid=state.uid,
        state=state.state,
        marks=state.marks,
        start=state.start,
        ns_tids=state.ns_tids,
        exit_signal=state.exit_signal,
        made_by=seen.made_by,
        in_vfork=seen.in_vfork,
        namespaces=seen.namespaces,
        cgroups=cgroups if isinstance(cgroups, Unavailable) else places,
    )


def _changed(processes: Sequence[running.Process], tasks: Sequence[InspectedThread]) -> list[Dropped]:
    # What was compared meanwhile may have been another task's, in all or in part.
    others = {process.pid for process in processes if not process.is_same()}
    found = []
    for task in tasks:
        now = running.started(task.tid)
        if now is None:
            found.append(Dropped(task.tid, "it ended while it was inspected"))
        elif task.pid in others or now != task.start:
            found.append(Dropped(task.tid, "its number went to another task while it was inspected"))
    return found
