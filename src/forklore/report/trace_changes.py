"""The comparison of two traces in words, as Markdown and as JSON (docs/diff.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from forklore.abi.text import as_text, printable
from forklore.events import records as ev
from forklore.model.census import Act, Census, Ending, Execution, Maker, Manner, Refusal
from forklore.model.compare import Change, Counted, EndsOtherwise, Made, Shared, TraceComparison
from forklore.model.tasks import Death
from forklore.report.words import words
from forklore.report.words.code import clipped
from forklore.report.words.deaths import death_words

DIFF_FORMAT: Final = {"name": "forklore-trace-diff", "version": [1, 1]}
_MANY: Final = {"process": "processes", "thread": "threads", "task": "tasks"}
_PATH: Final = 200
_CALLER: Final = 100
_MARKDOWN: Final = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|~&"})


class ChangeInWords(Struct, frozen=True):
    """A change in words. ``text`` goes on from the names of those that it is about."""

    who: str
    text: str


def text(names: tuple[str, str], found: TraceComparison, more: Sequence[str] = ()) -> str:
    """Lines for people. ``names``: of the two traces; ``more``: sentences of what else differs."""
    first, second = map(printable, names)
    lines = [f"{first} -> {second}:", *(f"  {line}" for line in _lines(found, more))]
    return "\n".join(lines) + "\n"


def markdown(names: tuple[str, str], found: TraceComparison, more: Sequence[str] = ()) -> str:
    """The same as GitHub's Markdown has it."""
    first, second = (printable(name).translate(_MARKDOWN) for name in names)
    lines = [f"# {first} → {second}", "", *(f"- {line.translate(_MARKDOWN)}" for line in _lines(found, more))]
    return "\n".join(lines) + "\n"


def to_json(names: tuple[str, str], found: TraceComparison, more: Mapping[str, Any] | None = None) -> bytes:
    """One object for programs. ``more``: keys for what else differs."""
    data = {
        "format": DIFF_FORMAT,
        "old": _side(names[0], found.old),
        "new": _side(names[1], found.new),
        "changes": [change_data(change) for change in found.changes],
        "unchanged": {"makers": found.same_makers, "executions": found.same_executions},
        "not_compared": list(found.not_compared),
        **(more or {}),
    }
    return msgspec.json.format(msgspec.json.encode(data), indent=1) + b"\n"


def _lines(found: TraceComparison, more: Sequence[str]) -> Iterator[str]:
    yield totals(found.old, found.new)
    yield from (each.text for each in said(found.changes))
    yield from more
    yield from remarks(found)


class Said(Struct, frozen=True):
    """A sentence, escaped, and all that it is about."""

    about: str
    """As in the JSON."""
    text: str
    changes: tuple[Change, ...]


def said(changes: Sequence[Change]) -> Iterator[Said]:
    """What changed in words; what says the same of several is one sentence."""
    together: dict[tuple[str, str], list[tuple[str, Change]]] = {}
    for change in changes:
        one = say(change)
        together.setdefault((one.text, about(change)), []).append((one.who, change))
    for (told, what), those in together.items():
        names = list(dict.fromkeys(who for who, _ in those))
        whole = f"{names[0]} {told}" if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}: {told}"
        yield Said(what, whole, tuple(change for _, change in those))


def remarks(found: TraceComparison) -> Iterator[str]:
    """What did not change, and what is not compared."""
    same = [
        words.count(number, one, many)
        for number, one, many in (
            (found.same_makers, "place where tasks are made", "places where tasks are made"),
            (found.same_executions, "executed program", "executed programs"),
        )
        if number
    ]
    if same:
        yield f"{' and '.join(same)} unchanged"
    for what in found.not_compared:
        yield f"not compared, for only one of the two traces tells it: {what}"


