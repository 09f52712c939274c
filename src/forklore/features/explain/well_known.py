"""Calls that people know by name, as the libraries make them on x86_64 today."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi import flags as f
from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.units import Address
from forklore.decode.creation import SIGCHLD, Creation, decode_creation, from_flags

_FORK: Final = f.CLONE_CHILD_CLEARTID | f.CLONE_CHILD_SETTID
_SPAWN: Final = f.CLONE_VM | f.CLONE_VFORK
_CLEAR: Final = _SPAWN | f.CLONE_CLEAR_SIGHAND
_GROUP: Final = f.CLONE_VM | f.CLONE_FS | f.CLONE_FILES | f.CLONE_SIGHAND | f.CLONE_THREAD | f.CLONE_SYSVSEM
_PTHREAD: Final = _GROUP | f.CLONE_SETTLS | f.CLONE_PARENT_SETTID | f.CLONE_CHILD_CLEARTID
_MUSL: Final = _PTHREAD | f.CLONE_DETACHED
_SOME_STACK: Final = Address(0x7F00_0000_0000)
_SOME_SIZE: Final = 0x9000


class WellKnown(Struct, frozen=True):
    """A call by its name. ``execs``: the library goes on to exec at once, which ends most of the sharing."""

    name: str
    call: Literal["fork", "vfork", "clone", "clone3"]
    flags: int
    exit_signal: int
    stack: bool
    execs: bool
    says: str

    def creation(self, arch: Arch = Arch.X86_64) -> Creation:
        """The call, decoded; where it names a stack, ``stack`` and ``stack_size`` stand for any."""
        if self.call in ("fork", "vfork"):
            nr = syscalls.number(arch, self.call)
            if nr is not None:
                return decode_creation(arch, nr, ())
            return replace(from_flags(arch, "clone", self.flags, self.exit_signal), stack=None)
        made = from_flags(arch, "clone" if self.call == "clone" else "clone3", self.flags, self.exit_signal)
        stack = _SOME_STACK if self.stack else 0
        size = _SOME_SIZE if self.stack and self.call == "clone3" else 0
        words = replace(made.words, stack=stack, stack_size=size if self.call == "clone3" else None)
        shown = Address(stack) if self.stack else None
        return replace(made, stack=shown, stack_size=size or None, words=words)


_ALL: Final = (
    WellKnown("fork", "clone", _FORK, SIGCHLD, False, False, "glibc's fork(), with atfork handlers"),
    WellKnown("_Fork", "clone", _FORK, SIGCHLD, False, False, "glibc's _Fork(): the call of fork() without handlers"),
    WellKnown("vfork", "vfork", _SPAWN, SIGCHLD, False, False, "the caller sleeps until the child execs or ends"),
    WellKnown("posix_spawn", "clone3", _CLEAR, SIGCHLD, True, True, "glibc 2.38 and later"),
    WellKnown("system", "clone3", _CLEAR, SIGCHLD, True, True, "posix_spawn of sh -c"),
    WellKnown("popen", "clone3", _CLEAR, SIGCHLD, True, True, "posix_spawn of sh -c"),
    WellKnown("pthread_create", "clone3", _PTHREAD, 0, True, False, "glibc 2.34 and later"),
    WellKnown("thrd_create", "clone3", _PTHREAD, 0, True, False, "C11's name for pthread_create"),
    WellKnown("musl-pthread", "clone", _MUSL, 0, True, False, "musl's pthread_create()"),
    WellKnown("go-exec", "clone", _SPAWN | f.CLONE_PIDFD, SIGCHLD, False, True, "Go's os/exec"),
    WellKnown("go-thread", "clone", _GROUP | f.CLONE_SETTLS, 0, True, False, "a thread of the Go runtime"),
    WellKnown("clone", "clone", 0, SIGCHLD, False, False, "clone(2) with no flag, as a fork"),
    WellKnown("clone3", "clone3", 0, SIGCHLD, False, False, "clone3(2) with no flag, as a fork"),
)
WELL_KNOWN: Final = {known.name: known for known in _ALL}
"""By name."""
