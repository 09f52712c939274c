"""The same creation by the other call: clone(2) as clone3 and clone3 as clone(2), where there is one."""

from __future__ import annotations

from msgspec import Struct

from forklore.abi import flags as f
from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.clone_args import VER2, pack
from forklore.abi.signals import SIGRTMAX
from forklore.decode.creation import Creation, clone_order, decode_creation


class Equivalent(Struct, frozen=True):
    """An equal call: ``creation`` is it, decoded; ``args`` its registers, ``struct`` its clone_args (clone3).

    The struct's address is 0 in ``args``: it is the caller's to choose. ``notes`` say what differs in form.
    """

    creation: Creation
    args: tuple[int, ...]
    struct: bytes | None
    notes: tuple[str, ...]

    @property
    def text(self) -> str:
        """The call as C-like text, with the fields that count."""
        return self.creation.text(details=True)


class NoEquivalent(Struct, frozen=True):
    """There is no equal call, and ``why``: every reason, each a phrase."""

    why: tuple[str, ...]


def to_clone3(creation: Creation, stack_size: int | None = None) -> Equivalent | NoEquivalent:
    """The clone3 call that does the same.

    clone(2) names the top of the child's stack and not its length, which clone3 wants: without
    ``stack_size`` (in bytes) such a call has no equal.
    """
    why = _unreadable(creation)
    if why:
        return NoEquivalent(why)
    if creation.call == "clone3":
        return NoEquivalent(("it is a clone3 call already",))
    raw = creation.flags.raw or 0
    signal = creation.exit_signal or 0
    why, notes = _clone_obstacles(creation, raw, signal, stack_size), []
    if why:
        return NoEquivalent(why)
    if raw & f.CLONE_DETACHED:
        raw &= ~f.CLONE_DETACHED
        notes.append("CLONE_DETACHED is left out: clone(2) ignores it and clone3 refuses it")
    if signal and raw & (f.CLONE_THREAD | f.CLONE_PARENT):
        signal = 0
        notes.append("the exit signal is left out: it has no effect on a thread or a CLONE_PARENT child")
    top = creation.stack or 0
    size = (stack_size or 0) if top else 0
    if top:
        notes.append(f"stack is the lowest address: the top {top:#x} less {size:#x}")
    struct = pack(
        flags=raw, pidfd=creation.pidfd or 0, child_tid=creation.child_tid or 0, parent_tid=creation.parent_tid or 0,
        exit_signal=signal, stack=top - size, stack_size=size, tls=creation.tls or 0,
    )  # fmt: skip
    args = (0, VER2)
    made = decode_creation(creation.arch, syscalls.number(creation.arch, "clone3"), args, struct)
    return Equivalent(made, args, struct, tuple(notes))


def to_clone(creation: Creation) -> Equivalent | NoEquivalent:
    """The clone(2) call that does the same."""
    why = _unreadable(creation)
    if why:
        return NoEquivalent(why)
    if creation.call == "clone":
        return NoEquivalent(("it is a clone call already",))
    raw = creation.flags.raw or 0
    why = _clone3_obstacles(creation, raw)
    if why:
        return NoEquivalent(why)
    notes = []
    top = 0
    if creation.stack is not None and creation.stack_size is not None:
        top = creation.stack + creation.stack_size
        notes.append(f"stack is the top: {creation.stack:#x} plus {creation.stack_size:#x}")
    if raw & f.CLONE_PIDFD:
        notes.append("the pidfd is stored through the parent_tid argument")
    words = {
        "flags": raw | (creation.exit_signal or 0),
        "stack": top,
        "parent_tid": (creation.pidfd if raw & f.CLONE_PIDFD else creation.parent_tid) or 0,
        "child_tid": creation.child_tid or 0,
        "tls": creation.tls or 0,
    }
    args = tuple(words[name] for name in clone_order(creation.arch))
    made = decode_creation(creation.arch, syscalls.number(creation.arch, "clone"), args)
    return Equivalent(made, args, None, tuple(notes))


def _unreadable(creation: Creation) -> tuple[str, ...]:
    if creation.call == "unknown" or creation.flags.raw is None or creation.exit_signal is None:
        return ("the call is not fully known", *creation.problems)
    return ()


def _clone_obstacles(creation: Creation, raw: int, signal: int, stack_size: int | None) -> tuple[str, ...]:
    why = []
    if signal > SIGRTMAX:
        why.append(f"clone3 takes no exit signal {signal}")
    if creation.flags.unknown:
        why.append(f"the bits {creation.flags.unknown:#x} have no meaning")
    if raw & f.CLONE_PIDFD and raw & f.CLONE_PARENT_SETTID:
        why.append("CLONE_PIDFD and CLONE_PARENT_SETTID share one pointer in clone(2), which refuses the two")
    if raw & f.CLONE_PIDFD and raw & f.CLONE_DETACHED:
        why.append("clone(2) refuses CLONE_PIDFD with CLONE_DETACHED")
    if creation.stack and not stack_size:
        why.append("clone3 wants the length of the stack, which clone(2) does not tell")
    elif creation.stack and stack_size and not 0 < stack_size <= creation.stack:
        why.append(f"a stack of {stack_size} bytes does not fit below its top {creation.stack:#x}")
    return tuple(why)


def _clone3_obstacles(creation: Creation, raw: int) -> tuple[str, ...]:
    names = [flag.name for flag in f.CLONE3.split(raw)[0] if flag.value > f.LEGACY_MASK]
    why = [f"{name} has no bit in clone(2), which looks at 32 bits" for name in names]
    if raw & f.CLONE_NEWTIME:
        why.append("CLONE_NEWTIME is a part of the exit signal in clone(2): use unshare and fork")
    if creation.flags.unknown:
        why.append(f"the bits {creation.flags.unknown:#x} have no meaning")
    if (creation.exit_signal or 0) > SIGRTMAX:
        why.append(f"exit signal {creation.exit_signal} is no signal")
    if creation.words.set_tid_size:
        why.append("clone(2) cannot choose pids (set_tid)")
    if raw & f.CLONE_PIDFD and raw & f.CLONE_PARENT_SETTID:
        why.append("clone(2) has one pointer for CLONE_PIDFD and CLONE_PARENT_SETTID")
    if bool(creation.stack) != bool(creation.stack_size):
        why.append("stack and stack_size must both be zero or both not")
    if (creation.stack or 0) + (creation.stack_size or 0) >= 1 << (8 * creation.arch.word):
        why.append("the stack ends beyond the address space")
    if creation.arch is Arch.I386 and _beyond_word(creation):
        why.append("an address does not fit in a 32-bit register")
    return tuple(why)


def _beyond_word(creation: Creation) -> bool:
    pointers = (creation.pidfd, creation.parent_tid, creation.child_tid, creation.tls)
    return any(pointer is not None and pointer >> 32 for pointer in pointers)
