"""Which sharing a call ends: unshare, setns, close_range and setsid, by the table of resources."""

from __future__ import annotations

from typing import Final

from forklore.abi.resources import BY_KEY, TABLE, Action, End
from forklore.decode.calls import Call, CloseRange, Setns, Setsid, Unshare

_SESSION: Final = (
    End("setsid", "setsid starts a session and drops the terminal, for the whole process", "kernel/sys.c: ksys_setsid"),
)


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


def ended_by(call: Call) -> tuple[str, ...]:
    """The keys of the resources whose sharing ends for the caller if ``call`` succeeds; () where its arguments are not
    known.

    setns with nstype 0 does not say which namespace it enters: the descriptor does, and the result is ().
    unshare's CLONE_VM, CLONE_SIGHAND and CLONE_THREAD never do anything when they succeed.
    """
    if isinstance(call, Unshare):
        return _of("unshare", call.effective.raw or 0)
    if isinstance(call, Setns):
        return _of("setns", call.flags.raw or 0)
    if isinstance(call, CloseRange):
        return _of("close_range", call.flags.raw or 0)
    return ("session",) if isinstance(call, Setsid) else ()


def _of(action: Action, flags: int) -> tuple[str, ...]:
    return tuple(
        resource.key
        for resource in TABLE
        for end in resource.ends
        if end.action == action and end.when == "now" and (not end.flags or end.flags & flags)
    )