def totals(old: Census, new: Census) -> str:
    """How many of what there were and are."""
    parts = []
    for kind, before, now in (
        ("process", old.processes, new.processes),
        ("thread", old.threads, new.threads),
        ("task", old.tasks, new.tasks),
    ):
        if before or now:
            parts.append(words.count(before, kind, _MANY[kind]) + ("" if before == now else f", now {now:,}"))
    refused = sum(old.refused.values()), sum(new.refused.values())
    if any(refused):
        parts.append(words.count(refused[0], "creation") + " refused" + _now(*refused))
    failed = tuple(sum(n for one, n in side.executed.items() if one.errno is not None) for side in (old, new))
    if any(failed):
        parts.append(words.count(failed[0], "exec") + " refused" + _now(*failed))
    return "; ".join(parts) or "no task was made in either"


def _now(before: int, now: int) -> str:
    return "" if before == now else f", now {now:,}"


def say(change: Change) -> ChangeInWords:
    """One change in words, escaped."""
    match change:
        case Made():
            return _made(change)
        case Shared():
            return _shared(change)
        case EndsOtherwise():
            return _ended(change)
        case Counted():
            return _counted(change)


def _counted(change: Counted) -> ChangeInWords:
    match change.what:
        case Refusal(maker=maker, manner=manner, errno=errno):
            return ChangeInWords(_maker(maker), _refused(change, manner_words(manner), errno))
        case Execution(program=program, path=path, errno=errno):
            shown = clipped(as_text(path), _PATH) or '""'
            if errno is None:
                return ChangeInWords(
                    _program(program), _times(change, f"executes {shown}", f"no longer executes {shown}")
                )
            failing = f"execute {shown} with {words.error(errno)}"
            return ChangeInWords(
                _program(program), _times(change, f"fails to {failing}", f"no longer fails to {failing}")
            )
        case Act(program=program, call=call, errno=errno):
            shown = printable(call)
            if errno is not None:
                return ChangeInWords(_program(program), _refused(change, shown, errno))
            return ChangeInWords(_program(program), _times(change, f"calls {shown}", f"no longer calls {shown}"))


def _refused(change: Counted, call: str, errno: int | None) -> str:
    refused = f"refused {call} with {words.error(errno)}"
    return _times(change, f"is {refused}", f"is no longer {refused}")


def _made(change: Made) -> ChangeInWords:
    kind, manners = change.maker.kind, change.manners
    if len(manners) == 2:
        (first, was, left), (second, had, is_) = sorted(manners, key=lambda one: one[2] - one[1])
        if was - left == is_ - had and left == had == 0:
            moved = f"moved from {manner_words(first)} to {manner_words(second)}"
            return ChangeInWords(f"{_maker(change.maker)} ({_number(was, kind)})", moved)
    parts = []
    for manner, before, now in manners:
        by = manner_words(manner)
        if before and now:
            parts.append(f"makes {_number(now, kind)} by {by} (was {before:,})")
        elif now:
            parts.append(f"now makes {_number(now, kind)} by {by}")
        else:
            parts.append(f"no longer makes {_MANY[kind]} by {by} (was {before:,})")
    return ChangeInWords(_maker(change.maker), "; ".join(parts))


def _shared(change: Shared) -> ChangeInWords:
    tasks = f"the {_MANY[change.maker.kind]} that it makes"
    how = " and ".join(change.how)
    if change.before == "none" and change.now == "all":
        told = f"now shares {change.resource} with {tasks} ({how})"
    elif change.before == "all" and change.now == "none":
        told = f"no longer shares {change.resource} with {tasks} ({how})"
    else:
        told = f"shares {change.resource} with {change.now} of {tasks} ({how}; was with {change.before})"
    return ChangeInWords(_maker(change.maker), told)


def _ended(change: EndsOtherwise) -> ChangeInWords:
    parts = (f"{_ending(ending)} {often(before)} before, {often(now)} now" for ending, before, now in change.endings)
    return ChangeInWords(_program(change.program), f"ended otherwise: {'; '.join(parts)}")


