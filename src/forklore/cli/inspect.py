"""``forklore inspect``."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Iterable, Sequence

from forklore.abi.errors import errno_name
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.cli.common import add_color_argument, columns, positive, wants_color
from forklore.cli.main import complain
from forklore.features.inspect import inspection as made
from forklore.features.inspect.inspection import Dropped, Elsewhere, Inspection, Task
from forklore.linux import kcmp
from forklore.linux import tasks as running
from forklore.linux.observe import RESOURCES

HELP = """\
Show what running tasks share right now: memory, descriptors, working directory,
signal handlers, semaphore undo, I/O context, namespaces and cgroups. Nothing is
traced or stopped; tasks are compared by kcmp(2) and read from /proc.
"""
EPILOG = """\
Processes that share an object with those asked for are found and shown too, unless
--only is given. What may not be read is "unknown", with the kernel's reason.

exit status: 0; 1 if none of the processes could be found

examples:
  forklore inspect 4711
  forklore inspect --tree $$
  sudo forklore inspect --all
  forklore inspect --format json 4711 | jq '.between'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore inspect``."""
    parser.add_argument("pid", nargs="*", type=positive, metavar="PID", help="a process, or a thread of it")
    parser.add_argument(
        "--tree", type=positive, action="append", default=[], metavar="PID", help="a process and its descendants"
    )
    parser.add_argument("--all", action="store_true", help="every process but the kernel's own threads")
    parser.add_argument("--only", action="store_true", help="do not look for others that share something with them")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="for people or for programs")
    view = parser.add_argument_group("the text")
    view.add_argument(
        "--columns", type=positive, metavar="N", help="as wide as that (default: the terminal, $COLUMNS, else 80)"
    )
    view.add_argument("--each", action="store_true", help="every task on a line of its own, whatever their number")
    add_color_argument(view)


def run(arguments: argparse.Namespace) -> int:
    """Inspect and print; the exit status."""
    if not (arguments.pid or arguments.tree or arguments.all):
        complain("inspect: name a PID, or give --tree PID or --all (see: forklore inspect --help)")
        return 2
    inspection = _inspect(arguments)
    for dropped in inspection.dropped:
        if not inspection.tasks or dropped.tid in _named(arguments):
            complain(f"{dropped.tid}: {dropped.why}")
    if arguments.format == "json":
        from forklore.features.inspect.text import to_json

        sys.stdout.buffer.write(to_json(inspection))
    elif inspection.tasks:
        from forklore.features.inspect.text import lines
        from forklore.report.styled_lines import write

        view = lines(inspection, columns(arguments, sys.stdout), each=arguments.each)
        write(view, sys.stdout, color=wants_color(arguments.color, sys.stdout))
    return 0 if inspection.tasks else 1


def _named(arguments: argparse.Namespace) -> set[int]:
    return {*arguments.pid, *arguments.tree}


def _inspect(arguments: argparse.Namespace) -> Inspection:
    wanted, lost = _wanted(arguments)
    processes, gone = _scan(wanted, kernel=not arguments.all)
    dropped = [*lost, *gone]
    tasks = _tasks(processes)
    elsewhere = None
    with kcmp.Unset() as unset:
        comparing = _Comparing(unset)
        if tasks and not (arguments.only or arguments.all):
            elsewhere, beside = _partners(tasks, comparing)
            more, gone = _scan(beside, kernel=True)
            processes += more
            dropped += gone
            tasks += _tasks(more)
        objects = made.compare_all(tasks, comparing.compare, comparing.control)
    dropped += _changed(processes, tasks)
    return made.inspect(tasks, wanted, objects, dropped=dropped, elsewhere=elsewhere)


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
        if self.control is None and name in made.NULLABLE:
            return self._lost
        answer = kcmp.raw(a, b, RESOURCES[name])
        return answer if answer >= 0 else kcmp.refused(a, b, -answer)


def _wanted(arguments: argparse.Namespace) -> tuple[list[Pid], list[Dropped]]:
    if arguments.all:
        return running.all_pids(), []
    found: dict[Pid, None] = {}
    lost = []
    for number in [*arguments.pid, *arguments.tree]:
        leader = running.leader_of(Tid(number))
        if isinstance(leader, Unavailable):
            lost.append(Dropped(Tid(number), leader.why))
        else:
            several = running.descendants(leader) if number in arguments.tree else [leader]
            found.update(dict.fromkeys(several))
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


def _partners(tasks: Sequence[Task], comparing: _Comparing) -> tuple[Elsewhere, list[Pid]]:
    asked = {task.pid for task in tasks}
    scans = [running.scan(pid, leader_only=True) for pid in running.all_pids() if pid not in asked]
    seen = [each for scan in scans for each in scan.tasks if not each.state.flags & running.PF_KTHREAD]
    others = [task for task in map(_task, seen) if not task.ended]
    found = made.compare_all([*tasks, *others], comparing.compare, comparing.control)
    refused = sum(task.tid in found["mm"].unknown for task in others)
    comparisons = sum(grouping.comparisons for grouping in found.values())
    beside = made.partners([task.tid for task in tasks], found)
    return Elsewhere(len(others) - refused, refused, comparisons), [Pid(int(tid)) for tid in beside]


def _tasks(processes: Iterable[running.Process]) -> list[Task]:
    return [_task(seen) for process in processes for seen in process.tasks]


def _task(seen: running.Seen) -> Task:
    state, cgroups = seen.state, seen.cgroups
    if not isinstance(cgroups, Unavailable):
        places = tuple((each.hierarchy, each.controllers, each.path) for each in cgroups)
    return Task(
        tid=state.tid,
        pid=state.tgid,
        ppid=state.ppid,
        name=state.comm,
        uid=state.uid,
        state=state.state,
        start=state.start,
        ns_tids=state.ns_tids,
        exit_signal=state.exit_signal,
        made_by=seen.made_by,
        in_vfork=seen.in_vfork,
        namespaces=seen.namespaces,
        cgroups=cgroups if isinstance(cgroups, Unavailable) else places,
    )


def _changed(processes: Sequence[running.Process], tasks: Sequence[Task]) -> list[Dropped]:
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
