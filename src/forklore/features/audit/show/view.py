"""An audit as text, Markdown and HTML: a table of functions and calls, and the details of each function."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from forklore.features.audit.functions import FUNCTIONS
from forklore.features.audit.result import Audit, AuditRow, encode
from forklore.features.audit.show import profile, words

_COLUMNS = ("function", "call", "after ENOSYS", "after EINVAL", "blocked", "stack")


View = Literal["table", "details", "seccomp"]
Format = Literal["text", "markdown", "json"]


def shown(audit: Audit, view: View, form: Format, functions: Sequence[str] = ()) -> str:
    """The audit in one of its views and forms; ``functions``: the details of these alone."""
    if view == "seccomp":
        return profile.document(audit).decode() if form == "json" else profile.text(audit)
    if form == "json":
        return encode(audit).decode()
    if form == "markdown":
        return markdown(audit)
    return details(audit, functions) if view == "details" or functions else text(audit)


def table(audit: Audit) -> list[tuple[str, ...]]:
    """One line a function, in a single-threaded program; functions that differ in nothing share one."""
    lines: dict[tuple[str, ...], list[str]] = {}
    for function in _functions(audit):
        row = audit.row(function)
        made = None if row is None else row.made or (row.attempts[0] if row.attempts else None)
        cells = (
            words.call(row),
            words.fallback(audit, _plain(audit, function), "ENOSYS"),
            words.fallback(audit, _plain(audit, function), "EINVAL"),
            made.blocked if made is not None else words.NOTHING,
            words.stack(made.stack) if made is not None else words.NOTHING,
        )
        lines.setdefault(cells, []).append(function)
    return [("\n".join(words.folded(names)), *cells) for cells, names in lines.items()]


def _functions(audit: Audit) -> list[str]:
    known = {row.function for row in audit.rows}
    return [function for function in FUNCTIONS if function in known]


def _plain(audit: Audit, function: str) -> str:
    # Variants that were not tried with refusals go with the function without its suffix.
    found = audit.row(function)
    if found is None or found.outcome != "called":
        return function
    tried = any(row.function == function and row.injected is not None for row in audit.rows)
    return function if tried else function.partition("/")[0]


def heading(audit: Audit) -> str:
    """Which library this is, and how the rows were got."""
    library = audit.library
    about = ", ".join(filter(None, (library.package, f"build-id {library.build_id}" if library.build_id else None)))
    return f"{library.name}" + (f" ({about})" if about else "")


def _differences(audit: Audit) -> Iterator[str]:
    # What a program with more threads than one sees otherwise.
    for function in _functions(audit):
        alone, many = audit.row(function, "single"), audit.row(function, "multi")
        if alone is None or many is None:
            continue
        if words.call(alone) != words.call(many):
            yield f"{function} in a program with threads: {words.call(many)}"


def text(audit: Audit) -> str:
    """The table for a terminal; what is long goes below what it belongs to."""
    parts = [heading(audit), audit.how, ""]
    for function, call, enosys, einval, blocked, stack in table(audit):
        names = ", ".join(function.split("\n"))
        parts.append(names)
        parts.append(f"    {call}")
        if enosys != words.NOTHING:
            parts.append(f"    where clone3 answers ENOSYS: {enosys}")
            parts.append(f"    where it answers EINVAL: {einval}")
        if stack != words.NOTHING:
            parts.append(f"    signals blocked: {blocked}; stack: {stack}")
    parts += ["", *_differences(audit)]
    return "\n".join(parts).rstrip() + "\n"


def details(audit: Audit, wanted: Sequence[str] = ()) -> str:
    """Everything about each row, or those of the ``wanted`` functions."""
    parts = [heading(audit), audit.how]
    for row, modes in _rows(audit):
        if not wanted or row.function in wanted:
            parts += ["", *card(row, modes)]
    return "\n".join(parts) + "\n"


def _rows(audit: Audit) -> Iterator[tuple[AuditRow, str]]:
    # A row of both kinds of program where they differ in nothing but how long the call took.
    for row in audit.rows:
        twin = audit.row(row.function, "multi" if row.mode == "single" else "single", row.injected)
        alike = twin is not None and msgspec.structs.replace(twin, mode=row.mode, held_ns=row.held_ns) == row
        if not alike or row.mode == "single":
            yield row, "single- and multi-threaded" if alike else f"{row.mode}-threaded"


def card(row: AuditRow, modes: str) -> Iterator[str]:
    """One row in lines, the first its title."""
    refused = f", the tracer refuses {row.injected}" if row.injected else ""
    yield f"{row.function}, {modes}{refused}"
    if row.outcome != "called":
        yield f"    {row.outcome}{': ' + row.why if row.why else ''}"
        if not row.attempts:
            return
    if row.before:
        yield f"    before    {'; '.join(row.before)}"
    for attempt in row.attempts:
        by = {"helper": " (by a thread of the library)", "child": " (by the child)"}.get(attempt.by, "")
        failed = f" = {attempt.refused}{' (by the tracer)' if attempt.injected else ''}" if attempt.refused else ""
        yield f"    call      {attempt.words}{failed}{by}"
        yield f"      blocked {attempt.blocked}; stack: {words.stack(attempt.stack)}"
        if words.pointers(attempt) != words.NOTHING:
            yield f"      where   {words.pointers(attempt)}"
        if attempt.refused is not None:
            continue
        if attempt.shared is not None:
            yield f"      shares  {', '.join(attempt.shared) or 'nothing'} (observed)"
        yield f"      child   {words.child(attempt)}"
        if attempt.says is not None:
            yield f"      says    {words.identity(attempt)}"
    if row.after:
        yield f"    after     {'; '.join(row.after)}"
    if row.exec_failure:
        yield f"    exec fails: {row.exec_failure}"
    yield f"    returns   {words.outcome(row)}" + (f", held {row.held_ns / 1000:.0f} us" if row.held_ns else "")


def markdown(audit: Audit) -> str:
    """The table as GitHub's Markdown has it."""
    lines = [f"# {heading(audit)}", "", audit.how, "", *_markdown_table(_COLUMNS, table(audit))]
    differences = list(_differences(audit))
    if differences:
        lines += ["", *(f"- {line}" for line in differences)]
    lines += ["", "## Details", "", "```"]
    for row, modes in _rows(audit):
        lines += [*card(row, modes), ""]
    return "\n".join([*lines[:-1], "```"]) + "\n"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        cells = (cell.replace("|", "\\|").replace("\n", "<br>") for cell in row)
        yield f"| {' | '.join(cells)} |"


