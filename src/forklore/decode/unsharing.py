"""Which sharing a call ends: unshare, setns, close_range and setsid, by the table of resources."""

from __future__ import annotations

from typing import Final

from forklore.abi.patterns import regex
from forklore.abi.resources import BY_KEY, NSTYPES, TABLE, Action, End, When
from forklore.decode.calls import Call, CloseRange, Setns, Setsid, Unshare

_SESSION: Final = (
    End("setsid", "setsid starts a session and drops the terminal, for the whole process", "kernel/sys.c: ksys_setsid"),
)
_LINK: Final = regex(r"(\w+):\[(\d+)\]")


def linked(target: str | None) -> tuple[str, int] | None:
    """The kind and the inode of a namespace as /proc names it (``net:[4026531840]``); None for anything else."""
    found = _LINK.fullmatch(target or "")
    return (found[1], int(found[2])) if found and found[1] in NSTYPES else None


def ends(key: str) -> tuple[End, ...]:
    """What ends the sharing of a resource (a key of :class:`forklore.decode.sharing.Fate`), as far as
    anything does.

    fs, sysvsem, io and the namespaces outlive exec. unshare and setns of a pid namespace are not here: they
    decide about later children only, and so does unshare of a time namespace, until an exec.
    """
    if key == "session":
        return _SESSION
    return tuple(end for end in BY_KEY[key].ends if end.when != "children") if key in BY_KEY else ()


def exec_ends() -> tuple[str, ...]:
    """The keys of the resources whose sharing every successful execve ends."""
    return _of("exec", 0)


def ended_by(call: Call, entered: str | None = None) -> tuple[str, ...]:
    """The keys of the resources whose sharing ends for the caller if ``call`` succeeds; () where its arguments are not
    known.

    setns with nstype 0 does not say which namespace it enters: the descriptor does. ``entered`` is the kind of that, by
    the name of its link (``net``); without it the result is (). unshare's CLONE_VM, CLONE_SIGHAND and CLONE_THREAD
    never do anything when they succeed.
    """
    return ("session",) if isinstance(call, Setsid) else _by(call, entered, "now")


def set_for_children(call: Call, entered: str | None = None) -> tuple[str, ...]:
    """The keys of the namespaces that ``call`` sets for the children that the caller makes from then on."""
    return _by(call, entered, "children")


def _by(call: Call, entered: str | None, when: When) -> tuple[str, ...]:
    if isinstance(call, Unshare):
        return _of("unshare", call.effective.raw or 0, when)
    if isinstance(call, Setns):
        return _of("setns", call.flags.raw or NSTYPES.get(entered or "", 0), when)
    return _of("close_range", call.flags.raw or 0, when) if isinstance(call, CloseRange) else ()


def _of(action: Action, flags: int, when: When = "now") -> tuple[str, ...]:
    return tuple(
        resource.key
        for resource in TABLE
        for end in resource.ends
        if end.action == action and end.when == when and (not end.flags or end.flags & flags)
    )
