"""What clone3 refuses while it copies its struct, before it looks at anything else.

In the order of kernel/fork.c: copy_clone_args_from_user and clone3_args_valid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.abi.clone_args import FIELDS, VER0, VER1, VER2
from forklore.abi.signals import CSIGNAL, SIGRTMAX
from forklore.decode.clone_struct import PAGE_SIZE, SET_TID_MAX
from forklore.decode.creation import Creation
from forklore.decode.rules.rule import AnyCall, Context, Judge, Rule, at_least, has_all, has_any

_CALLS: Final = ("clone3",)
_COPY: Final = "kernel/fork.c: copy_clone_args_from_user"
_VALID: Final = "kernel/fork.c: clone3_args_valid"
_INT_MAX: Final = 0x7FFF_FFFF
_LARGEST_PAGE: Final = 65536
_USER_END: Final = {Arch.I386: 1 << 32, Arch.X32: 1 << 32, Arch.RISCV64: 1 << 38}
"""Below these every kernel accepts a stack; 47 bits elsewhere."""
_NEWER: Final = (
    (f.CLONE_CLEAR_SIGHAND, (5, 5), (5, 5)),
    # Refused as a part of CSIGNAL until Linux kernel commit "fork: allow CLONE_NEWTIME in clone3 flags" (in v6.3),
    # which older stable kernels may have too.
    (f.CLONE_NEWTIME, (5, 6), (6, 3)),
    (f.CLONE_INTO_CGROUP, (5, 7), (5, 7)),
    (f.CLONE_AUTOREAP | f.CLONE_NNP | f.CLONE_PIDFD_AUTOKILL | f.CLONE_EMPTY_MNTNS, (7, 1), (7, 1)),
)
"""Flags, the version before which no kernel has them, and the one from which every kernel does."""
_KNOWN: Final = 0xFFFF_FFFF | f.CLONE_CLEAR_SIGHAND | f.CLONE_INTO_CGROUP | _NEWER[-1][0]


def _on(judge: Callable[[Creation, Context], bool | None]) -> Judge:
    def typed(call: AnyCall, context: Context) -> bool | None:
        return judge(call, context) if isinstance(call, Creation) else False

    return typed


def _too_large(c: Creation, _: Context) -> bool | None:
    if c.struct_size is None:
        return None
    if c.arch is Arch.AARCH64 and PAGE_SIZE < c.struct_size <= _LARGEST_PAGE:
        return None
    return c.struct_size > PAGE_SIZE


def _too_small(c: Creation, _: Context) -> bool | None:
    return None if c.struct_size is None else c.struct_size < VER0


def _tail(c: Creation, context: Context) -> bool | None:
    """Whether something not zero stands where this kernel knows of nothing."""
    size = c.struct_size
    if c.words.tail.strip(b"\0"):
        return True
    known = VER2
    if at_least(context, (5, 7)) is False:
        known = VER0 if at_least(context, (5, 5)) is False else VER1
    for member in FIELDS:
        if member.offset >= known and getattr(c.words, member.name):
            return True
    if size is None or c.words.flags is None:
        return None
    return None if VER2 + len(c.words.tail) < size <= PAGE_SIZE else False


def _unreadable(c: Creation, _: Context) -> bool | None:
    """Whether a byte of the struct lies where the caller has no memory; the tracer could not read it either."""
    if "struct" in c.unreadable:
        return True
    if c.words.flags is not None and c.words.tls is not None:
        return False
    return True if c.args and c.args[0] == 0 else None


def _set_tid_size(c: Creation, _: Context) -> bool | None:
    return None if c.words.set_tid_size is None else c.words.set_tid_size > SET_TID_MAX


def _set_tid_pair(c: Creation, _: Context) -> bool | None:
    if c.words.set_tid is None or c.words.set_tid_size is None:
        return None
    return bool(c.words.set_tid) != bool(c.words.set_tid_size)


def _exit_signal(c: Creation, _: Context) -> bool | None:
    return None if c.exit_signal is None else c.exit_signal > SIGRTMAX


def _cgroup(c: Creation, _: Context) -> bool | None:
    if c.flags.raw is None or not c.flags.raw & f.CLONE_INTO_CGROUP:
        return c.flags.has(f.CLONE_INTO_CGROUP)
    if c.struct_size is not None and c.struct_size < VER2:
        return True
    return None if c.words.cgroup is None else c.words.cgroup > _INT_MAX


def _set_tid_array(c: Creation, _: Context) -> bool | None:
    count = c.words.set_tid_size
    if count is None or "set_tid" in c.unreadable:
        return None if count is None else count > 0
    return False if count == len(c.set_tid) else None


def _unknown_flag(c: Creation, _: Context) -> bool | None:
    return c.flags.has(~_KNOWN)


def _newer_flag(c: Creation, context: Context) -> bool | None:
    answer: bool | None = False
    for flags, first, everywhere in _NEWER:
        if c.flags.has(flags):
            if at_least(context, first) is False:
                return True
            if not at_least(context, everywhere):
                answer = None
    return None if c.flags.raw is None else answer


def _signal_with_kin(c: Creation, _: Context) -> bool | None:
    kin = c.flags.has(f.CLONE_THREAD | f.CLONE_PARENT)
    if kin is False or c.exit_signal == 0:
        return False
    return None if kin is None or c.exit_signal is None else True


def _stack(c: Creation, _: Context) -> bool | None:
    start, size = c.words.stack, c.words.stack_size
    if start is None or size is None:
        return None
    if bool(start) != bool(size):
        return True
    end = start + size
    # How far user space reaches depends on the page tables' depth, on tags, and for a 32-bit caller on the
    # kernel.
    if end >= 1 << 57:
        return None if c.arch is Arch.AARCH64 and end < 1 << 64 else True
    return None if end > _USER_END.get(c.arch, (1 << 47) - PAGE_SIZE) else False


def _r(id_: str, errno: str, judge: Judge, text: str, advice: str, source: str = _COPY) -> Rule:
    return Rule(id_, errno, _CALLS, source, text, advice, judge)


RULES: Final = (
    _r("clone3-size-above-page", "E2BIG", _on(_too_large),
       "the size argument is larger than a page",
       "pass sizeof(struct clone_args), which is 64, 80 or 88"),
    _r("clone3-size-below-first", "EINVAL", _on(_too_small),
       "the size argument is smaller than the first clone_args that was ever published, 64 bytes",
       "pass sizeof(struct clone_args), which is 64, 80 or 88"),
    _r("clone3-struct-unreadable", "EFAULT", _on(_unreadable),
       "the kernel could not read the struct that the first argument points to",
       "check the pointer, and that size does not reach beyond mapped memory"),
    _r("clone3-nonzero-tail", "E2BIG", _on(_tail),
       "bytes beyond the clone_args that this kernel knows are not zero: the caller wants a newer feature",
       "clear the whole struct before filling it, or do without the feature on this kernel"),
    _r("clone3-set-tid-too-many", "EINVAL", _on(_set_tid_size),
       f"set_tid_size is more than {SET_TID_MAX}, the deepest nesting of pid namespaces",
       "name one pid for each level at most"),
    _r("clone3-set-tid-pair", "EINVAL", _on(_set_tid_pair),
       "set_tid and set_tid_size must both be zero or both not",
       "set both, or neither"),
    _r("clone3-exit-signal-invalid", "EINVAL", _on(_exit_signal),
       f"exit_signal is no signal (1 to {SIGRTMAX}, or 0 for none)",
       "pass a signal's number, usually SIGCHLD, and no flags in that field"),
    _r("clone3-cgroup-field", "EINVAL", _on(_cgroup),
       ("CLONE_INTO_CGROUP needs a descriptor in the cgroup field, and a size of at least 88 so that the field is "
        "read"),
       "pass the 88-byte clone_args with an open cgroup directory in it"),
    _r("clone3-set-tid-unreadable", "EFAULT", _on(_set_tid_array),
       "the kernel could not read set_tid_size pids at set_tid",
       "check the pointer and the count"),
    _r("clone3-unknown-flag", "EINVAL", _on(_unknown_flag),
       "a flag bit is set that no kernel up to 7.3 knows",
       "clear it; bits above 37 have no meaning yet", _VALID),
    _r("clone3-flag-too-new", "EINVAL", _on(_newer_flag),
       ("a flag is newer than this kernel: CLEAR_SIGHAND came with 5.5, INTO_CGROUP with 5.7, NEWTIME with 6.3, "
        "AUTOREAP, NNP, PIDFD_AUTOKILL and EMPTY_MNTNS with 7.1"),
       "retry without it where the kernel is older", _VALID),
    _r("clone3-detached", "EINVAL", has_all(f.CLONE_DETACHED),
       "clone3 refuses CLONE_DETACHED, which clone(2) ignores",
       "leave it out; it does nothing", _VALID),
    _r("clone3-signal-in-flags", "EINVAL", has_any(CSIGNAL & ~f.CLONE_NEWTIME),
       "the low byte of flags holds a signal, as for clone(2)",
       "put the signal in exit_signal", _VALID),
    _r("clone3-sighand-and-clear", "EINVAL", has_all(f.CLONE_SIGHAND | f.CLONE_CLEAR_SIGHAND),
       "CLONE_SIGHAND shares the signal actions and CLONE_CLEAR_SIGHAND resets them: one or the other",
       "drop one of the two", _VALID),
    _r("clone3-exit-signal-of-kin", "EINVAL", _on(_signal_with_kin),
       ("with CLONE_THREAD or CLONE_PARENT exit_signal must be 0: a thread sends none, and a sibling takes the "
        "caller's"),
       "set exit_signal to 0", _VALID),
    _r("clone3-stack", "EINVAL", _on(_stack),
       "stack and stack_size must both be zero or both not, and lie in user memory",
       "stack is the lowest address, stack_size its length in bytes; clone(2) takes the highest address instead",
       _VALID),
)  # fmt: skip
"""In the kernel's order."""
