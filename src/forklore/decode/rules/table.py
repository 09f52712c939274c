"""Why the kernel refused a call: every rule that fits its arguments and its error, in the kernel's order.

The rules follow Linux 7.3 and were compared with running kernels; `since` and `until` say where older ones
differ. Not among them, though clone(2) says so: a bad parent_tid or child_tid pointer, CLONE_DETACHED to
clone(2), CLONE_NEWPID or CLONE_NEWUSER with CLONE_PARENT. None of these fails.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from forklore.abi.errors import RESTARTS, errno_name, errno_number
from forklore.abi.syscalls import CREATIONS
from forklore.decode.calls import CALLS
from forklore.decode.creation import Creation
from forklore.decode.rules import clone3, creation, limits, unshare
from forklore.decode.rules.rule import NEWEST_KERNEL, NOTHING_KNOWN, AnyCall, Context, Rule
from forklore.decode.versions import as_of, is_followed

__all__ = ["NEWEST_KERNEL", "RULES", "Context", "Reason", "Rule", "reasons", "refusals"]

RULES: Final[tuple[Rule, ...]] = (
    *limits.ENTRY,
    *clone3.RULES,
    *creation.ARGUMENTS,
    *limits.ALLOCATE,
    *creation.USER_NAMESPACE,
    *limits.TASKS,
    *creation.RESOURCES,
    *creation.PID,
    *limits.PIDS,
    *creation.DESCRIPTORS,
    *limits.CGROUP_LIMIT,
    *unshare.UNSHARE,
    *unshare.SETNS,
    *unshare.OTHERS,
)
"""Every rule, for each call in the order in which the kernel comes to it."""


class Reason(Struct, frozen=True):
    """One rule that explains a refusal.

    ``certain``: what is known of the call proves that the rule applies. Else it may, and nothing known
    denies it. ``text`` says what is wrong, with the numbers that decided where they are known; ``advice``
    what to do.
    """

    rule: str
    errno: int
    text: str
    advice: str
    certain: bool
    source: str

    @property
    def sentence(self) -> str:
        """Both in one line."""
        return f"{self.text}; {self.advice}" if self.advice else self.text


def reasons(call: AnyCall, errno: int, context: Context = NOTHING_KNOWN) -> tuple[Reason, ...]:
    """What can explain that ``call`` failed with ``errno`` (positive or negative); never empty.

    In the kernel's order, which stops at the first check that fails; filters, which come before all checks and which
    few programs have, last where they are merely possible. Where any is certain, only those that are: what is merely
    possible beside them need not have been there. What is left when all else is excluded is certain, too,
    if the kernel is one that the rules follow and no filter can have answered for it.
    """
    number = abs(errno)
    call = as_of(call, context.kernel)
    if number in RESTARTS:
        return (_restart(number),)
    if context.limits.get("seccomp_errno") == number and errno_name(number) not in _OF_FILTERS:
        return (_filtered(number),)
    judged = [(rule, rule.applies(call, context)) for rule in _rules_for(call) if errno_number(rule.errno) == number]
    certain = [rule for rule, applies in judged if applies]
    possible = [rule for rule, applies in judged if applies is None]
    if not certain and len(possible) == 1 and _all_is_known(possible[0], context):
        certain = possible
    possible.sort(key=lambda rule: rule.source == limits.SECCOMP)
    found = tuple(_reason(rule, bool(certain), context) for rule in certain or possible)
    return found or (_unexplained(number),)


def _all_is_known(rule: Rule, context: Context) -> bool:
    followed = context.kernel is not None and is_followed(context.kernel)
    return followed and context.filtered is False and not rule.open


def injected(errno: int) -> Reason:
    """Of an error that a tool made: no rule of the kernel had a part in it."""
    return Reason("injected", errno, "injected by strace: the kernel did not run the call", "", True, "strace(1)")


def refusals(call: AnyCall, context: Context = NOTHING_KNOWN) -> tuple[Reason, ...]:
    """The rules that certainly refuse ``call``, in the kernel's order: the first gives the error; () for
    none.

    That none is certain does not promise success: limits and privileges that are not known may still refuse.
    """
    call = as_of(call, context.kernel)
    return tuple(_reason(rule, True, context) for rule in _rules_for(call) if rule.applies(call, context))


def _call_name(call: AnyCall) -> str:
    if isinstance(call, Creation):
        return call.call
    return CALLS.get(type(call), "")


def _rules_for(call: AnyCall) -> tuple[Rule, ...]:
    return _BY_CALL.get(_call_name(call), ())


def _reason(rule: Rule, certain: bool, context: Context) -> Reason:
    numbers = rule.numbers(context) if rule.numbers else None
    text = f"{rule.text} ({numbers})" if numbers else rule.text
    return Reason(rule.id, errno_number(rule.errno) or 0, text, rule.advice, certain, rule.source)


def _restart(errno: int) -> Reason:
    return Reason(
        "restarted", errno,
        "not a failure: a signal was pending, the kernel makes the call again after it, and the program "
        "never sees this",
        "", True, "kernel/fork.c: copy_process",
    )  # fmt: skip


_OF_FILTERS: Final = ("EPERM", "ENOSYS")
"""Errors by which filters have rules of their own."""


def _filtered(errno: int) -> Reason:
    return Reason(
        "seccomp-errno", errno, f"a seccomp filter answers the call with {errno_name(errno)}",
        "allow the call in the profile", True, "kernel/seccomp.c: __seccomp_filter",
    )  # fmt: skip


def _unexplained(errno: int) -> Reason:
    return Reason(
        "unexplained", errno,
        f"no rule that forklore knows (up to Linux {'.'.join(map(str, NEWEST_KERNEL))}) gives "
        f"{errno_name(errno)} for this call",
        "a security module, a seccomp filter or a newer kernel may have rules of its own", False, "",
    )  # fmt: skip


_BY_CALL: Final = {
    name: tuple(rule for rule in RULES if name in rule.calls)
    for name in (*CREATIONS, *CALLS.values())
}
