"""Which library makes exactly such a call: a guess from flags and arguments, for the common C libraries and
runtimes.

The guess is about form: any program can make the same call itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.decode.callers import GO_THREAD, NAMESPACES, PTHREAD, SPAWN, SPAWN_CLEAR, WITHOUT_VFORK
from forklore.decode.creation import SIGCHLD, Creation


class Shape(Struct, frozen=True):
    """The form of one library's call. ``stack``: whether the call names one; None where it does not
    matter."""

    who: str
    call: str
    flags: int
    exit_signal: int
    stack: bool | None = None
    arches: frozenset[Arch] | None = None


_SHAPES: Final = (
    Shape("glibc fork() or _Fork()", "clone", f.CLONE_CHILD_CLEARTID | f.CLONE_CHILD_SETTID, SIGCHLD, False),
    Shape("glibc pthread_create(), 2.34 and later", "clone3", PTHREAD, 0, True),
    Shape("glibc pthread_create(), before 2.34 or where clone3 is not there", "clone", PTHREAD, 0, True),
    Shape("musl pthread_create()", "clone", PTHREAD | f.CLONE_DETACHED, 0, True),
    Shape("a thread of the Go runtime", "clone", GO_THREAD | f.CLONE_SETTLS, 0, True),
    Shape("a thread of the Go runtime", "clone", GO_THREAD, 0, True),
    Shape("glibc posix_spawn(), system() or popen(), 2.38 and later", "clone3", SPAWN_CLEAR, SIGCHLD, True),
    Shape("glibc posix_spawn(), system() or popen(), 2.34 to 2.37", "clone3", SPAWN, SIGCHLD, True),
    Shape("glibc pidfd_spawn(), 2.39 and later", "clone3", SPAWN_CLEAR | f.CLONE_PIDFD, SIGCHLD, True),
    Shape("glibc posix_spawn() into a cgroup, 2.39 and later", "clone3",
          SPAWN_CLEAR | f.CLONE_INTO_CGROUP, SIGCHLD, True),
    Shape("glibc pidfd_spawn() into a cgroup, 2.39 and later", "clone3",
          SPAWN_CLEAR | f.CLONE_PIDFD | f.CLONE_INTO_CGROUP, SIGCHLD, True),
    Shape("glibc vfork(), which is a clone on this arch", "clone", SPAWN, SIGCHLD, True, WITHOUT_VFORK),
    Shape("glibc posix_spawn(), 2.24 to 2.33, or musl posix_spawn()", "clone", SPAWN, SIGCHLD, True),
    Shape("glibc vfork(), which is a clone on this arch", "clone", SPAWN, SIGCHLD, None, WITHOUT_VFORK),
    Shape("glibc system(), 2.28 and before", "clone", f.CLONE_PARENT_SETTID, SIGCHLD, False),
    Shape("Go os/exec, with a pidfd", "clone", SPAWN | f.CLONE_PIDFD, SIGCHLD, False),
    Shape("Go os/exec, before it used pidfds", "clone", SPAWN, SIGCHLD, False),
    Shape("the Go runtime's test for pidfds, once a process", "clone", SPAWN | f.CLONE_PIDFD, 0, False),
    Shape("runc's nsexec", "clone", f.CLONE_PARENT, SIGCHLD, True),
    Shape("musl fork(), which is a clone on this arch", "clone", 0, SIGCHLD, False, WITHOUT_VFORK),
)  # fmt: skip
"""The first that fits is the one."""

_Fits = Callable[[Creation, int], bool]
_LOOSE: Final[tuple[tuple[str, _Fits], ...]] = (
    ("fork(), of musl or by a raw system call", lambda c, _: c.call == "fork"),
    ("vfork()", lambda c, _: c.call == "vfork"),
    ("a container tool (crun, runc exec) or systemd, which put the child in a cgroup",
     lambda c, raw: c.call == "clone3" and bool(raw & f.CLONE_INTO_CGROUP)),
    ("a sandbox (bubblewrap, crun, systemd), which starts the child in new namespaces",
     lambda c, raw: c.call == "clone" and c.exit_signal == SIGCHLD and c.stack is None
     and bool(raw & NAMESPACES) and not raw & ~NAMESPACES),
    ("something that keeps its child from tracers (CLONE_UNTRACED)",
     lambda _, raw: bool(raw & f.CLONE_UNTRACED)),
)  # fmt: skip


def candidates(creation: Creation) -> tuple[str, ...]:
    """Everybody who makes such a call, the likeliest first; () for a form that is nobody's."""
    raw = creation.flags.raw
    if raw is None:
        return ()
    untold = creation.call.startswith("clone") and creation.words.stack is None
    has_stack = None if untold else bool(creation.stack)
    exact = [shape.who for shape in _SHAPES if _fits(shape, creation, raw, has_stack)]
    loose = [] if exact else [who for who, fits in _LOOSE if fits(creation, raw)]
    return tuple(dict.fromkeys(exact or loose[:1]))


def recognise(creation: Creation) -> str | None:
    """Who makes such a call, such as ``glibc fork() or _Fork()``; None for a form that is nobody's.

    Looks at the call, its flags, its exit signal and whether it names a stack.
    """
    return next(iter(candidates(creation)), None)


def _fits(shape: Shape, creation: Creation, raw: int, has_stack: bool | None) -> bool:
    return (
        creation.call == shape.call
        and raw == shape.flags
        and creation.exit_signal == shape.exit_signal
        and (has_stack is None or shape.stack in (None, has_stack))
        and (shape.arches is None or creation.arch in shape.arches)
    )
