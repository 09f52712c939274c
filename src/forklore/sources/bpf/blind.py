"""What the bpf engine cannot see: refused where it is asked for, and named in each trace's header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forklore.events import records as ev
from forklore.sources.ptrace.options import Options

if TYPE_CHECKING:
    from forklore.sources.bpf.kernel import Events


def refusal(options: Options) -> str | None:
    """Why the engine cannot serve these options; None where it can."""
    asked = [name for name, wanted in (("--cow", options.cow), ("--vfork-writes", options.vfork_writes)) if wanted]
    if asked:
        return f"{' and '.join(asked)} needs tasks that are held, and the bpf engine holds none: --engine ptrace does"
    if options.stops is not None:
        return "--stops says how a task is stopped, and the bpf engine stops none: --engine ptrace does"
    return None


def blind(options: Options, events: Events) -> list[ev.Blind]:
    """What a trace by this engine does not have, and why."""
    without = events.without
    no_hold = "the bpf engine holds no task"
    found = [
        ev.Blind("pages that are copied on write, bytes that children change in borrowed memory", no_hold),
        ev.Blind("the descriptors that survive an exec", f"{no_hold} while they could be read"),
        ev.Blind("when an exec was called", "its record is made when it can fail no more"),
        ev.Blind(
            "frames of Python whose process is gone when its names are read, or was just begun; what threads of Rust"
            " and std::thread run behind their libraries",
            "their memory has gone on when it could be read",
        ),
        ev.Blind("command lines that processes write for themselves", no_hold),
        ev.Blind("when the status of a zombie is taken", "no program sees the calls that wait"),
        ev.Blind("processor time and memory of each process", "a task's end comes before its account"),
        ev.Blind("stops by job control of children whose parent does not want to know", "SIGCHLD tells of the others"),
    ]
    if events.calls_seen_by == "nothing":
        found.append(
            ev.Blind("creations and execs that fail, unshare, setns, close_range, setsid", events.unseen_because)
        )
    if "late arguments" in without:
        found.append(
            ev.Blind(
                "the first argument of scripts, as it was given",
                "before Linux 6.10 arguments can be read only from the new memory",
                changed=True,
            )
        )
    if options.follow != "all":
        found.append(ev.Blind("what tasks do that are not followed", f"--follow {options.follow}"))
    if options.max_depth is not None:
        found.append(ev.Blind(f"what tasks do deeper than {options.max_depth}", "--max-depth"))
    return found
