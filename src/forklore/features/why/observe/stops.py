"""Tasks that somebody has stopped: job control, a tracer, a frozen control group."""

from __future__ import annotations

import signal
from typing import Final

from forklore.abi.signals import signal_name
from forklore.abi.text import printable
from forklore.abi.units import Tid, Unavailable, signed
from forklore.decode.waits.calls import CALLS, Waits
from forklore.features.why.graph import Ender, Role, Wait, WaitKind
from forklore.features.why.observe.machine import Machine
from forklore.linux.waits import tables
from forklore.linux.waits.look import Look, RawCall, stopped_by

_TTY: Final = (b"/dev/pts/", b"/dev/tty", b"/dev/console")
_TAKES: Final = 0x5410
_SETTINGS: Final = frozenset({0x5402, 0x5403, 0x5404, 0x540B, 0x402C542B, 0x402C542C, 0x402C542D})
"""TIOCSPGRP; TCSETS, TCSETSW, TCSETSF, TCFLSH, TCSETS2 and kin (asm-generic/ioctls.h): SIGTTOU in the background."""


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
    background = task.terminal and task.foreground > 0 and task.pgrp != task.foreground
    wanted = _wanted(task, call) if background else None
    note = f"process group {task.foreground} is in the foreground" if background else ""
    by = stopped_by(task.pid)
    if wanted is not None and by in (None, wanted[1]):
        does, number = wanted
        name = signal_name(number)
        # The kernel forgets the signal when the parent has waited for the stop. A reader may have been stopped
        # before, in the foreground, by Ctrl-Z.
        what = (
            f"to be continued: it is in the background, and was stopped ({name}) as it wanted to {does}"
            if by
            else f"to be continued: it is in the background and wants to {does}, for which {name} stops it (by which"
            " signal it was stopped is not told any more)"
        )
        return Wait(WaitKind.STOPPED, what, beyond="SIGCONT, as fg sends it", note=note)
    how = f"{signal_name(by)} has stopped it" if by else "a signal of job control has stopped it (SIGSTOP, SIGTSTP, …)"
    return Wait(WaitKind.STOPPED, f"to be continued: {how}", beyond="SIGCONT, as fg sends it" if background else (
                "SIGCONT"), note=note)  # fmt: skip


def _wanted(task: Look, call: tuple[str, str] | None) -> tuple[str, int] | None:
    """What a call wants of a terminal that only the foreground may have, and the signal for it (termios(3))."""
    if call is None or not isinstance(task.call, RawCall):
        return None
    words = task.call.words
    waiting = CALLS.get(call[0])
    reads, writes = (waiting is not None and waiting.waits is way for way in (Waits.READ, Waits.WRITE))
    if not (reads or writes or call[0] == "ioctl"):
        return None
    target = tables.target(task.tid, signed(words[0]))
    if isinstance(target, Unavailable) or not target.startswith(_TTY):
        return None
    terminal = printable(target)
    if reads:
        return f"read from {terminal}", signal.SIGTTIN
    if writes:
        return f"write to {terminal}", signal.SIGTTOU
    if words[1] == _TAKES:
        return f"become the foreground of {terminal}", signal.SIGTTOU
    return (f"change the settings of {terminal}", signal.SIGTTOU) if words[1] in _SETTINGS else None
