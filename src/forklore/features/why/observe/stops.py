"""Tasks that somebody has stopped: job control, a tracer, a frozen control group."""

from __future__ import annotations

from typing import Final

from forklore.abi.text import printable
from forklore.abi.units import Tid, Unavailable, signed
from forklore.decode.waits.calls import CALLS, Waits
from forklore.features.why.graph import Ender, Role, Wait, WaitKind
from forklore.features.why.observe.machine import Machine
from forklore.linux.waits import tables
from forklore.linux.waits.look import Look, RawCall

_TTY: Final = (b"/dev/pts/", b"/dev/tty", b"/dev/console")


def stop(machine: Machine, task: Look, call: tuple[str, str] | None) -> Wait | None:
    """Why a task is stopped; None: it is not."""
    if task.state == "t":
        tracer = machine.look(Tid(int(task.tracer))) if task.tracer else None
        if tracer is None or isinstance(tracer, Unavailable):
            return Wait(WaitKind.TRACED, "its tracer, which has stopped it", beyond="its tracer")
        return Wait(WaitKind.TRACED, f"its tracer {tracer.pid} {printable(tracer.name)}, which has stopped it",
                    (Ender(tracer.pid, None, Role.TRACER),), beyond="SIGKILL, and its tracer's end")  # fmt: skip
    if task.state == "T":
        return _job_control(task, call)
    frozen = machine.freezers.frozen(task.tid)
    if frozen is not None:
        return Wait(
            WaitKind.FROZEN, f"its control group {frozen} to be thawed", beyond="whoever thaws it", object=frozen
        )
    return None


def _job_control(task: Look, call: tuple[str, str] | None) -> Wait:
    terminal = _terminal(task, call)
    background = task.terminal and task.foreground > 0 and task.pgrp != task.foreground
    if terminal is not None and background:
        does, number = ("write to", "SIGTTOU") if CALLS[call[0]].waits is Waits.WRITE else ("read from", "SIGTTIN")  # type: ignore[index]
        what = f"to be continued: it is in the background, and was stopped ({number}) as it wanted to {does} {terminal}"
        return Wait(WaitKind.STOPPED, what, beyond="SIGCONT, as fg sends it",
                    note=f"process group {task.foreground} is in the foreground")  # fmt: skip
    note = "its terminal's foreground is another process group" if background else ""
    return Wait(WaitKind.STOPPED, "to be continued: a signal of job control has stopped it (SIGSTOP, SIGTSTP, …)",
                beyond="SIGCONT", note=note)  # fmt: skip


def _terminal(task: Look, call: tuple[str, str] | None) -> str | None:
    if call is None or not isinstance(task.call, RawCall):
        return None
    waiting = CALLS.get(call[0])
    if call[0] != "ioctl" and (waiting is None or waiting.waits not in (Waits.READ, Waits.WRITE)):
        return None
    target = tables.target(task.tid, signed(task.call.words[0]))
    if isinstance(target, Unavailable) or not target.startswith(_TTY):
        return None
    return printable(target) if call[0] != "ioctl" else None
