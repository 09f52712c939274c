"""What a reader of one tool's log tells of its lines: calls, what they returned, and how the tool prints both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.units import Unavailable
from forklore.events.records import ExecAt, Text

CREATING: Final = frozenset({b"fork", b"vfork", b"clone", b"clone3"})
CHANGING: Final = frozenset({b"unshare", b"setns", b"close_range", b"setsid"})
EXECUTING: Final = frozenset({b"execve", b"execveat"})
ENDING: Final = frozenset({b"exit", b"_exit", b"exit_group"})
NAMING: Final = frozenset({b"getpid", b"gettid", b"set_tid_address"})
"""Calls that return the caller's own tid or pid."""
WAITING: Final = frozenset({b"wait4", b"waitpid", b"waitid"})
FOLLOWED: Final = CREATING | CHANGING | EXECUTING | ENDING
"""Calls that change which tasks there are, and what these run and share."""
CALLS: Final = FOLLOWED | NAMING | WAITING
"""All others are skipped."""


class LoggedCall(Struct, eq=False):
    """A system call as far as the log has it."""

    name: bytes
    text: bytes
    """What stands behind the opening parenthesis."""
    began: int | None
    cut: bool = False
    """The log has the call's beginning and its end in two lines."""
    heir: int | None = None
    """The tid that the caller is told to go on as."""


class Returned(Struct, frozen=True):
    """What a call returned."""

    value: int | None
    """None: the log does not say."""
    failed: bool = False
    errno: int | None = None
    """Positive. None where it did not fail, or by an error of unknown name."""
    restarted: bool = False
    """A signal came before the call did anything: the kernel makes it again."""
    outer: int | None = None
    """A pid, in the pid namespace that the log's own pids are of, where the log adds that."""
    took: int | None = None
    """How long the call took, in nanoseconds."""
    injected: bool = False
    """The tool made the call return this: the kernel did not run it."""
    tampered: str | None = None
    """What else the tool did to the call."""


class LoggedImage(Struct, frozen=True):
    """What an exec was given. ``lacks``: what of it the log does not have whole, and why."""

    path: Text | Unavailable
    argv: list[Text] | Unavailable
    lacks: tuple[str, str] | None
    at: ExecAt | None = None
    """Of execveat."""


class Dialect(Struct, frozen=True, kw_only=True):
    """How a tool prints calls. Arguments are texts, as :func:`..printed.calls.arguments` gives them."""

    creation: Callable[[Arch, bytes, list[bytes]], tuple[dict[str, Any], int | None]]
    """The fields of a creation's record, and its flags (without the signal) as far as they can be known."""
    change: Callable[[Arch, bytes, list[bytes]], dict[str, Any]]
    """The fields of the record of a call of CHANGING."""
    image: Callable[[bytes, list[bytes]], LoggedImage]
    """What a call of EXECUTING is given."""
    returned: Callable[[bytes, int], Returned | None]
    """What stands in a text from the end of the arguments on; None: no result."""
    interleaved: bool
    """The traced programs write into the log's lines: a call without an end goes on in the next line, and one without a
    result may have run all the same."""
    announces_execs: bool
    """A line of its own tells that a task runs a new image; the execve does not return there."""
    waited: Callable[[bytes, list[bytes], Returned], tuple[int, int | None] | None] | None = None
    """The pid of the child whose end a call of WAITING told of, and its wait status where that is printed."""
