"""``forklore diff``: what changed from one trace, or one audit of a C library, to another, in words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from forklore.cli.common import check_output, output_file
from forklore.cli.main import complain

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
    from forklore.events.lines import TraceError
    from forklore.features.audit.errors import AuditError
    from forklore.features.diff.diff import DiffOptions, NotComparableError, diff

    options = DiffOptions(
        old=args.old, new=args.new, old_runs=args.old_runs, new_runs=args.new_runs, form=args.format
    )  # fmt: skip
    try:
        if args.output is not None:
            check_output(args.output)
        found = diff(options, complain)
        with _out(args) as out:
            found.write(out, args.format)
    except (NotComparableError, TraceError, AuditError) as problem:
        complain(str(problem))
        return 2
    except OSError as problem:
        from forklore.features.audit.observe.package import refusal

        complain(refusal(problem))
        return 2
    return 1 if found else 0


@contextmanager
def _out(args: argparse.Namespace) -> Iterator[IO[str]]:
    # Opened when all is known: a file that is there stays as it is where the two cannot be compared.
    if args.output is None:
        yield sys.stdout
        return
    with output_file(args.output, text=True) as file:
        yield file
