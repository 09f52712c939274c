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
from forklore.abi.former_flags import FORMER
from forklore.abi.signals import CSIGNAL
from forklore.decode.calls import Call, Implication, Unshare
from forklore.decode.creation import Creation
from forklore.decode.flagset import VOCABULARIES
from forklore.decode.library_forms import candidates
from forklore.decode.rules.rule import NEWEST_KERNEL, Kernel
from forklore.decode.rules.table import RULES, Context, Reason, Rule, injected, reasons, refusals
from forklore.decode.sharing import Fate, fates, unshare_fates
from forklore.decode.versions import as_of, is_followed, named, read_version, vocabulary
from forklore.features.explain.equivalent import Equivalent, NoEquivalent, to_clone, to_clone3
from forklore.features.explain.pasted import PASTED, read_line
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
from forklore.features.explain.terms import VFORK_RULES, Term, find, former_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "AskError",
    "CallComparison",
    "CallExplained",
    "ErrnoExplained",
    "Explanation",
    "Reading",
    "TermExplained",
    "explain",
]  # fmt: skip


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
    kernel: Kernel | None = None
    """Whose rules and names these are; None: those of :data:`NEWEST_KERNEL`."""
    notes: tuple[str, ...] = ()
    """What else there is to say: of the kernel's version, of what bits meant before, of how a child behaves."""


class CallComparison(Struct, frozen=True):
    """Several calls, side by side."""

    columns: tuple[CallExplained, ...]
    titles: tuple[str, ...]


class ErrnoExplained(Struct, frozen=True):
    """An error alone: every rule that gives it."""

    errno: int
    name: str
    rules: tuple[Rule, ...]


class TermExplained(Struct, frozen=True):
    """A word that is no call of today's Linux, or goes with one."""

    given: str
    term: Term


Explanation = CallExplained | CallComparison | ErrnoExplained | TermExplained


def explain(
    what: str | int,
    *more: str | int,
    call: CallName | None = None,
    kernel: Kernel | None = None,
    arch: Arch = Arch.X86_64,
) -> Explanation:
    """Explain a number, flag names, a clone_args, an error, or compare several calls.

    ``what`` and ``more`` are what the command takes: ``explain(0x1200011)``, ``explain("CLONE_VM|SIGCHLD")``,
    ``explain("fork", "vfork")``, ``explain("clone3", "0041...")``, ``explain("EINVAL", "CLONE_THREAD")``.
    A line that strace or ltrace printed is understood, too, and so are words of history (``explain("forkall")``).
    ``call`` chooses whose flags they are, ``kernel`` (major and minor, up to 2.6 a third number) whose rules and names,
    ``arch`` whose registers.

    :raises AskError: for what cannot be understood; its message names the part.
    """
    items = [hex(item) if isinstance(item, int) and item >= 0 else str(item) for item in (what, *more)]
    errno, items = _take_errno(items)
    if kernel is not None:
        kernel = _existing(kernel)
    if len(items) == 1 and errno is None and call is None and (term := find(items[0])) is not None:
        return TermExplained(items[0], term)
    words = _words(items, call, arch)
    told = {word.errno for word in words if word.errno is not None}
    if errno is None and len(told) == 1 and len(words) == 1:
        errno = told.pop()
    context = Context(kernel=kernel, target=words[0].target if len(words) == 1 else None)
    if errno is not None and not words:
        return ErrnoExplained(errno, errno_name(errno), _rules_giving(errno, call))
    if not words:
        raise AskError("nothing to explain; give a number, flags or calls such as: fork vfork posix_spawn")
    answers = tuple(_explain_word(word, errno, context) for word in words)
    if len(answers) == 1:
        return answers[0]
    return CallComparison(answers, tuple(word.title if word.title != "clone" else word.given for word in words))


def _existing(kernel: Kernel) -> Kernel:
    try:
        return read_version(".".join(map(str, kernel)))
    except ValueError as problem:
        raise AskError(str(problem)) from None


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
        pasted = read_line(split[i], arch)
        if pasted is not None:
            returned = pasted.value if pasted.errno is None else None
            words.append(
                Word(split[i], PASTED, pasted.call, None, pasted.errno, pasted.target, returned, pasted.injected)
            )
            i += 1
            continue
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
    call, kernel = word.call, context.kernel
    taken = as_of(call, kernel)
    flags, unknown, raw = _named(call, kernel)
    implied: tuple[Implication, ...] = ()
    fated: tuple[Fate, ...] = ()
    if isinstance(taken, Creation):
        fated = fates(taken)
    elif isinstance(call, Unshare):
        implied, fated = call.implied, unshare_fates(call)
    # Of a printed call nobody asks what else its bits could be.
    others = () if word.title == PASTED else other_readings(word)
    readings = tuple(Reading(name, other.text()) for name, other in others)
    return CallExplained(
        word.given, named(call, kernel), word.note, raw, flags, unknown, fated,
        made_by=candidates(taken) if isinstance(taken, Creation) else (),
        refused=refusals(call, context),
        by_kernel=_by_kernel(call, context),
        equivalent=_equivalent(call),
        readings=readings,
        implied=implied,
        errno=errno,
        reasons=() if errno is None else (injected(errno),) if word.injected else reasons(call, errno, context),
        kernel=kernel,
        notes=tuple(_notes(call, taken, word, kernel)),
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


def _notes(call: Creation | Call, taken: Creation | Call, word: Word, kernel: Kernel | None) -> Iterator[str]:
    if word.returned is not None:
        yield f"it returned {word.returned}" + (": strace had it do so, and the kernel did not run it" * word.injected)
    if kernel is not None and not is_followed(kernel):
        asked, newest = (".".join(map(str, version)) for version in (kernel, NEWEST_KERNEL))
        yield f"Linux {asked} is newer than {newest}, the last that the rules follow: judged as that one"
    shown = named(call, kernel)
    if taken is not call and isinstance(shown, Creation):
        ignored = shown.flags.unknown
        if ignored:
            names = "|".join(flag.name for flag in f.CLONE.split(ignored)[0])
            yield f"this kernel does not know {names or hex(ignored)}: clone(2) ignores what it does not know"
    if kernel is None and isinstance(call, Creation) and call.call == "clone":
        for former in FORMER:
            if (call.flags.raw or 0) & former.value:
                yield f"before: {former_text(former)}"
    if isinstance(call, Creation) and (call.flags.raw or 0) & _VFORK == _VFORK and not call.stack:
        yield from VFORK_RULES


_VFORK: Final = f.CLONE_VM | f.CLONE_VFORK


def _named(call: Creation | Call, kernel: Kernel | None) -> tuple[tuple[f.Flag, ...], int, int | None]:
    """The flags with what they mean to this call, the bits without a name, and the word as passed."""
    flag_word = getattr(call, "flags", None)
    if flag_word is None or flag_word.raw is None:
        return (), 0, None
    if isinstance(call, Creation):
        name = "clone3" if call.call == "clone3" else "clone"
        signal = 0 if name == "clone3" else (call.exit_signal or 0) & CSIGNAL
        flags, unknown = _known(name, kernel).split(flag_word.raw)
        return flags, unknown, flag_word.raw | signal
    name = type(call).__name__.lower()
    if name not in VOCABULARIES:
        return (), flag_word.unknown, flag_word.raw
    flags, unknown = _known(name, kernel).split(flag_word.raw)
    return flags, unknown, flag_word.raw


def _known(name: str, kernel: Kernel | None) -> f.Vocabulary:
    return VOCABULARIES[name] if kernel is None else vocabulary(name, kernel)
