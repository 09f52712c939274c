"""The form of a refusal rule: which call, which error, when, and in what words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct, field

from forklore.decode.calls import Call
from forklore.decode.creation import Creation

AnyCall = Creation | Call
Kernel = tuple[int, int]
"""A kernel's version, major and minor."""

NEWEST_KERNEL: Final = (7, 3)
"""The last version whose source the rules follow."""


class Context(Struct, frozen=True):
    """What is known of the caller and its machine besides the call's arguments. Nothing of it is needed.

    ``limits`` holds numbers that may have decided, read right after the refusal; a name is missing where it
    could not be read: ``rlimit_nproc`` and ``user_tasks`` (tasks of the caller's real user), ``threads_max``
    and ``threads_now`` (of the machine), ``pid_max``, ``pids_max`` and ``pids_current`` (of the tightest
    cgroup), ``overcommit_memory`` (the sysctl); and ``uid`` and ``cap_eff`` (the caller's effective
    capabilities as a mask), which stand in for the fields ``uid`` and ``caps``.
    """

    kernel: Kernel | None = None
    uid: int | None = None
    """The caller's real user id, as the first user namespace has it."""
    caps: frozenset[str] | None = None
    """The caller's effective capabilities in its own user namespace, such as ``CAP_SYS_ADMIN``."""
    threads: int | None = None
    """How many threads the caller's process has."""
    limits: Mapping[str, int] = field(default_factory=dict)

    def capable(self, *names: str) -> bool | None:
        """Whether the caller has any of the capabilities; None where that is not known."""
        if self.caps is not None:
            return not self.caps.isdisjoint(names)
        mask = self.limits.get("cap_eff")
        return None if mask is None else any(mask >> _CAPABILITIES[name] & 1 for name in names)

    @property
    def user(self) -> int | None:
        """``uid``, or the one that ``limits`` tells."""
        return self.limits.get("uid") if self.uid is None else self.uid


NOTHING_KNOWN: Final = Context()

_CAPABILITIES: Final = {"CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24, "CAP_CHECKPOINT_RESTORE": 40}
"""Those that rules ask about, by their bit (include/uapi/linux/capability.h)."""

Judge = Callable[[AnyCall, Context], bool | None]
"""True: the rule refuses this call. False: it does not. None: that depends on what is not known."""

Numbers = Callable[[Context], str | None]
"""Words the limits that decide, where they are known."""


class Rule(Struct, frozen=True):
    """One check of the kernel.

    ``since`` is the first version with the check, ``until`` the first without it. ``numbers`` words the
    limits that the context holds, where it does.
    """

    id: str
    errno: str
    calls: tuple[str, ...]
    source: str
    text: str
    advice: str
    judge: Judge
    since: Kernel | None = None
    until: Kernel | None = None
    numbers: Numbers | None = None

    def applies(self, call: AnyCall, context: Context) -> bool | None:
        """The judgement, with the kernel's version taken into account."""
        in_range = all_of(
            self.since is None or at_least(context, self.since),
            self.until is None or negate(at_least(context, self.until)),
        )
        return False if in_range is False else all_of(in_range, self.judge(call, context))


def at_least(context: Context, version: Kernel) -> bool | None:
    """Whether the kernel is ``version`` or newer; None where its version is not known."""
    return None if context.kernel is None else context.kernel >= version


def all_of(*values: bool | None) -> bool | None:
    """And, where None is unknown."""
    if any(v is False for v in values):
        return False
    return None if any(v is None for v in values) else True


def any_of(*values: bool | None) -> bool | None:
    """Or, where None is unknown."""
    if any(v is True for v in values):
        return True
    return None if any(v is None for v in values) else False


def negate(value: bool | None) -> bool | None:
    """Not, where None is unknown."""
    return None if value is None else not value


def perhaps(_call: AnyCall, _context: Context) -> None:
    """The judge of a rule that the arguments tell nothing about."""


def flags_of(call: AnyCall) -> int | None:
    """The flags that the kernel acts on, or None: not known, or a call without any."""
    if isinstance(call, Creation):
        return call.flags.raw
    effective = getattr(call, "effective", None) or getattr(call, "flags", None)
    return None if effective is None else effective.raw


def has_all(flags: int) -> Judge:
    """The judge that wants every one of ``flags`` set."""

    def judge(call: AnyCall, _context: Context) -> bool | None:
        raw = flags_of(call)
        return None if raw is None else raw & flags == flags

    return judge


def has_any(flags: int) -> Judge:
    """The judge that wants at least one of ``flags`` set."""

    def judge(call: AnyCall, _context: Context) -> bool | None:
        raw = flags_of(call)
        return None if raw is None else bool(raw & flags)

    return judge


def lacks(flags: int) -> Judge:
    """The judge that wants none of ``flags`` set."""
    present = has_any(flags)
    return lambda call, context: negate(present(call, context))


def both(*judges: Judge) -> Judge:
    """The judge that wants all of the others to agree."""
    return lambda call, context: all_of(*(judge(call, context) for judge in judges))


def possible_if(judge: Judge) -> Judge:
    """The judge that is never sure: it only rules out what ``judge`` denies."""
    return lambda call, context: False if judge(call, context) is False else None


def reached(limit: str, count: str) -> Judge:
    """The judge of a limit by number.

    The count is read after the refusal, when some of the tasks may have ended: from half of the limit on,
    the rule stays possible.
    """

    def judge(_call: AnyCall, context: Context) -> bool | None:
        most, now = context.limits.get(limit), context.limits.get(count)
        if most is None or now is None:
            return None
        if most < 0:
            return False  # RLIM_INFINITY, as Python has it
        if now >= most:
            return True
        return None if 2 * now >= most else False

    return judge
