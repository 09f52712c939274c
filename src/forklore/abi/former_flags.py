"""What clone's bits meant before: flags that are gone, and names whose bit has another use now.

The versions are those of clone(2), where ``verified``; what it does not tell is said to be unverified.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from forklore.abi import flags as f


class Former(NamedTuple):
    """A flag of clone(2) in the kernels from ``since`` to the one before ``until``.

    ``meaning`` is a sentence: what setting it did. ``verified``: the versions are those of the manual.
    """

    name: str
    value: int
    since: str
    until: str
    meaning: str
    verified: bool = True


FORMER: Final = (
    Former("CLONE_PID", 0x1000, "2.0", "2.5.16",
           "The child gets the caller's own process id; from 2.3.21 on for the boot process (pid 0) alone."),
    Former("CLONE_IDLETASK", 0x1000, "2.5.16", "2.6.16",
           "The kernel's own: the child is an idle task and its pid 0; clone(2) clears the bit.", verified=False),
    Former("CLONE_SETTID", f.CLONE_PARENT_SETTID, "2.5.32", "2.5.49",
           "The child's tid is stored in the caller's memory: CLONE_PARENT_SETTID by its first name."),
    Former("CLONE_DETACHED", f.CLONE_DETACHED, "2.5.31", "2.6.0",
           "The caller's parent gets no signal when the child ends; it goes with CLONE_THREAD.", verified=False),
    Former("CLONE_STOPPED", f.CLONE_NEWCGROUP, "2.6.0", "2.6.38",
           "The child starts stopped, as by SIGSTOP, and waits for SIGCONT; deprecated from 2.6.25 on."),
)  # fmt: skip
"""By their first version."""

MACROS: Final = {
    "CLONE_SIGNAL": (f.CLONE_SIGHAND | f.CLONE_THREAD, "a name of Linux 2.4 and of libraries for both flags at once"),
    "CLONE_KERNEL": (
        f.CLONE_FS | f.CLONE_FILES | f.CLONE_SIGHAND,
        "a name of Linux 2.5 and 2.6 for what kernel threads share",
    ),
}
"""Names for several flags: their bits, and whose they are."""
