"""What the tables hold: a record a table, whose fields are its columns. docs/tables.md is made from them.

Times are nanoseconds since the trace began, null where they are not known. ``run`` and ``task`` together name a task
among all hosts and boots.
"""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

from forklore.events import records as ev
from forklore.findings.finding import Severity
from forklore.model.holds import How
from forklore.model.tasks import Kind
from forklore.model.waits import Why


class Run(Struct, array_like=True):
    """A trace: one row."""

    run: str
    """32 hexadecimal digits, made of what tells this trace from every other one: host, boot, times, command, tasks. The
    same trace has the same one whenever it is exported."""
    boot: str | None
    """A name for the time since its kernel was started."""
    kernel: str | None
    """The kernel's release."""
    arch: str | None
    """The machine's own ABI."""
    uid: int | None
    """Who ran it."""
    tool: str
    """Who saw it: ``forklore``, ``strace``, …"""
    version: str | None
    """The tool's version."""
    command: str
    """What was asked to run, as a shell would take it."""
    started: int | None
    """When, in µs since 1970; in Parquet a timestamp in UTC."""
    duration: int | None
    """Up to the last thing that was seen to end."""
    end: str | None
    """Why the trace ends; null: it was cut off."""
    processes: int
    """How many there are in it."""
    threads: int
    """How many there are in it."""
    tasks: int
    """Rows of the table ``task``: these, and those of which it is not known which they are."""
    at_once: int | None
    """Processes that were alive at the same time, at most."""
    cpu_us: int | None
    """CPU time of all processes."""


class TaskRow(Struct, array_like=True):
    """A process or thread."""

    run: str
    """The trace."""
    task: int
    """Its number in the trace."""
    tid: int | None
    """Its thread id."""
    tgid: int | None
    """Its process id."""
    kind: Kind
    """``process``, ``thread``, or ``task`` where that is not known."""
    name: str | None
    """The file that it executed last, without its directory; else its name."""
    command: str | None
    """The command line of its last exec, as a shell would take it."""
    creator: int | None
    """The task that made it."""
    parent: int | None
    """The task that waits for it."""
    leader: int | None
    """The task that its process began with."""
    how: str
    """``created``; ``root``, ``attached``, ``continued``, ``adopted``, ``log``: it came into the trace otherwise."""
    traced: bool
    """False: it was not followed."""
    began: int | None
    """When it was made."""
    ended: int | None
    """When it ended."""
    lifetime: int | None
    """From one to the other."""
    code: int | None
    """Exit status."""
    signal: str | None
    """The signal that ended it."""
    cpu_us: int | None
    """CPU time, with that of the children it waited for."""
    peak_kib: int | None
    """The most memory that it had resident, or one of these children."""
    held_by_tracer: int
    """For how long forklore held it."""


class CreationRow(Struct, array_like=True):
    """A creation that succeeded."""

    run: str
    """The trace."""
    task: int
    """The task that was made."""
    creator: int | None
    """Who made it."""
    t: int | None
    """When."""
    call: str
    """The system call."""
    flags: str
    """Its flags, as a C program has them."""
    exit_signal: str | None
    """What the parent gets at its end."""
    library: str | None
    """The library calls, the outermost first: ``popen → posix_spawn``."""
    caller: str | None
    """The function that made the first of them."""
    source: str | None
    """Its line of the source: ``conf.c:12``."""
    sure: bool | None
    """False: library and caller are likely, and not more."""
    vfork_held: int | None
    """How long its creator was held, of a CLONE_VFORK child."""


class SharingRow(Struct, array_like=True):
    """What a task had of its creator otherwise than after a plain fork: an object that is shared, a namespace that is
    not."""

    run: str
    """The trace."""
    task: int
    """The task that was made."""
    creator: int | None
    """Who made it."""
    resource: str
    """``mm``, ``files``, ``fs``, ``sighand``, ``sysvsem``, ``io``, or a namespace."""
    shared: bool
    """Whether both had the same."""
    asked: bool | None
    """Whether the call asked for sharing it."""
    source: How
    """How that is known: ``kcmp``, ``/proc``, by a ``rule``, or by the ``flag`` alone."""
    since: int | None
    """From when on."""
    until: int | None
    """Until when."""
    ended_by: str | None
    """``exec``, ``exit``, ``unshare``, ``setns``, ``close_range``."""


class ExecRow(Struct, array_like=True):
    """A program that a task executed."""

    run: str
    """The trace."""
    task: int
    """Who."""
    number: int
    """Which of its programs, from 1."""
    t: int | None
    """When the program began."""
    path: str | None
    """As given to execve."""
    argv: list[str] | None
    """The arguments, as far as they were recorded."""
    argc: int | None
    """How many there were, where ``argv`` has only the first."""
    exe: str | None
    """The file that runs: the interpreter, for a script."""
    comm: str | None
    """The task's name from then on."""


class ExitRow(Struct, array_like=True):
    """The end of a task."""

    run: str
    """The trace."""
    task: int
    """Whose."""
    t: int | None
    """When."""
    code: int | None
    """Exit status."""
    signal: str | None
    """The signal that ended it."""
    core: bool
    """Whether a core was dumped."""
    sender: int | None
    """The pid that sent the signal."""
    by: ev.KilledBy | None
    """How it is known who sent a SIGKILL."""


class FailureRow(Struct, array_like=True):
    """A call that was refused."""

    run: str
    """The trace."""
    task: int
    """Who called."""
    t: int | None
    """When."""
    about: Literal["creation", "exec", "call"]
    """What was asked for; ``call``: unshare, setns and their like."""
    call: str
    """The call as text, or the path of an exec: the last that a search through PATH tried."""
    errno: str | None
    """The error's name."""
    rule: str | None
    """The first of the kernel's [rules](rules.md) that explains it."""
    why: str | None
    """The same in words."""
    certain: bool | None
    """False: it may be this rule."""


class WaitRow(Struct, array_like=True):
    """A task waited for another one."""

    run: str
    """The trace."""
    task: int
    """Who waited."""
    other: int
    """For whom."""
    why: Why
    """``vfork``: it was held; ``wait``: for a child's end; ``join``: for a thread's; ``pipe``: for the end of its
    data."""
    since: int | None
    """When it was seen to do something before; it waited at most from then on."""
    until: int
    """When it went on."""
    sure: bool
    """False: time suggests it, the call that waited was not traced."""


class FindingRow(Struct, array_like=True):
    """What a rule of `forklore check` finds."""

    run: str
    """The trace."""
    task: int | None
    """Whom it is about first of all."""
    t: int | None
    """When."""
    rule: str
    """The [rule](findings.md)."""
    severity: Severity
    """``error``, ``warning`` or ``note``."""
    text: str
    """What was found."""
    program: str | None
    """The program that it is about."""
    file: str | None
    """The source file of the code that did it."""
    line: int | None
    """The line in it."""
    function: str | None
    """The function there."""
    sure: bool
    """False: likely, and the text says on what it rests."""


TABLES: Final[dict[str, type[Struct]]] = {
    "run": Run,
    "task": TaskRow,
    "creation": CreationRow,
    "sharing": SharingRow,
    "exec": ExecRow,
    "exit": ExitRow,
    "failure": FailureRow,
    "wait": WaitRow,
    "finding": FindingRow,
}
"""By name."""
