"""docs/sharing.md from the tables of fates and ends."""

from __future__ import annotations

from typing import Final

from forklore.decode.sharing import ends, fates
from forklore.features.explain.well_known import WELL_KNOWN

_HEAD: Final = """\
# What a child shares, and until when

Generated from the tables in the code by `scripts/generate-pages`; do not edit.

A new task is not simply "a copy": each of its parts is decided by a flag or by a fixed rule of the kernel
(kernel/fork.c: copy_process). forklore keeps three answers apart for each resource: what the call *asked*
for, what was *observed* in the kernel, and *until* when the sharing held.

## At creation

The words in the two columns: **shared**, one object for both from now on; **copied**, the child has its own,
equal at first; **inherited**, the child has the caller's value or membership, and either can change its own;
**new**, a fresh one; **reset**, empty, off or zero in the child.

The two columns are the two ends of the range: a plain fork, and a thread as glibc makes it. `forklore
explain` shows the same for any flags.

| resource | fork | pthread_create |
|---|---|---|
"""
_ENDS_HEAD: Final = """
## What ends it later

| resource | ended by | how | kernel |
|---|---|---|---|
"""
_TAIL: Final = """
execve does **not** end the sharing of root, working directory and umask (CLONE_FS: which is why a
set-user-id program run by such a task gets no privilege), of SysV undo lists, of I/O contexts and of
namespaces (except that it enters a time namespace that was set for children). unshare's CLONE_THREAD,
CLONE_SIGHAND and CLONE_VM never do anything when they succeed: they only fail where there is something to
separate.

Inherited values that either side changes alone later (credentials, limits of a process, masks, namespaces)
are not sharing, and have no end.
"""


def page() -> str:
    """The whole page, in Markdown."""
    fork, thread = (fates(WELL_KNOWN[name].creation()) for name in ("fork", "pthread_create"))
    rows = [
        f"| {a.title} (`{a.resource}`) | **{a.outcome}**: {a.why} | **{b.outcome}**: {b.why} |\n"
        for a, b in zip(fork, thread, strict=True)
    ]
    ended = [
        f"| {fate.title} (`{fate.resource}`) | {end.action} | {end.why} | {end.source} |\n"
        for fate in fork
        for end in ends(fate.resource)
    ]
    return "".join([_HEAD, *rows, _ENDS_HEAD, *ended, _TAIL])

