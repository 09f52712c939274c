"""The answer to ``forklore explain`` as text of 80 columns and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from forklore.abi.errors import errno_name
from forklore.decode.calls import CALLS, Unshare
from forklore.decode.creation import SIGCHLD, Creation, signal_text
from forklore.decode.rules.rule import Kernel, Rule
from forklore.decode.rules.table import Reason
from forklore.decode.sharing import Fate
from forklore.export.json_tree.parts import word
from forklore.features.explain.answers import (
    CallComparison,
    CallExplained,
    ErrnoExplained,
    Explanation,
    TermExplained,
    explain,
)
from forklore.features.explain.equivalent import Equivalent, NoEquivalent
from forklore.features.explain.terms import FIELDS, Term

__all__ = ["explain", "to_json", "to_text"]

Json = dict[str, "JsonValue"]
JsonValue = None | bool | int | str | list["JsonValue"] | Json

WIDTH: Final = 80
_MARK: Final = "\u200b"
_OUTCOMES: Final = ("shared", "copied", "inherited", "new", "reset")
_UNCHANGED: Final = "-"
_OUTCOME_TITLES: Final = {
    "shared": "Shared with the caller, one for both",
    "copied": "Copied, equal at first",
    "inherited": "The caller's value or membership, to change alone",
    "new": "New",
    "reset": "Empty, off or zero",
}


def to_text(explanation: Explanation, *, verbose: bool = False) -> str:
    """The answer for people: lines of at most 80 columns where words allow, with a newline at the end.

    ``verbose``: of a call also what is so for every call of its kind, resource by resource, and its other forms.
    """
    if isinstance(explanation, CallExplained):
        lines = _call(explanation) if verbose else _in_short(explanation)
    elif isinstance(explanation, CallComparison):
        lines = _comparison(explanation)
    elif isinstance(explanation, TermExplained):
        lines = _term(explanation.term)
    else:
        lines = _errno(explanation)
    return "\n".join(lines) + "\n"


def _term(term: Term) -> Iterator[str]:
    yield from _wrapped(f"{term.name}: {term.title}", "", "    ")
    for paragraph in term.text:
        yield ""
        yield from _wrapped(paragraph, "  ", "  ")
    if term.rows:
        yield ""
        yield from _term_rows(term.rows)


def _term_rows(rows: tuple[tuple[str, ...], ...]) -> Iterator[str]:
    """A table whose last column is wrapped."""
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]) - 1)]
    for row in rows:
        start = "  " + "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        yield from (line.rstrip() for line in _wrapped(row[-1], start, " " * len(start)) or [start])


def _in_short(e: CallExplained) -> Iterator[str]:
    yield from _wrapped(e.call.text(), "", "    ")
    yield from _summary(e)
    if e.made_by:
        yield from _wrapped(f"as made by {'; '.join(e.made_by)} (a guess from its form)", "    ", "    ")
    yield from _why_it_failed(e)
    yield from _section("Flags", _flag_lines(e, brief=True))
    yield from _particular(e)
    if e.reasons:
        return
    if e.refused or e.by_kernel:
        yield from _section("What the kernel says", _verdict(e))
    if e.refused:
        return
    if isinstance(e.call, Unshare):  # few, and each by a flag that was given
        yield from _outcomes(e)
    else:
        yield from _section("The child has (-v says why, and what else there is)", _fates_in_short(e.fates))


def _fates_in_short(fates: tuple[Fate, ...]) -> Iterator[str]:
    for outcome in ("shared", "copied", "new"):
        if titles := [fate.title for fate in fates if fate.outcome == outcome]:
            yield from _wrapped("; ".join(titles), f"  {outcome:<8}", " " * 10)


def _call(e: CallExplained) -> Iterator[str]:
    yield from _wrapped(e.call.text(), "", "    ")
    yield from _summary(e)
    yield from _why_it_failed(e)
    yield from _section("Flags", _flag_lines(e))
    yield from _particular(e)
    who = (line for name in e.made_by for line in _wrapped(name, "  ", "    "))
    yield from _section("Who makes such a call (a guess from its form)", who)
    if not e.reasons:
        yield from _section("What the kernel says", _verdict(e))
    if not e.refused and not e.reasons:
        yield from _outcomes(e)
    yield from _section("The same by the other call", _equivalent(e.equivalent))
    yield from _section("The same bits elsewhere", _readings(e))


def _why_it_failed(e: CallExplained) -> Iterator[str]:
    if e.reasons:
        yield from _section(f"Why it failed with {errno_name(abs(e.errno or 0))}", _reason_lines(e.reasons))


def _particular(e: CallExplained) -> Iterator[str]:
    """What is to be said of this call and not of others."""
    if isinstance(e.call, Creation):
        yield from _section("Problems", (line for p in e.call.problems for line in _wrapped(p, "  ", "    ")))
    yield from _section("To know", (line for note in e.notes for line in _wrapped(note, "  - ", "    ")))
    yield from _section("Added by the kernel", (f"  {i.flag} adds {', '.join(i.adds)}" for i in e.implied))


def _summary(e: CallExplained) -> Iterator[str]:
    if e.note:
        yield f"    {e.note}"
    if e.word is not None:
        yield f"    flags word {e.word:#x} ({e.word})"
    call = e.call
    if not isinstance(call, Creation):
        return
    event = f"PTRACE_EVENT_{call.event.upper()}" if call.event else "an event that is not known"
    if call.event == "none":
        event = "no ptrace event"
    article = {"process": "a process", "thread": "a thread", "task": "a process or a thread"}[call.kind]
    yield f"    makes {article}; a tracer sees {event}"
    details = ", ".join(f"{name}={value}" for name, value in call.details())
    if details and not e.note:
        yield from _wrapped(details, "    ", "    ")


def _flag_lines(e: CallExplained, *, brief: bool = False) -> Iterator[str]:
    # Brief: a name and its meaning in one paragraph, without value and version.
    for flag in e.flags:
        if not brief:
            yield f"  {flag.name}  {flag.value:#x}  since Linux {flag.since}"
        yield from _wrapped(flag.meaning, f"  {flag.name}: " if brief else "      ", "      ")
    if e.unknown:
        where = "" if e.kernel is None else f" in Linux {'.'.join(map(str, e.kernel))}"
        yield f"  {e.unknown:#x}  no meaning to this call{where}"
    if isinstance(e.call, Creation) and e.call.exit_signal is not None:
        signal = e.call.exit_signal
        name = signal_text(signal) if signal else "no exit signal"
        fate = next((fate for fate in e.fates if fate.resource == "exit_signal"), None)
        if fate is None or not brief:
            yield f"  {name}  {signal:#x}"
        if fate is not None:
            yield from _wrapped(_sentence(fate.why), f"  {name}: " if brief else "      ", "      ")


def _verdict(e: CallExplained) -> Iterator[str]:
    if e.refused:
        first = errno_name(e.refused[0].errno)
        yield f"  refused with {first}:"
        yield from _reason_lines(e.refused)
    elif isinstance(e.call, Creation) and e.call.flags.raw is None:
        yield "  not to be told: the flags are not known"
    else:
        yield "  nothing in the arguments is refused; limits and privileges may still be"
        yield from _by_kernel(e)


def _by_kernel(e: CallExplained) -> Iterator[str]:
    """Kernels that refuse it for the same rule, together."""
    by_rule: dict[str, list[tuple[Kernel, Reason]]] = {}
    for kernel, reason in e.by_kernel:
        by_rule.setdefault(reason.rule, []).append((kernel, reason))
    for entries in by_rule.values():
        versions = ", ".join(f"{major}.{minor}" for (major, minor), _ in entries)
        reason = entries[0][1]
        text = f"Linux {versions} refuse it with {errno_name(reason.errno)}: {reason.text}"
        yield from _wrapped(text, "  - ", "    ")


def _reason_lines(reasons: tuple[Reason, ...]) -> Iterator[str]:
    for reason in reasons:
        sure = "" if reason.certain else "perhaps: "
        yield from _wrapped(f"{sure}{reason.text}", "  - ", "    ")
        if reason.advice:
            yield from _wrapped(f"To do: {reason.advice}.", "    ", "    ")
        if reason.source:
            yield from _wrapped(f"[{errno_name(reason.errno)}, rule {reason.rule}, {reason.source}]", "    ", "    ")


def _outcomes(e: CallExplained) -> Iterator[str]:
    """What the child gets; the call is not refused, as far as anybody can tell."""
    for outcome in _OUTCOMES:
        chosen = [fate for fate in e.fates if fate.outcome == outcome]
        yield from _section(_OUTCOME_TITLES[outcome], _fate_lines(chosen))
    if isinstance(e.call, Unshare) and e.fates:
        yield ""
        yield "All this is the caller's own; what is not named stays as it is"


def _fate_lines(fates: list[Fate]) -> Iterator[str]:
    kept = [fate.title.removesuffix(" namespace") for fate in fates if _is_kept_namespace(fate)]
    if kept:
        yield from _wrapped(f"namespaces: the child is in the caller's ({', '.join(kept)})", "  ", "      ")
    for fate in fates:
        if _is_kept_namespace(fate):
            continue
        # That a flag is absent goes without saying: the flags are listed above.
        cause = "" if fate.because == "always" or fate.because.startswith("no ") else f" [{fate.because}]"
        yield from _wrapped(f"{fate.title}: {fate.why}{cause}", "  ", "      ")


def _is_kept_namespace(fate: Fate) -> bool:
    return fate.resource.endswith("_ns") and fate.outcome == "inherited"


def _equivalent(equal: Equivalent | NoEquivalent | None) -> Iterator[str]:
    if isinstance(equal, Equivalent):
        yield from _wrapped(equal.creation.text(), "  ", "      ")
        for note in equal.notes:
            yield from _wrapped(note, "  - ", "    ")
    elif equal is not None:
        yield "  none:"
        for why in equal.why:
            yield from _wrapped(why, "  - ", "    ")


def _readings(e: CallExplained) -> Iterator[str]:
    for reading in e.readings:
        yield from _wrapped(reading.text, "  ", "      ")


def _comparison(comparison: CallComparison) -> Iterator[str]:
    titles = comparison.titles
    for title, column in zip(titles, comparison.columns, strict=True):
        note = f"  ({column.note})" if column.note else ""
        yield from _wrapped(f"{title}: {column.call.text(abbreviate=True)}{note}", "", "    ")
        for reason in column.refused[:1]:
            yield from _wrapped(f"refused with {errno_name(reason.errno)}: {reason.text}", "    ! ", "      ")
    if any(isinstance(column.call, Unshare) for column in comparison.columns):
        yield "unshare changes its caller and makes no child: - is what it leaves alone"
    rows = _rows(comparison)
    differ = [row for row in rows if len(set(row[1])) > 1]
    yield ""
    for first, last in _blocks(titles):
        yield from _table(differ, titles[first:last], first, last)
        yield ""
    for outcome in (*_OUTCOMES, _UNCHANGED):
        same = [title for title, cells in rows if set(cells) == {outcome}]
        if same:
            words = "untouched in all" if outcome == _UNCHANGED else f"{outcome} in all"
            yield from _wrapped(f"{words}: {', '.join(same)}", "", "    ")
    if {"clone", "clone3"} <= set(titles):
        yield from _section("Which argument is which field", _term_rows(FIELDS))


def _rows(comparison: CallComparison) -> list[tuple[str, list[str]]]:
    titles: dict[str, str] = {}
    cells: list[dict[str, str]] = []
    for column in comparison.columns:
        cells.append({fate.resource: _cell(fate, column) for fate in column.fates})
        for fate in column.fates:
            titles.setdefault(fate.resource, fate.title)
    return [(title, [cell.get(resource, _UNCHANGED) for cell in cells]) for resource, title in titles.items()]


def _cell(fate: Fate, column: CallExplained) -> str:
    """The outcome, except for the exit signal, where the signal says more."""
    if fate.resource == "exit_signal" and fate.outcome == "new" and isinstance(column.call, Creation):
        return signal_text(column.call.exit_signal) if column.call.exit_signal else "none"
    return fate.outcome


_LABEL: Final = 26


def _blocks(titles: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Ranges of columns that fit a line."""
    start, used = 0, _LABEL
    for i, title in enumerate(titles):
        width = _column(title)
        if i > start and used + width > WIDTH:
            yield start, i
            start, used = i, _LABEL
        used += width
    yield start, len(titles)


