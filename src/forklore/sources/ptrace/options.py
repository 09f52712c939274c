"""What a trace is asked to follow, to see and to leave alone."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from msgspec import Struct

from forklore.abi import ptrace as pt


class Stops(StrEnum):
    """How the tracer comes to see calls."""

    SECCOMP = "seccomp"
    """A filter stops the program at the calls we decode and at no others: the default."""
    SYSCALLS = "syscalls"
    """Every system call stops, twice: sees as much as the filter and needs none, at many times the price."""
    EVENTS = "events"
    """Only what the kernel reports by itself: creations, execs and exits that succeed. No failures, no unsharing."""


class Follow(StrEnum):
    """Which new tasks stay traced; the others are let go at their first stop."""

    ALL = "all"
    PROCESSES = "processes"
    THREADS = "threads"
    NONE = "none"


class Until(StrEnum):
    """When the trace ends."""

    TREE = "tree"
    """With the last task."""
    ROOT = "root"
    """With the program that was started, whatever it leaves behind."""


class Leave(StrEnum):
    """What becomes of the tasks that are left when the trace ends before them."""

    KILL = "kill"
    DETACH = "detach"


class Observe(StrEnum):
    """What is asked of the kernel about a new child while it and its creator are held."""

    NONE = "none"
    KCMP = "kcmp"
    """Which objects they share: kcmp(2)."""
    AUTO = "auto"
    """Also namespaces, cgroup and how the kernel has the child, from /proc, where its creator's may differ."""
    FULL = "full"
    """The same for every process."""


class Options(Struct, frozen=True, kw_only=True):
    """The policy of one trace. ``stops`` None: the most that these options allow without harm."""

    stops: Stops | None = None
    follow: Follow = Follow.ALL
    max_depth: int | None = None
    follow_untraced: bool = True
    until: Until = Until.TREE
    leave: Leave = Leave.KILL
    observe: Observe = Observe.AUTO
    argv: bool = True
    env: bool = False
    stack_depth: int = 32
    """How many frames of each creator's call stack are read; 0: none."""
    lines_at_once: bool = False
    """Source lines are looked up as their code is met, not when the trace ends: for who reads along."""
    cow: bool = False
    """Also how many pages each child without CLONE_VM has in common with its creator, and who copies them."""
    vfork_writes: bool = False
    """Also what each CLONE_VM|CLONE_VFORK child changes in its creator's memory: a copy of it is kept meanwhile."""

    @property
    def lets_go(self) -> bool:
        """Whether some task may run on without the tracer: it must not carry the seccomp filter then."""
        return (
            self.follow is not Follow.ALL
            or self.max_depth is not None
            or not self.follow_untraced
            or self.leave is Leave.DETACH  # with Until.TREE too: a signal to forklore may end the trace before the tree
        )

    @property
    def looks_at_ends(self) -> bool:
        """Whether tasks are to be looked at just before they end, which is one more stop of each."""
        return self.cow or self.vfork_writes

    def effective_stops(self) -> Stops:
        """The way to see calls: as asked, else the filter, else events alone.

        ValueError where what is asked for excludes another option.
        """
        if self.stops is Stops.SECCOMP and self.lets_go:
            raise ValueError(
                "--stops seccomp cannot go with options that let tasks go untraced: the filter stays with them for"
                " good and would make their fork, clone and execve fail with ENOSYS; use --stops events or syscalls"
            )
        if self.stops is not None:
            return self.stops
        return Stops.EVENTS if self.lets_go else Stops.SECCOMP

    def record(self) -> dict[str, str | int | bool | None]:
        """The options as the trace's header keeps them."""
        return {
            "stops": self.effective_stops().value,
            "follow": self.follow.value,
            "max_depth": self.max_depth,
            "follow_untraced": self.follow_untraced,
            "until": self.until.value,
            "leave": self.leave.value,
            "observe": self.observe.value,
            "argv": self.argv,
            "env": self.env,
            "stack_depth": self.stack_depth,
            "cow": self.cow,
            "vfork_writes": self.vfork_writes,
        }


DEFAULTS: Final = Options()


def trace_options(stops: Stops, *, ends: bool = False, exitkill: bool = True) -> int:
    """PTRACE_O_* for every tracee: all three creation events always, for the kernel never falls back to another."""
    options = (
        pt.Option.TRACESYSGOOD
        | pt.Option.TRACEFORK
        | pt.Option.TRACEVFORK
        | pt.Option.TRACECLONE
        | pt.Option.TRACEVFORKDONE
        | pt.Option.TRACEEXEC
    )
    if stops is Stops.SECCOMP:
        options |= pt.Option.TRACESECCOMP
    if ends:
        options |= pt.Option.TRACEEXIT
    if exitkill:
        options |= pt.Option.EXITKILL
    return int(options)
