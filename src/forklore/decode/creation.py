"""fork, vfork, clone and clone3: from raw words and bytes to a typed call.

Every input has an answer: what cannot be known is None in its field, and ``problems`` says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi import syscalls
from forklore.abi.arch import CLONE_BACKWARDS, X32_SYSCALL_BIT, Arch
from forklore.abi.clone_args import VER2
from forklore.abi.flags import (
    CLONE,
    CLONE3,
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_INTO_CGROUP,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_SETTLS,
    CLONE_THREAD,
    CLONE_UNTRACED,
    CLONE_VFORK,
    CLONE_VM,
)
from forklore.abi.signals import CSIGNAL, SIGRTMAX, signal_name
from forklore.abi.units import Address, Fd, Unavailable
from forklore.decode.clone_struct import NO_WORDS, PAGE_SIZE, SET_TID_MAX, Words, is_unmapped, read_struct, read_tids
from forklore.decode.flagset import UNKNOWN, FlagSet, flag_set

CallName = Literal["fork", "vfork", "clone", "clone3", "unknown"]
Event = Literal["fork", "vfork", "clone", "none"]
Kind = Literal["process", "thread", "task"]

SIGCHLD: Final = 17
"""The same number on every arch that forklore decodes."""

_LOW32: Final = 0xFFFF_FFFF
_LOW64: Final = 0xFFFF_FFFF_FFFF_FFFF
_CLONE_ORDER: Final = ("flags", "stack", "parent_tid", "child_tid", "tls")
_CLONE_ORDER_BACKWARDS: Final = ("flags", "stack", "parent_tid", "tls", "child_tid")
_MASK: Final = {arch: (1 << (8 * arch.word)) - 1 for arch in Arch}
_CREATORS: Final[tuple[CallName, ...]] = ("fork", "vfork", "clone", "clone3")


class Creation(Struct, frozen=True, gc=False):
    """A call that asks the kernel for a new task.

    A field is None where the call gives it no meaning (its flag is clear) or where it is not known;
    ``words`` has what the caller passed in either case, and ``problems`` what could not be read or makes no
    sense.
    """

    call: CallName
    """``unknown`` where the call's number is not known, or is not one of a creation in that arch."""
    arch: Arch
    nr: int | None
    args: tuple[int | None, ...]
    """The argument registers as given."""
    flags: FlagSet
    """Without the exit signal; for clone only the low 32 bits, which are all that the kernel looks at."""
    exit_signal: int | None
    """What the parent gets when the child ends, 0 for nothing; None where it is not known. A thread's and a
    CLONE_PARENT child's is not used by the kernel."""
    stack: Address | None = None
    """clone: the top of the child's stack. clone3: its lowest address. None: the caller's own, or its
    copy."""
    stack_size: int | None = None
    """In bytes; clone3 only."""
    tls: Address | None = None
    """With CLONE_SETTLS; on i386 the address of a struct user_desc."""
    parent_tid: Address | None = None
    """Where the child's tid is stored in the caller's memory, with CLONE_PARENT_SETTID."""
    child_tid: Address | None = None
    """Where the child's tid is stored in its own memory (CLONE_CHILD_SETTID) or cleared at its end
    (CLEARTID)."""
    pidfd: Address | None = None
    """Where the pid file descriptor is stored, with CLONE_PIDFD. clone(2) uses the word of parent_tid for
    it."""
    set_tid: tuple[int, ...] = ()
    """Wanted pids, innermost pid namespace first."""
    cgroup: Fd | None = None
    """The cgroup directory's descriptor, with CLONE_INTO_CGROUP."""
    struct_size: int | None = None
    """clone3's size argument, in bytes."""
    words: Words = NO_WORDS
    """The call's words by name, whether or not a flag makes them count."""
    unreadable: tuple[str, ...] = ()
    """``struct``, ``set_tid``: where the caller has no memory that it says holds them, or not for all of them."""
    unpaired: tuple[str, ...] = ()
    """Words of clone3 that lack what they go with, as ``problems`` says."""
    problems: tuple[str, ...] = ()

    @property
    def is_seen(self) -> bool:
        """Whether anything was seen of the call itself."""
        return self.call != "unknown" or self.nr is not None or bool(self.args)

    @property
    def is_thread(self) -> bool | None:
        """Whether the child joins the caller's thread group; None where the flags are not known."""
        return self.flags.has(CLONE_THREAD)

    @property
    def kind(self) -> Kind:
        """``task`` where the flags are not known: neither a process nor a thread can be claimed."""
        thread = self.is_thread
        return "task" if thread is None else "thread" if thread else "process"

    @property
    def event(self) -> Event | None:
        """The ptrace event that a tracer with every option gets; ``none`` for CLONE_UNTRACED, None if not
        known.

        It does not tell threads from processes (kernel/fork.c: kernel_clone).
        """
        raw = self.flags.raw
        if raw is None:
            return None
        if raw & CLONE_UNTRACED:
            return "none"
        if raw & CLONE_VFORK:
            return "vfork"
        if self.exit_signal is None:
            return None
        return "fork" if self.exit_signal == SIGCHLD else "clone"

    def text(self, *, abbreviate: bool = False, details: bool = False) -> str:
        """One line such as ``clone3(CLONE_VM|CLONE_VFORK, exit SIGCHLD)``.

        Unknown bits are shown in hexadecimal, a word that is not known as ``?``. ``abbreviate`` leaves out
        the prefix CLONE_; ``details`` adds the fields that count.
        """
        if self.call in ("fork", "vfork"):
            return f"{self.call}()"
        if not self.is_seen:
            return "system call not known"
        terms = self.flags.terms(abbreviate=abbreviate)
        signal = "?" if self.exit_signal is None else signal_text(self.exit_signal)
        parts = []
        if self.call == "clone3":
            parts = ["|".join(terms) or "0"]
            if self.exit_signal != 0:
                parts.append(f"exit {signal}")
        else:
            known_signal = bool(self.exit_signal)
            parts = ["|".join([*terms, signal] if known_signal else terms) or "0"]
        parts += [f"{name}={_shown(name, getattr(self.words, name))}" for name in self.unpaired]
        if details:
            parts += [f"{name}={value}" for name, value in self.details()]
        return f"{'?' if self.call == 'unknown' else self.call}({', '.join(parts)})"

    def details(self) -> tuple[tuple[str, str], ...]:
        """The fields that count, besides flags and exit signal, as name and text."""
        shown: list[tuple[str, str]] = []
        for name in ("pidfd", "child_tid", "parent_tid", "stack", "stack_size", "tls"):
            value = getattr(self, name)
            if value is not None:
                shown.append((name, hex(value)))
        if self.set_tid:
            shown.append(("set_tid", "[" + ", ".join(map(str, self.set_tid)) + "]"))
        if self.cgroup is not None:
            shown.append(("cgroup", str(self.cgroup)))
        if self.struct_size is not None:
            shown.append(("size", str(self.struct_size)))
        return tuple(shown)