def _column(title: str) -> int:
    return max(min(len(title), 24), 9) + 2


def _table(rows: list[tuple[str, list[str]]], titles: tuple[str, ...], first: int, last: int) -> Iterator[str]:
    widths = [_column(title) for title in titles]
    shown = [title if len(title) <= 24 else title[:23] + "…" for title in titles]
    yield ("".ljust(_LABEL) + "".join(t.ljust(w) for t, w in zip(shown, widths, strict=True))).rstrip()
    for label, cells in rows:
        line = "".join(c.ljust(w) for c, w in zip(cells[first:last], widths, strict=True))
        yield (label.ljust(_LABEL) + line).rstrip()


def _errno(e: ErrnoExplained) -> Iterator[str]:
    yield f"{e.name} ({e.errno})"
    if not e.rules:
        yield "  no call that forklore decodes gives it by a rule of its own"
    by_calls: dict[tuple[str, ...], list[Rule]] = {}
    for rule in e.rules:
        by_calls.setdefault(rule.calls, []).append(rule)
    for calls, rules in by_calls.items():
        yield ""
        yield ", ".join(calls)
        for rule in rules:
            yield from _wrapped(rule.text, "  - ", "    ")


def _section(title: str, lines: Iterator[str]) -> Iterator[str]:
    body = list(lines)
    if body:
        yield ""
        yield title
        yield from body


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    """Wrapped at words; a chain of flags breaks after a bar."""
    wrapper = textwrap.TextWrapper(WIDTH, initial_indent=first, subsequent_indent=rest,
                                   break_long_words=False, break_on_hyphens=False)  # fmt: skip
    if len(first) + len(text) <= WIDTH:
        return [first + text]
    # textwrap breaks at spaces: each bar gets a marked one, taken out again.
    lines = wrapper.wrap(text.replace("|", f"|{_MARK} "))
    return [line.replace(f"|{_MARK} ", "|").replace(_MARK, "") for line in lines]


