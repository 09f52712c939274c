"""What differs between two sides of runs, in words and for JSON: arguments, environments, times, findings."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any, Literal

import msgspec
from msgspec import Struct

from forklore.abi.text import as_text, printable
from forklore.events import records as ev
from forklore.findings.check import Checked
from forklore.model.differences import ArgumentsChanged, Differences, EnvironmentChanged, TimeChanged
from forklore.model.environment import Changed
from forklore.model.matched import Words
from forklore.report.words import words
from forklore.report.words.code import clipped

_TEXT = 200


class FoundAt(Struct, frozen=True):
    """What a rule of `forklore check` finds, and where."""

    rule: str
    site: str
    text: str = ""
    """Of the first time; no part of what is compared."""


class FindingsChanged(Struct, frozen=True):
    """A finding that there was not, or is no more, or another number of times; of the runs of a side the most."""

    found: FoundAt
    before: int
    now: int


class RunFindings(Struct, frozen=True):
    """What is found in one trace."""

    found: dict[FoundAt, tuple[int, str]]
    """How often, and in words."""
    left_out: frozenset[str]
    """Rules that the trace tells too little for, or may have missed something."""


def findings(checked: Checked) -> RunFindings:
    """What `forklore check` finds in a trace, as it is compared."""
    found: dict[FoundAt, tuple[int, str]] = {}
    for folded in checked.findings:
        key = FoundAt(folded.first.rule, folded.first.site)
        count, text = found.get(key, (0, folded.first.text))
        found[key] = count + folded.count, text
    return RunFindings(found, frozenset(rule.id for rule, _ in (*checked.not_judged, *checked.in_part)))


def changed_findings(old: Sequence[RunFindings], new: Sequence[RunFindings]) -> tuple[FindingsChanged, ...]:
    """Findings that all runs of one side have and none of the other, or whose numbers do not overlap, of the rules that
    all traces tell enough for."""
    changed = []
    runs = (*old, *new)
    left_out = {rule for run in runs for rule in run.left_out}
    for key in dict.fromkeys(key for run in runs for key in run.found):
        if key.rule in left_out:
            continue
        before, now = ([run.found.get(key, (0, ""))[0] for run in side] for side in (old, new))
        if max(before) < min(now) or max(now) < min(before):
            text = next(run.found[key][1] for run in (*new, *old) if key in run.found)
            changed.append(FindingsChanged(FoundAt(key.rule, key.site, text), max(before), max(now)))
    return tuple(changed)


class Said(Struct, frozen=True):
    """A sentence, escaped, and all that it is about."""

    about: Literal["arguments", "environment", "time", "cpu", "finding"]
    text: str
    changes: tuple[ArgumentsChanged | EnvironmentChanged | TimeChanged | FindingsChanged, ...]


def said(found: Differences, changed: Iterable[FindingsChanged]) -> Iterator[Said]:
    """What changed in words; what says the same of several programs is one sentence."""
    together: dict[str, list[ArgumentsChanged]] = {}
    for each in found.arguments:
        together.setdefault(words_changed(each.before, each.now), []).append(each)
    for told, those in together.items():
        yield Said("arguments", f"{_all([_runs(each) for each in those])}: {told}", tuple(those))
    variables: dict[str, list[EnvironmentChanged]] = {}
    for variable in found.environments:
        variables.setdefault(_variable(variable.variable), []).append(variable)
    for told, changes in variables.items():
        who = _all([_name(each.program) for each in changes])
        yield Said("environment", f"environment of {who}: {told}", tuple(changes))
    for time in found.times:
        yield Said("cpu" if time.what == "cpu" else "time", _time(time), (time,))
    for finding in changed:
        yield Said("finding", _finding(finding), (finding,))


def remarks(found: Differences) -> Iterator[str]:
    """What is to be known of the comparison itself."""
    if found.times and not found.times[0].sure:
        yield "times are of one run a side: how much they vary is not known (--old, --new: more runs)"
    for what in found.not_compared:
        yield f"not compared, for not all of the traces tell it: {what}"


def lines(found: Differences, changed: Iterable[FindingsChanged]) -> Iterator[str]:
    """Sentences, escaped."""
    yield from (each.text for each in said(found, changed))
    yield from remarks(found)


def data(found: Differences, changed: Iterable[FindingsChanged]) -> dict[str, Any]:
    """The same as Python builtins."""
    return {
        "runs": list(found.runs),
        "arguments": [
            {
                "program": _raw(each.program), "before": list(map(_raw, each.before)),
                "now": list(map(_raw, each.now)), "count": each.count,
            }
            for each in found.arguments
        ],
        "environments": [_environment_data(each) for each in found.environments],
        "times": [
            {
                "program": None if each.program is None else _raw(each.program), "what": each.what,
                "before": list(each.before), "now": list(each.now), "sure": each.sure,
            }
            for each in found.times
        ],
        "findings": [
            {"rule": each.found.rule, "site": each.found.site, "text": each.found.text, "before": each.before,
             "now": each.now}
            for each in changed
        ],
    }  # fmt: skip


def differs(found: Differences, changed: Sequence[FindingsChanged]) -> bool:
    """Whether something changed. A time of one run a side is told, and may be chance."""
    return bool(found.arguments or found.environments or changed or any(each.sure for each in found.times))


def words_changed(before: Words, now: Words) -> str:
    """``-O2 became -O0``."""
    if not now:
        return f"no longer has {_words(before)}"
    return f"now has {_words(now)}" if not before else f"{_words(before)} became {_words(now)}"


def _words(given: Words) -> str:
    return clipped(" ".join(shlex.quote(as_text(word)) for word in given), _TEXT)


def _runs(each: ArgumentsChanged) -> str:
    return _name(each.program) + (f" ({words.count(each.count, 'run')})" if each.count > 1 else "")


def _name(program: bytes) -> str:
    return clipped(as_text(program))


def _all(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _variable(each: Changed) -> str:
    name = clipped(as_text(each.name), _TEXT)
    if each.before is None or each.now is None:
        value = clipped(as_text(each.before or each.now or b""), _TEXT)
        return f"{name}={value} is {'new' if each.before is None else 'no longer there'}"
    return f"{name} was {clipped(as_text(each.before), _TEXT)!r}, is {clipped(as_text(each.now), _TEXT)!r}"


def variable_words(each: Changed) -> str:
    """One variable: ``+ NAME=value``, ``- NAME``, ``NAME=before → now``."""
    name = clipped(as_text(each.name), _TEXT)
    if each.now is None:
        return f"- {name}"
    now = clipped(as_text(each.now), _TEXT)
    return f"+ {name}={now}" if each.before is None else f"{name}={clipped(as_text(each.before), _TEXT)} → {now}"


def _time(each: TimeChanged) -> str:
    what = {"wall": "time", "cpu": "CPU time"}[each.what]
    whose = "of the whole" if each.program is None else f"of {_name(each.program)}"
    before, now = median(each.before), median(each.now)
    times = f" ({now / before:.2f} times)" if before else ""
    return f"{what} {whose}: {_spread(each.before)}, now {_spread(each.now)}{times}"


def _spread(runs: tuple[int, ...]) -> str:
    middle = words.span(int(median(runs)))
    return middle if len(runs) == 1 else f"{middle} ({words.span(runs[0])} to {words.span(runs[-1])}, {len(runs)} runs)"


def _finding(each: FindingsChanged) -> str:
    site = f" at {printable(each.found.site)}" if each.found.site else ""
    if not each.before:
        return f"now found{site}: {each.found.rule}: {clipped(each.found.text, _TEXT)}"
    if not each.now:
        return f"no longer found{site}: {each.found.rule} (was {each.before:,} times)"
    return f"found {each.now:,} times{site} (was {each.before:,}): {each.found.rule}"


def _environment_data(each: EnvironmentChanged) -> dict[str, Any]:
    variable = each.variable
    values = {
        key: None if value is None else _raw(value)
        for key, value in (("before", variable.before), ("now", variable.now))
    }
    return {"program": _raw(each.program), "name": _raw(variable.name), **values}


def _raw(value: bytes) -> Any:  # noqa: ANN401 - JSON
    return msgspec.to_builtins(ev.text(value))
