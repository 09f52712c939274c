"""Calls that people know by name, as the libraries make them on x86_64 today."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.units import Address
from forklore.decode import library_forms as forms
from forklore.decode.creation import SIGCHLD, Creation, decode_creation, from_flags
from forklore.decode.library_forms import LibraryForm

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


def _of(name: str, form: LibraryForm, says: str, *, execs: bool = False) -> WellKnown:
    call = form.system_call
    assert call is not None, form.name
    assert call != "unknown", form.name
    return WellKnown(name, call, form.flags or 0, form.exit_signal or 0, bool(form.stack), execs, says)


_ALL: Final = (
    _of("fork", forms.GLIBC_FORK, "glibc's fork(), with atfork handlers"),
    _of("_Fork", forms.GLIBC_FORK, "glibc's _Fork(): the call of fork() without handlers"),
    _of("vfork", forms.VFORK, "the caller sleeps until the child execs or ends"),
    _of("posix_spawn", forms.GLIBC_SPAWN, "glibc 2.38 and later", execs=True),
    _of("system", forms.GLIBC_SPAWN, "posix_spawn of sh -c", execs=True),
    _of("popen", forms.GLIBC_SPAWN, "posix_spawn of sh -c", execs=True),
    _of("pthread_create", forms.GLIBC_THREAD, "glibc 2.34 and later"),
    _of("thrd_create", forms.GLIBC_THREAD, "C11's name for pthread_create"),
    _of("musl-pthread", forms.MUSL_THREAD, "musl's pthread_create()"),
    _of("go-exec", forms.GO_EXEC, "Go's os/exec", execs=True),
    _of("go-thread", forms.GO_THREAD, "a thread of the Go runtime"),
    WellKnown("clone", "clone", 0, SIGCHLD, False, False, "clone(2) with no flag, as a fork"),
    WellKnown("clone3", "clone3", 0, SIGCHLD, False, False, "clone3(2) with no flag, as a fork"),
)
WELL_KNOWN: Final = {known.name: known for known in _ALL}
"""By name."""
