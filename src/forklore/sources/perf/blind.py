"""What the perf engine cannot see: refused where it is asked for, and named in each trace's header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forklore.events import records as ev
from forklore.sources.ptrace.options import Observe, Options

if TYPE_CHECKING:
    from forklore.linux.perf.tasks import TaskRecords


def refusal(options: Options) -> str | None:
    """Why the engine cannot serve these options; None where it can."""
    asked = [
        name
        for name, wanted in (
            ("--cow", options.cow), ("--vfork-writes", options.vfork_writes), ("--env", options.env),
            ("--observe full", options.observe is Observe.FULL), ("--stops", options.stops is not None),
        )
        if wanted
    ]  # fmt: skip
    if not asked:
        return None
    return f"{' and '.join(asked)} asks for what perf's records do not have: --engine ptrace does"


def blind(options: Options, records: TaskRecords) -> list[ev.Blind]:
    """What a trace by this engine does not have, and why."""
    no_record = "perf's records do not have it"
    found = [
        ev.Blind("what tasks share, namespaces, credentials", no_record),
        ev.Blind("arguments of execs", no_record),
        ev.Blind("how tasks end, but for the program itself", "PERF_RECORD_EXIT says when, not how"),
        ev.Blind("creations and execs that fail, unshare, setns, close_range, setsid", "nothing is recorded of them"),
        ev.Blind("who makes a task: call, call stack, what threads run", no_record),
        ev.Blind("pids in other pid namespaces than forklore's own", no_record),
        ev.Blind("processor time, descriptors, zombies, stops by job control, signals", no_record),
    ]
    if not records.flags_told:
        why = records.why_no_tracepoints
        found.append(ev.Blind("flags of creations, and when a vfork's creator goes on", why))
        found.append(
            ev.Blind("children for which another process than their creator waits (CLONE_PARENT)",
                     f"{why}; the record of its end names who waits for a process, and no earlier one does")
        )  # fmt: skip
    if not records.paths_told:
        found.append(ev.Blind("paths as they were given to execs", records.why_no_tracepoints))
    if not records.whole_machine:
        found.append(
            ev.Blind("set-id programs after their exec, and what they make", "the kernel takes the events away then")
        )
    if options.follow != "all":
        found.append(ev.Blind("what tasks do that are not followed", f"--follow {options.follow}"))
    if options.max_depth is not None:
        found.append(ev.Blind(f"what tasks do deeper than {options.max_depth}", "--max-depth"))
    return found