def _times(change: Counted, does: str, does_no_longer: str) -> str:
    if not change.now:
        return f"{does_no_longer} (was {often(change.before)})"
    if not change.before:
        return f"now {does}" + (f" ({often(change.now)})" if change.now > 1 else "")
    return f"{does} {often(change.now)} (was {often(change.before)})"


def often(number: int) -> str:
    """``never``, ``once``, ``12 times``."""
    return {0: "never", 1: "once", 2: "twice"}.get(number) or f"{number:,} times"


def _number(number: int, kind: str) -> str:
    return words.count(number, kind, _MANY[kind])


def _program(program: bytes) -> str:
    return clipped(as_text(program)) if program else "the command"


def _maker(maker: Maker) -> str:
    return _program(maker.program) + (f" in {clipped(maker.caller, _CALLER)}" if maker.caller else "")


def manner_words(manner: Manner) -> str:
    """``popen → posix_spawn as clone(CLONE_VM|CLONE_VFORK|SIGCHLD)``."""
    call = printable(manner.call)
    return f"{clipped(manner.library, _CALLER)} as {call}" if manner.library else call


def _ending(ending: Ending) -> str:
    return death_words(Death(code=ending.code, signal=ending.signal, core=ending.core))


def _side(name: str, side: Census) -> dict[str, Any]:
    header = side.header
    return {
        "name": name,
        "tool": header.source.tool,
        "command": msgspec.to_builtins(header.command),
        "processes": side.processes,
        "threads": side.threads,
        "tasks": side.tasks,
        "refused": sum(side.refused.values()),
    }


def about(change: Change) -> str:
    """What a change is about, in a word."""
    match change:
        case Made():
            return "made"
        case Shared():
            return "shared"
        case EndsOtherwise():
            return "ended"
        case Counted(what=what):
            return {Refusal: "refused", Execution: "executed", Act: "called"}[type(what)]


def change_data(change: Change) -> dict[str, Any]:
    """One change as Python builtins."""
    one = say(change)
    return {"about": about(change), **_data(change), "text": f"{one.who} {one.text}"}


def _data(change: Change) -> dict[str, Any]:
    match change:
        case Made():
            manners = [{**_manner_data(manner), **_numbers(was, now)} for manner, was, now in change.manners]
            return {**_maker_data(change.maker), "manners": manners}
        case Shared():
            extent = {"resource": change.resource, "how": list(change.how), "before": change.before, "now": change.now}
            return {**_maker_data(change.maker), **extent}
        case EndsOtherwise():
            endings = [{**_ending_data(ending), **_numbers(was, now)} for ending, was, now in change.endings]
            return {"program": _name(change.program), "endings": endings}
        case Counted():
            return {**_counted_data(change.what), **_numbers(change.before, change.now)}


def _counted_data(what: Refusal | Execution | Act) -> dict[str, Any]:
    match what:
        case Refusal():
            maker = _maker_data(what.maker)
            return {**maker, **_manner_data(what.manner), "error": words.error(what.errno)}
        case Execution():
            act = {"program": _name(what.program), "path": _name(what.path)}
        case Act():
            act = {"program": _name(what.program), "call": what.call}
    return {**act, "error": None if what.errno is None else words.error(what.errno)}


def _maker_data(maker: Maker) -> dict[str, Any]:
    return {"program": _name(maker.program), "kind": maker.kind, "caller": maker.caller or None}


def _manner_data(manner: Manner) -> dict[str, Any]:
    return {"library": manner.library or None, "call": manner.call}


def _ending_data(ending: Ending) -> dict[str, Any]:
    signal = None if ending.signal is None else words.signal(ending.signal)
    return {"code": ending.code, "signal": signal, "core": ending.core}


def _numbers(before: int, now: int) -> dict[str, int]:
    return {"before": before, "now": now}


def _name(raw: bytes) -> Any:  # noqa: ANN401 - JSON
    return msgspec.to_builtins(ev.text(raw))
