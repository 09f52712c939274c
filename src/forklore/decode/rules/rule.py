"""The form of a refusal rule: which call, which error, when, and in what words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct, field

from forklore.abi.capabilities import NAMES as CAPABILITIES
from forklore.decode.calls import Call
from forklore.decode.creation import Creation
from forklore.decode.versions import NEWEST_KERNEL as NEWEST_KERNEL
from forklore.decode.versions import Kernel as Kernel

AnyCall = Creation | Call

class Context(Struct, frozen=True):
    """What is known of the caller and its machine besides the call's arguments. Nothing of it is needed.

    ``limits`` holds numbers that may have decided, read right after the refusal or told by the trace; a name is
    missing where it could not be read. 1 and 0 stand for yes and no.

    - the machine: ``threads_max`` and ``threads_now``, ``pid_max``, ``overcommit_memory``, ``commit_limit`` and
      ``committed`` (KiB), ``files_max`` and ``files_now``, ``ns_built`` and ``ns_none`` (flags of the namespace types
      that the kernel has, and of those of which the user may have none), ``userns_clone`` (Debian's sysctl);
    - the caller: ``uid`` and ``cap_eff`` (its effective capabilities as a mask), which stand in for the fields ``uid``
      and ``caps``; ``threads`` (for the field of that name), ``policy`` (sched_getscheduler(2)), ``init`` (it is the
      init of a pid namespace), ``rlimit_nproc`` and ``user_tasks`` (tasks of its real user), ``pids_max`` and
      ``pids_current`` (of the tightest cgroup), ``rlimit_nofile`` and ``open_files``, ``private`` (KiB that a copy of
      its memory accounts for);
    - its namespaces: ``user_ns`` (inode), ``user_ns_first`` (it is the machine's), ``id_mapped``, ``chrooted``,
      ``pid_level`` (how deep its pid namespace is, from 0), ``pid_pending`` and ``time_pending`` (its next child goes
      to another one), ``init_ended`` (that of the pid namespace where its children go), ``sighand_shared``,
      ``mm_shared`` and ``fs_shared`` (with another process);
    - the call: ``traced`` (whom a ptrace is about is in the trace);
      ``fd_open`` (the descriptor it names), ``fd_own`` (a pidfd of the caller itself), ``pointer_ok`` (a
      result can be stored where it leads), ``group`` (setsid: the caller leads a process group);
    - seccomp: ``seccomp`` (the mode), ``seccomp_passed`` (the filters let the call through), ``seccomp_tracer`` (one
      asked for a tracer that is not there), ``seccomp_errno`` (what the filters answer; 0: nothing).
    """

    kernel: Kernel | None = None
    uid: int | None = None
    """The caller's real user id, as the first user namespace has it."""
    caps: frozenset[str] | None = None
    """The caller's effective capabilities in its own user namespace, such as ``CAP_SYS_ADMIN``."""
    threads: int | None = None
    """How many threads the caller's process has."""
    target: str | None = None
    """setns: what the descriptor refers to, as /proc names it."""
    limits: Mapping[str, int] = field(default_factory=dict)

    def capable(self, *names: str) -> bool | None:
        """Whether the caller has any of the capabilities; None where that is not known."""
        if self.caps is not None:
            return not self.caps.isdisjoint(names)
        mask = self.limits.get("cap_eff")
        return None if mask is None else any(mask >> CAPABILITIES.index(name) & 1 for name in names)

    def fact(self, name: str) -> bool | None:
        """What ``limits`` says of yes and no under a name."""
        value = self.limits.get(name)
        return None if value is None else value != 0

    @property
    def user(self) -> int | None:
        """``uid``, or the one that ``limits`` tells."""
        return self.limits.get("uid") if self.uid is None else self.uid

    @property
    def several_threads(self) -> bool | None:
        """Whether the caller's process has more threads than one."""
        count = self.limits.get("threads") if self.threads is None else self.threads
        return None if count is None else count > 1

    @property
    def filtered(self) -> bool | None:
        """Whether a seccomp filter may have answered in the kernel's place."""
        if self.fact("seccomp_passed") or self.limits.get("seccomp_errno") == 0 or self.limits.get("seccomp") == 0:
            return False
        return True if self.fact("seccomp_errno") or self.fact("seccomp_tracer") else None


OLDEST_TAKEN: Final = (4, 3)
"""A kernel whose version is not known is taken to be no older: a log of today is of a kernel of today."""

NOTHING_KNOWN: Final = Context()

Judge = Callable[[AnyCall, Context], bool | None]
"""True: the rule refuses this call. False: it does not. None: that depends on what is not known."""

Numbers = Callable[[Context], str | None]
"""Words the limits that decide, where they are known."""


class Rule(Struct, frozen=True):
    """One check of the kernel.

    ``since`` is the first version with the check, ``until`` the first without it. ``numbers`` words the
    limits that the context holds, where it does. ``open``: others than the kernel's own code may give this error at
    that point (security modules), so that nothing proves the rule by excluding the rest.
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
    open: bool = False

    def applies(self, call: AnyCall, context: Context) -> bool | None:
        """The judgement, with the kernel's version taken into account."""
        in_range = all_of(
            self.since is None or at_least(context, self.since),
            self.until is None or negate(at_least(context, self.until)),
        )
        return False if in_range is False else all_of(in_range, self.judge(call, context))


def at_least(context: Context, version: Kernel) -> bool | None:
    """Whether the kernel is ``version`` or newer; None where its version is not known, and some that run are older."""
    if context.kernel is None:
        return True if version <= OLDEST_TAKEN else None
    return context.kernel >= version


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


def certainly(_call: AnyCall, _context: Context) -> bool:
    """The judge of a rule that the kernel's version alone decides."""
    return True


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


def known(name: str) -> Judge:
    """The judge of what the context says of yes and no, under a name of ``limits``."""
    return lambda _call, context: context.fact(name)


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