def _shown(name: str, value: int) -> str:
    return str(value) if name in ("set_tid_size", "cgroup") else hex(value)


def signal_text(number: int) -> str:
    """The signal's name, or its number where it has none."""
    return signal_name(number) if 0 < number <= SIGRTMAX else str(number)


def call_name(arch: Arch, nr: int | None) -> str | None:
    """The name of call ``nr`` in ``arch``, with or without x32's bit 30; None if there is none."""
    if nr is None or nr < 0:
        return None
    if arch is Arch.X32:
        return syscalls.name(arch, nr | X32_SYSCALL_BIT) or syscalls.name(arch, nr & ~X32_SYSCALL_BIT)
    return syscalls.name(arch, nr)


def decode_creation(
    arch: Arch,
    nr: int | None,
    args: Sequence[int | None],
    struct: bytes | Unavailable | None = None,
    set_tid: bytes | Unavailable | None = None,
    flags: int | None = None,
) -> Creation:
    """Decode a call from its number and argument registers, and for clone3 what it points to.

    ``struct`` is what could be read at the first argument, ``set_tid`` at the struct's set_tid; None where
    nobody tried. ``flags``: those that the kernel acted on, for a call whose own are not known. Never raises for any
    number or bytes.
    """
    made = _decoded(arch, nr, args, struct, set_tid)
    return made if flags is None or made.flags.raw is not None else replace(made, flags=flag_set(CLONE3, flags))