def page(audits: Sequence[Audit]) -> str:
    """One self-contained HTML page."""
    parts = [_HEAD]
    for audit in audits:
        parts.append(f"<h1>{html.escape(heading(audit))}</h1><p>{html.escape(audit.how)}</p><table><tr>")
        parts += [f"<th>{html.escape(name)}</th>" for name in _COLUMNS]
        for row in table(audit):
            cells = "".join(f"<td>{html.escape(cell).replace(chr(10), '<br>')}</td>" for cell in row)
            parts.append(f"</tr>\n<tr>{cells}")
        parts.append("</tr></table>")
        for found, modes in _rows(audit):
            title, *lines = card(found, modes)
            body = html.escape("\n".join(lines))
            parts.append(f"<details><summary>{html.escape(title)}</summary><pre>{body}</pre></details>\n")
    return "".join(parts) + "</html>\n"


_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>forklore audit</title>
<style>
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem }
table { border-collapse: collapse }
th, td { border: 1px solid #8886; padding: .3rem .5rem; text-align: left; vertical-align: top }
td:nth-child(n+2), pre { font: 13px/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
pre { white-space: pre-wrap; margin: .3rem 1rem }
</style>
"""


def matrix(audits: Sequence[Audit]) -> list[str]:
    """Functions by libraries, each cell the call: Markdown."""
    functions = [f for f in FUNCTIONS if any(audit.row(f) is not None for audit in audits)]
    rows = [(f"`{function}`", *(words.call(audit.row(function)) for audit in audits)) for function in functions]
    columns = ("function", *(f"{audit.library.family} {audit.library.version}" for audit in audits))
    return list(_markdown_table(columns, rows))