def to_json(explanation: Explanation) -> Json:
    """The answer for programs; docs/explain.md describes it."""
    if isinstance(explanation, CallExplained):
        return {"kind": "call", **_call_json(explanation)}
    if isinstance(explanation, CallComparison):
        columns: list[JsonValue] = [
            {"title": title, **_call_json(column)}
            for title, column in zip(explanation.titles, explanation.columns, strict=True)
        ]
        return {"kind": "comparison", "calls": columns}
    if isinstance(explanation, TermExplained):
        term = explanation.term
        rows: list[JsonValue] = [list(row) for row in term.rows]
        return {"kind": "term", "given": explanation.given, "name": term.name, "title": term.title,
                "text": list(term.text), "rows": rows}  # fmt: skip
    rules: list[JsonValue] = [_rule_json(rule) for rule in explanation.rules]
    return {"kind": "errno", "errno": explanation.errno, "name": explanation.name, "rules": rules}


def _call_json(e: CallExplained) -> Json:
    call = e.call
    document: Json = {
        "given": e.given,
        "call": _name(call),
        "arch": str(call.arch),
        "text": call.text(),
        "note": e.note,
        "word": word(e.word),
        "flags": [{"name": x.name, "value": x.value, "since": x.since, "meaning": x.meaning} for x in e.flags],
        "unknown_bits": word(e.unknown),
        "implied": [{"flag": i.flag, "adds": list(i.adds)} for i in e.implied],
        "made_by": list(e.made_by),
        "refused": [_reason_json(reason) for reason in e.refused],
        "by_kernel": [{"kernel": list(kernel), "reason": _reason_json(reason)} for kernel, reason in e.by_kernel],
        "fates": [_fate_json(fate) for fate in e.fates],
        "equivalent": _equivalent_json(e.equivalent),
        "readings": [{"call": r.call, "text": r.text} for r in e.readings],
        "errno": e.errno,
        "reasons": [_reason_json(reason) for reason in e.reasons],
        "kernel": None if e.kernel is None else list(e.kernel),
        "notes": list(e.notes),
    }
    if isinstance(call, Creation):
        document["creation"] = _creation_json(call)
    return document