def _decoded(
    arch: Arch,
    nr: int | None,
    args: Sequence[int | None],
    struct: bytes | Unavailable | None,
    set_tid: bytes | Unavailable | None,
) -> Creation:
    given = tuple(args)
    call = _creator(arch, nr)
    if call == "unknown" and nr is None and struct is not None:
        call = "clone3"
    if call == "clone":
        return _decode_clone(arch, nr, given)
    if call == "clone3":
        return _decode_clone3(arch, nr, given, struct, set_tid)
    if call == "unknown":
        none = f"system call {nr} of {arch} creates no task"
        why = "the call's number is not known" if nr is None else none
        return Creation(call, arch, nr, given, UNKNOWN, None, problems=(why,))
    raw = CLONE_VM | CLONE_VFORK if call == "vfork" else 0
    words = replace(NO_WORDS, flags=raw, exit_signal=SIGCHLD)
    return Creation(call, arch, nr, given, flag_set(CLONE, raw), SIGCHLD, words=words)


@lru_cache(maxsize=256)
def _creator(arch: Arch, nr: int | None) -> CallName:
    name = call_name(arch, nr)
    for call in _CREATORS:
        if call == name:
            return call
    return "unknown"


def clone_order(arch: Arch) -> tuple[str, ...]:
    """The names of clone(2)'s arguments in the order of ``arch``'s registers."""
    return _CLONE_ORDER_BACKWARDS if arch in CLONE_BACKWARDS else _CLONE_ORDER


@lru_cache(maxsize=1024)
def _decode_clone(arch: Arch, nr: int | None, args: tuple[int | None, ...]) -> Creation:
    # Cached: a program forks with the same words over and over, and a trace holds many such calls.
    mask = _MASK[arch]
    given = [None if value is None else value & mask for value in args[:5]]
    given += [None] * (5 - len(given))
    named = dict(zip(clone_order(arch), given, strict=True))
    words = Words(
        flags=named["flags"],
        stack=_address(named["stack"]),
        tls=_address(named["tls"]),
        parent_tid=_address(named["parent_tid"]),
        child_tid=_address(named["child_tid"]),
    )
    problems: list[str] = []
    if words.flags is None:
        problems.append("the flags argument is not known")
        return Creation("clone", arch, nr, args, UNKNOWN, None, words=words, problems=tuple(problems))
    raw = words.flags & _LOW32 & ~CSIGNAL
    signal = words.flags & CSIGNAL
    flags = flag_set(CLONE, raw)
    problems.extend(_clone_problems(words.flags, signal))
    return Creation(
        "clone", arch, nr, args, flags, signal,
        stack=words.stack or None,
        tls=words.tls if raw & CLONE_SETTLS else None,
        parent_tid=words.parent_tid if raw & CLONE_PARENT_SETTID else None,
        child_tid=words.child_tid if raw & (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID) else None,
        pidfd=words.parent_tid if raw & CLONE_PIDFD else None,
        words=words,
        problems=tuple(problems),
    )  # fmt: skip


def _clone_problems(word: int, signal: int) -> Iterator[str]:
    high = word & ~_LOW32
    if high:
        names, _ = CLONE3.split(high)
        meant = f" ({'|'.join(f.name for f in names)}: clone3 only)" if names else ""
        yield f"clone(2) ignores the bits above 31: {high:#x}{meant}"
    if signal & 0x80:
        meant = signal_text(signal & 0x7F) if signal & 0x7F else "no signal"
        yield (
            f"exit signal {signal} is no signal; it looks like CLONE_NEWTIME|{meant}, "
            "but clone(2) takes that bit as part of the signal"
        )
    elif signal > SIGRTMAX:
        yield f"exit signal {signal} is no signal"


