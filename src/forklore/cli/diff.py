"""``forklore diff``: what changed from one trace, or one audit of a C library, to another, in words."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Literal, NamedTuple

from forklore.cli.common import check_output, output_file
from forklore.cli.main import complain

if TYPE_CHECKING:
    from forklore.export.page.differing import Side
    from forklore.features.audit.result import Audit
    from forklore.findings.check import Checked
    from forklore.model.census import Census
    from forklore.model.differences import RunFacts
    from forklore.model.tasks import Trace

HELP = "say in words what changed between two traces, or two audits of C libraries"

EPILOG = """\
A and B are two traces, in any form that `forklore show` reads, or two audits: what
`forklore audit --format json` wrote, or libraries as `forklore audit` takes them, which
are audited first. Which of these a file is, is told by its content.

examples:
  forklore run -q -o before.jsonl -- make
  forklore run -q -o after.jsonl -- make
  forklore diff before.jsonl after.jsonl
  forklore diff a1 b1 --old a2 a3 a4 --new b2 b3 b4     # times with their spread
  forklore diff before.jsonl after.jsonl --format html -o page.html
  forklore diff libc6_2.31_amd64.deb libc6_2.36_amd64.deb
  forklore diff before.json after.json --format json
"""

_HEAD: Final = 4096
_AUDIT: Final = re.compile(rb"\s*\{\s*\"audit\"\s*:")
_TRACE: Final = re.compile(rb"\s*\{[^\n]*\"forklore-trace\"")
_GZIP: Final = b"\x1f\x8b"

Kind = Literal["trace", "audit"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("old", metavar="A", type=Path, help="the trace, audit or library to start from")
    parser.add_argument("new", metavar="B", type=Path, help="the one to compare with it, of the same kind")
    for option, side in (("--old", "A"), ("--new", "B")):
        parser.add_argument(
            option, dest=f"{option[2:]}_runs", metavar="FILE", type=Path, nargs="+", action="extend", default=[],
            help=f"more runs of the same as {side}: what differs among these is no difference, and times have a spread",
        )  # fmt: skip
    parser.add_argument(
        "--format", choices=("text", "markdown", "json", "html"), default="text",
        help="html: one page with both timelines, of traces only (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write to FILE, which gets mode 0600, instead of the standard output"
    )


def run(args: argparse.Namespace) -> int:
    """Print the comparison; 0 if nothing changed, 1 if something did, 2 if one of them cannot be read or audited."""
    try:
        kinds = kind(args.old), kind(args.new)
    except OSError as problem:
        complain(f"{problem.filename}: {problem.strerror}")
        return 2
    if kinds != ("trace", "trace") and (args.old_runs or args.new_runs):
        complain("diff: --old and --new are more runs of traces, and audits have none")
        return 2
    if kinds[0] != kinds[1]:
        trace, audit = (args.old, args.new) if kinds[0] == "trace" else (args.new, args.old)
        complain(
            f"{trace} is a trace and {audit} is an audit, or a library to be audited: they tell of different things;"
            " give two traces or two audits"
        )
        return 2
    if kinds[0] == "audit" and args.format == "html":
        complain("diff: a page is of two traces; audits have --format text, markdown and json")
        return 2
    try:
        if args.output is not None:
            check_output(args.output)
        return _traces(args) if kinds[0] == "trace" else _audits(args)
    except OSError as problem:
        complain(f"{problem.filename or 'the output'}: {problem.strerror}")
        return 2


@contextmanager
def _out(args: argparse.Namespace) -> Iterator[IO[str]]:
    # Opened when all is known: a file that is there stays as it is where the two cannot be compared.
    if args.output is None:
        yield sys.stdout
        return
    with output_file(args.output, text=True) as file:
        yield file


def kind(name: Path) -> Kind:
    """What a name on the command line stands for. OSError, with the file's name."""
    if str(name) == "-" or name.is_fifo():
        return "trace"
    if name.is_dir() or name.suffix == ".deb":
        return "audit"
    with name.open("rb") as file:
        head = file.read(_HEAD)
    if _TRACE.match(head) or head.startswith(_GZIP):
        return "trace"
    # A library is no text; a log of another tool is nothing else.
    return "audit" if _AUDIT.match(head) or b"\0" in head or head.startswith(b"!<") else "trace"


def _traces(args: argparse.Namespace) -> int:
    from forklore.events.lines import TraceError
    from forklore.model.compare import compare
    from forklore.model.differences import differences
    from forklore.report import run_changes, trace_changes

    try:
        page = args.format == "html"
        old, new = (
            [_read(first, keep=page), *(_read(name, keep=False) for name in more)]
            for first, more in ((args.old, args.old_runs), (args.new, args.new_runs))
        )
    except TraceError as problem:
        complain(str(problem))
        return 2
    except OSError as problem:
        complain(f"{problem.filename or 'a trace'}: {problem.strerror}")
        return 2
    comparison = compare(old[0].census, new[0].census)
    found = differences([run.facts for run in old], [run.facts for run in new])
    counted = ([run_changes.findings(run.checked) for run in side] for side in (old, new))
    findings = run_changes.changed_findings(*counted)
    names = str(args.old), str(args.new)
    with _out(args) as out:
        if args.format == "json":
            out.write(trace_changes.to_json(names, comparison, run_changes.data(found, findings)).decode())
        elif args.format == "html":
            from forklore.export.page.comparison import write
            from forklore.export.page.differing import Differing

            sides = _side(names[0], old[0], comparison.old), _side(names[1], new[0], comparison.new)
            write(Differing(*sides, comparison, found, findings), out)
        else:
            shown = trace_changes.markdown if args.format == "markdown" else trace_changes.text
            out.write(shown(names, comparison, list(run_changes.lines(found, findings))))
    return 1 if comparison.changes or run_changes.differs(found, findings) else 0


def _side(name: str, run: _Run, census: Census) -> Side:
    from forklore.export.page.differing import Side

    assert run.trace is not None
    return Side(name, run.trace, census, run.checked)


class _Run(NamedTuple):
    # What is compared of a trace, which is read once, and kept for a page alone.
    census: Census
    facts: RunFacts
    checked: Checked
    trace: Trace | None


def _read(name: Path, *, keep: bool) -> _Run:
    from forklore.findings.check import check
    from forklore.model.census import counted
    from forklore.model.differences import facts
    from forklore.sources.files import open_any

    census, trace = counted(open_any(name))
    for warning in census.warnings:
        complain(warning)
    return _Run(census, facts(trace), check(trace), trace if keep else None)


def _audits(args: argparse.Namespace) -> int:
    from forklore.features.audit.errors import AuditError
    from forklore.features.audit.observe.package import refusal
    from forklore.features.audit.show.compare import compare

    try:
        comparison = compare(_audit(args.old), _audit(args.new))
    except AuditError as problem:
        complain(str(problem))
        return 2
    except OSError as problem:
        complain(refusal(problem))
        return 2
    with _out(args) as out:
        if args.format == "json":
            import msgspec

            out.write(msgspec.json.format(msgspec.json.encode(comparison), indent=1).decode() + "\n")
        else:
            out.write(comparison.markdown() if args.format == "markdown" else comparison.text())
    return 1 if comparison.changes else 0


def _audit(name: Path) -> Audit:
    from forklore.features.audit.audits import How, named
    from forklore.features.audit.observe.target import NoTargetError

    found = named(name, How(shared_only=True), complain)
    if len(found) != 1:
        names = ", ".join(audit.library.name for audit in found)
        raise NoTargetError(f"{name} holds {len(found)} libraries ({names}); name the file of one")
    return found[0]
