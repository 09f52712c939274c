"""All that is known of a call by its form alone, as data: the answer to ``forklore explain``.

Pure: nothing is asked of the machine it runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.abi.errors import errno_name
from forklore.abi.signals import CSIGNAL
from forklore.decode.calls import Call, Implication, Unshare
from forklore.decode.creation import Creation
from forklore.decode.flagset import VOCABULARIES
from forklore.decode.known import candidates
from forklore.decode.rules.rule import NEWEST_KERNEL, Kernel
from forklore.decode.rules.table import RULES, Context, Reason, Rule, reasons, refusals
from forklore.decode.sharing import Fate, fates, unshare_fates
from forklore.features.explain.equivalent import Equivalent, NoEquivalent, to_clone, to_clone3
from forklore.features.explain.questions import (
    AskError,
    CallName,
    Word,
    errno_of,
    is_struct,
    other_readings,
    read,
    read_struct,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["AskError", "CallExplained", "Comparison", "ErrnoExplained", "Explanation", "Reading", "explain"]


KERNELS: Final[tuple[Kernel, ...]] = (
    (5, 4), (5, 10), (5, 15), (6, 1), (6, 6), (6, 12), (6, 18), (7, 2), NEWEST_KERNEL,
)  # fmt: skip
"""Kernels in use, to say where a call fails for its version."""


class Reading(Struct, frozen=True):
    """The same bits, as another call takes them."""

    call: CallName
    text: str


class CallExplained(Struct, frozen=True):
    """One call. ``word`` is the flags argument with clone's exit signal in it, or None where it is not
    known."""

    given: str
    call: Creation | Call
    note: str | None
    word: int | None
    flags: tuple[f.Flag, ...]
    unknown: int
    fates: tuple[Fate, ...]
    made_by: tuple[str, ...]
    refused: tuple[Reason, ...]
    """What certainly refuses it, in the kernel's order; () does not promise success."""
    by_kernel: tuple[tuple[Kernel, Reason], ...]
    """Without a kernel to judge by, and where ``refused`` is empty: which of :data:`KERNELS` refuse it, and why."""
    equivalent: Equivalent | NoEquivalent | None
    readings: tuple[Reading, ...]
    implied: tuple[Implication, ...]
    """What unshare adds by itself."""
    errno: int | None
    reasons: tuple[Reason, ...]
    """What can explain ``errno``, where one was asked about."""


class Comparison(Struct, frozen=True):
    """Several calls, side by side."""

    columns: tuple[CallExplained, ...]
    titles: tuple[str, ...]


class ErrnoExplained(Struct, frozen=True):
    """An error alone: every rule that gives it."""

    errno: int
    name: str
    rules: tuple[Rule, ...]


Explanation = CallExplained | Comparison | ErrnoExplained


def explain(
    what: str | int,
    *more: str | int,
    call: CallName | None = None,
    kernel: tuple[int, int] | None = None,
    arch: Arch = Arch.X86_64,
) -> Explanation:
    """Explain a number, flag names, a clone_args, an error, or compare several calls.

    ``what`` and ``more`` are what the command takes: ``explain(0x1200011)``, ``explain("CLONE_VM|SIGCHLD")``,
    ``explain("fork", "vfork")``, ``explain("clone3", "0041...")``, ``explain("EINVAL", "CLONE_THREAD")``.
    ``call`` chooses whose flags they are, ``kernel`` (major, minor) whose rules, ``arch`` whose registers.

    :raises AskError: for what cannot be understood; its message names the part.
    """
    items = [hex(item) if isinstance(item, int) and item >= 0 else str(item) for item in (what, *more)]
    errno, items = _take_errno(items)
    context = Context(kernel=kernel)
    words = _words(items, call, arch)
    if errno is not None and not words:
        return ErrnoExplained(errno, errno_name(errno), _rules_giving(errno, call))
    if not words:
        raise AskError("nothing to explain; give a number, flags or calls such as: fork vfork posix_spawn")
    answers = tuple(_explain_word(word, errno, context) for word in words)
    if len(answers) == 1:
        return answers[0]
    return Comparison(answers, tuple(word.title if word.title != "clone" else word.given for word in words))


def _take_errno(items: Sequence[str]) -> tuple[int | None, list[str]]:
    rest, found = [], None
    for item in items:
        number = errno_of(item.strip())
        if number is None:
            rest.append(item)
        elif found is not None:
            raise AskError(f"{item!r}: one error at a time")
        else:
            found = number
    return found, rest


def _words(items: list[str], call: CallName | None, arch: Arch) -> list[Word]:
    split = [part for item in items for part in _split_struct(item)]
    words: list[Word] = []
    i = 0
    while i < len(split):
        if split[i].strip() == "clone3" and i + 1 < len(split) and is_struct(split[i + 1]):
            words.append(read_struct(split[i + 1], arch))
            i += 2
            continue
        words.append(read(split[i], call, arch))
        i += 1
    return words


def _split_struct(item: str) -> list[str]:
    head, _, tail = item.strip().partition(" ")
    return [head, tail] if head == "clone3" and is_struct(tail) else [item]


def _rules_giving(errno: int, call: CallName | None) -> tuple[Rule, ...]:
    name = errno_name(errno)
    return tuple(rule for rule in RULES if rule.errno == name and (call is None or call in rule.calls))


def _explain_word(word: Word, errno: int | None, context: Context) -> CallExplained:
    call = word.call
    flags, unknown, raw = _named(call)
    implied: tuple[Implication, ...] = ()
    fated: tuple[Fate, ...] = ()
    if isinstance(call, Creation):
        fated = fates(call)
    elif isinstance(call, Unshare):
        implied, fated = call.implied, unshare_fates(call)
    readings = tuple(Reading(name, other.text()) for name, other in other_readings(word))
    return CallExplained(
        word.given, call, word.note, raw, flags, unknown, fated,
        made_by=candidates(call) if isinstance(call, Creation) else (),
        refused=refusals(call, context),
        by_kernel=_by_kernel(call, context),
        equivalent=_equivalent(call),
        readings=readings,
        implied=implied,
        errno=errno,
        reasons=() if errno is None else reasons(call, errno, context),
    )  # fmt: skip


def _by_kernel(call: Creation | Call, context: Context) -> tuple[tuple[Kernel, Reason], ...]:
    if context.kernel is not None or refusals(call, context):
        return ()
    found = ((kernel, refusals(call, replace(context, kernel=kernel))) for kernel in KERNELS)
    return tuple((kernel, refused[0]) for kernel, refused in found if refused)


def _equivalent(call: Creation | Call) -> Equivalent | NoEquivalent | None:
    if not isinstance(call, Creation) or call.flags.raw is None:
        return None
    return to_clone(call) if call.call == "clone3" else to_clone3(call)


def _named(call: Creation | Call) -> tuple[tuple[f.Flag, ...], int, int | None]:
    """The flags with what they mean to this call, the bits without a name, and the word as passed."""
    flag_word = getattr(call, "flags", None)
    if flag_word is None or flag_word.raw is None:
        return (), 0, None
    if isinstance(call, Creation):
        name = "clone3" if call.call == "clone3" else "clone"
        signal = 0 if name == "clone3" else (call.exit_signal or 0) & CSIGNAL
        flags, unknown = VOCABULARIES[name].split(flag_word.raw)
        return flags, unknown, flag_word.raw | signal
    vocabulary = VOCABULARIES.get(type(call).__name__.lower())
    if vocabulary is None:
        return (), flag_word.unknown, flag_word.raw
    flags, unknown = vocabulary.split(flag_word.raw)
    return flags, unknown, flag_word.raw