@lru_cache(maxsize=1024)
def _decode_clone3(
    arch: Arch,
    nr: int | None,
    args: tuple[int | None, ...],
    struct: bytes | Unavailable | None,
    set_tid: bytes | Unavailable | None,
) -> Creation:
    size = _word(arch, args[1] if len(args) > 1 else None)
    words, problems = read_struct(struct, size)
    faults: tuple[str, ...] = ("struct",) if is_unmapped(struct, min(size or 0, PAGE_SIZE)) else ()
    raw = words.flags
    if raw is None:
        return Creation(
            "clone3", arch, nr, args, UNKNOWN, words.exit_signal,
            struct_size=size, words=words, unreadable=faults, problems=tuple(problems),
        )  # fmt: skip
    flags = flag_set(CLONE3, raw)
    if flags.unknown:
        problems.append(f"flag bits without a name: {flags.unknown:#x}")
    if words.exit_signal and words.exit_signal > SIGRTMAX:
        problems.append(f"exit signal {words.exit_signal} is no signal")
    unpaired = dict(_unpaired(words, raw, size))
    problems.extend(dict.fromkeys(unpaired.values()))
    tids: tuple[int, ...] = ()
    if words.set_tid_size and words.set_tid != 0:
        tids, problem = read_tids(set_tid, words.set_tid_size)
        problems.extend(problem)
        faults += ("set_tid",) if is_unmapped(set_tid, 4 * min(words.set_tid_size, SET_TID_MAX)) else ()
    has_stack = words.stack or words.stack_size
    return Creation(
        "clone3", arch, nr, args, flags, words.exit_signal,
        stack=words.stack if has_stack else None,
        stack_size=words.stack_size if has_stack else None,
        tls=words.tls if raw & CLONE_SETTLS else None,
        parent_tid=words.parent_tid if raw & CLONE_PARENT_SETTID else None,
        child_tid=words.child_tid if raw & (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID) else None,
        pidfd=words.pidfd if raw & CLONE_PIDFD else None,
        set_tid=tids,
        cgroup=None if words.cgroup is None or not raw & CLONE_INTO_CGROUP else Fd(words.cgroup),
        struct_size=size,
        words=words,
        unreadable=faults,
        unpaired=tuple(name for name in unpaired if name != "flags"),
        problems=tuple(problems),
    )  # fmt: skip


_COUNT_WITH: Final = {
    "tls": (CLONE_SETTLS, "CLONE_SETTLS"), "parent_tid": (CLONE_PARENT_SETTID, "CLONE_PARENT_SETTID"),
    "child_tid": (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, "CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID"),
    "cgroup": (CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"),
}  # fmt: skip
"""The members of clone_args that a flag makes count, but for pidfd, which glibc's pthread_create fills in any case."""


def _unpaired(words: Words, raw: int, size: int | None) -> Iterator[tuple[str, str]]:
    """Words that lack what they go with, and what is wrong (kernel/fork.c: copy_clone_args_from_user)."""
    if bool(words.set_tid) != bool(words.set_tid_size) and None not in (words.set_tid, words.set_tid_size):
        why = f"set_tid is {words.set_tid:#x} and set_tid_size {words.set_tid_size}: both must be zero or both not"
        yield from (("set_tid", why), ("set_tid_size", why))
    if raw & CLONE_INTO_CGROUP and size is not None and size < VER2:
        yield "flags", f"CLONE_INTO_CGROUP is set, and a clone_args of {size} bytes has no cgroup"
    for name, (bits, names) in _COUNT_WITH.items():
        value = getattr(words, name)
        if value and not raw & bits:
            yield name, f"{name} is {_shown(name, value)} and does not count without {names}"


def from_flags(arch: Arch, call: Literal["clone", "clone3"], raw: int, exit_signal: int) -> Creation:
    """A call of which only the flags and the exit signal are known, as when somebody asks about them.

    ``raw`` has no exit signal in it; for clone what exceeds 32 bits or lies in the low byte is dropped.
    """
    nr = syscalls.number(arch, call)
    if call == "clone":
        return decode_creation(arch, nr, ((raw & _LOW32 & ~CSIGNAL) | (exit_signal & CSIGNAL),))
    raw &= _LOW64
    flags = flag_set(CLONE3, raw)
    words = Words(flags=raw, exit_signal=exit_signal)
    problems = (f"flag bits without a name: {flags.unknown:#x}",) if flags.unknown else ()
    return Creation(call, arch, nr, (), flags, exit_signal, words=words, problems=problems)


def _word(arch: Arch, value: int | None) -> int | None:
    return None if value is None else value & _MASK[arch]


def _address(value: int | None) -> Address | None:
    return None if value is None else Address(value)


__all__ = [
    "SET_TID_MAX",
    "SIGCHLD",
    "CallName",
    "Creation",
    "Event",
    "Kind",
    "Words",
    "call_name",
    "clone_order",
    "decode_creation",
    "from_flags",
    "signal_text",
]
