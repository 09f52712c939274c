"""docs/findings.md from the table of rules: what each finds, and which source tells enough for it."""

from __future__ import annotations

from typing import Final

from forklore.events import records as ev
from forklore.findings.rule import Rule
from forklore.findings.table import RULES

_HEAD: Final = """\
# What is found to be wrong

Generated from the rules in the code by `scripts/generate-pages`; do not edit.

[`forklore check`](check.md) judges a trace by these rules. Each finding has the rule's id, a severity, a sentence with
the facts, the tasks, the source line where it is known, and what to do. **error**: something went wrong. **warning**:
it will, or has cost. **note**: worth knowing. The severity in the table is the worst that a rule gives.

| rule | severity | what is wrong |
|---|---|---|
"""
_SOURCES_HEAD: Final = """
## What each source tells

A rule that lacks what it needs is named with the reason, and not passed over. **yes**: judged. **in part**: some of
what it is about is not told. **no**: not judged.

| rule | forklore | strace -f -tt | ltrace -S -f |
|---|---|---|---|
"""
_OWN: Final = ev.Header(
    source=ev.Source("forklore"),
    clock=ev.Clock(1, 1),
    options={"stops": "seccomp", "observe": "auto", "argv": True, "stack_depth": 32, "vfork_writes": False},
    limits={"pids_max": 1},
)
_SOURCES: Final = (
    _OWN,
    ev.Header(source=ev.Source("strace"), clock=ev.Clock(None, 1)),
    ev.Header(source=ev.Source("ltrace"), clock=ev.Clock(None, 1)),
)
_WITH: Final = {"vfork_writes": True}


def page() -> str:
    """The whole page, in Markdown."""
    rows = [f"| [`{rule.id}`](#{rule.id}) | {rule.severity} | {rule.title} |\n" for rule in RULES]
    told = [f"| `{rule.id}` | {' | '.join(_told(rule, header) for header in _SOURCES)} |\n" for rule in RULES]
    return "".join([_HEAD, *rows, _SOURCES_HEAD, *told, *map(_section, RULES)])


def _told(rule: Rule, header: ev.Header) -> str:
    if (why := rule.not_judged(header)) != "":
        if not rule.not_judged(_more(header)):
            return "with `--vfork-writes`"
        return f"no: {why}"
    part = rule.judged_in_part(header)
    return f"in part: {part}" if part else "yes"


def _more(header: ev.Header) -> ev.Header:
    return ev.Header(
        source=header.source, clock=header.clock, options={**header.options, **_WITH}, limits=header.limits
    )


def _section(rule: Rule) -> str:
    return (
        f"\n## {rule.id}\n\n{rule.title[0].upper()}{rule.title[1:]}. ({rule.severity})\n\n{rule.about}\n\n"
        f"**Not found:** {rule.right}\n\n**What to do:** {rule.advice}.\n"
    )