def _creation_json(call: Creation) -> Json:
    # A note's stack stands for any; what a caller gave is shown as it is.
    return {
        "kind": call.kind,
        "event": call.event,
        "exit_signal": call.exit_signal,
        "sends_sigchld": None if call.exit_signal is None else call.exit_signal == SIGCHLD,
        "stack": word(call.stack),
        "stack_size": word(call.stack_size),
        "tls": word(call.tls),
        "parent_tid": word(call.parent_tid),
        "child_tid": word(call.child_tid),
        "pidfd": word(call.pidfd),
        "set_tid": list(call.set_tid),
        "cgroup": word(call.cgroup),
        "struct_size": word(call.struct_size),
        "problems": list(call.problems),
    }


def _name(call: object) -> str:
    if isinstance(call, Creation):
        return call.call
    return CALLS.get(type(call), "unknown")


def _fate_json(fate: Fate) -> Json:
    return {"resource": fate.resource, "title": fate.title, "outcome": fate.outcome, "why": fate.why,
            "because": fate.because}  # fmt: skip


def _reason_json(reason: Reason) -> Json:
    return {
        "rule": reason.rule,
        "errno": reason.errno,
        "name": errno_name(reason.errno),
        "certain": reason.certain,
        "text": reason.text,
        "advice": reason.advice,
        "source": reason.source,
    }


def _rule_json(rule: Rule) -> Json:
    return {"rule": rule.id, "calls": list(rule.calls), "text": rule.text, "advice": rule.advice,
            "source": rule.source, "since": list(rule.since) if rule.since else None,
            "until": list(rule.until) if rule.until else None}  # fmt: skip


def _equivalent_json(equal: Equivalent | NoEquivalent | None) -> Json | None:
    if equal is None:
        return None
    if isinstance(equal, NoEquivalent):
        return {"text": None, "why_not": list(equal.why)}
    return {
        "text": equal.creation.text(),
        "args": [word(value) for value in equal.args],
        "struct": None if equal.struct is None else equal.struct.hex(),
        "notes": list(equal.notes),
    }
