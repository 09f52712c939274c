"""``forklore check``."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from typing import TextIO, cast

from forklore.cli.checking import judge, settings_of
from forklore.cli.common import add_check_arguments, add_color_argument, positive
from forklore.cli.main import USAGE_ERROR, complain
from forklore.cli.progress import reading
from forklore.export.findings.table import FORMATS

HELP = """\
Say what is wrong in a trace: descriptors that leak, pipes that cannot end, forks
beside threads, vfork children that write, crashes, what is left behind, and more.
FILE is a trace that `forklore run -o` recorded, or a log of strace, ltrace or QEMU.
What it does not tell is said, not passed over.
"""
EPILOG = """\
exit status:
  0  nothing found that is as bad as --fail-on
  1  something was
  2  the file, the configuration or an option is wrong

examples:
  forklore check trace.jsonl
  forklore check --fail-on error --ignore killed --ignore 'left-behind:sshd' trace.jsonl
  forklore check --format sarif -o found.sarif trace.jsonl
  strace -f -o log.txt make; forklore check log.txt
  forklore run --check -- make -j2
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore check``."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="the trace or log")
    parser.add_argument("--rules", action="store_true", help="list the rules, and judge nothing")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="text",
        help="; ".join(f"{name}: {each.about}" for name, each in FORMATS.items()) + " (default: text)",
    )
    parser.add_argument("-o", "--output", metavar="OUT", help="write to OUT (default: standard output)")
    add_check_arguments(parser)
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="name every task of a finding and every rule that was not judged"
    )
    parser.add_argument(
        "--columns", type=positive, metavar="N", help="as wide as that (default: the terminal, $COLUMNS, else 80)"
    )
    add_color_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Judge; the exit status."""
    from forklore.events.lines import TraceError
    from forklore.findings.check import IgnoreError
    from forklore.findings.settings import SettingsError
    from forklore.model.build import built
    from forklore.sources.files import open_any

    if arguments.rules:
        _list()
        return 0
    if arguments.file is None:
        complain("check: no FILE given; try: forklore run -o t.jsonl -- make; forklore check t.jsonl")
        return USAGE_ERROR
    try:
        said = settings_of(arguments)
        with _output(arguments.output) as file:
            source = open_any(arguments.file)
            with reading(arguments.file, file) as out:
                trace = built(source)
                return judge(trace, arguments.file, said, cast("TextIO", out), arguments, shape=file)
    except (TraceError, SettingsError, IgnoreError) as problem:
        complain(str(problem))
    except OSError as problem:
        complain(f"{problem.filename or arguments.file}: {problem.strerror}")
    return USAGE_ERROR


@contextlib.contextmanager
def _output(name: str | None) -> Iterator[TextIO]:
    if name is None:
        yield sys.stdout
        return
    with open(name, "w", encoding="utf-8") as file:
        yield file


def _list() -> None:
    from forklore.findings.table import RULES

    for rule in RULES:
        sys.stdout.write(f"{rule.id:<26}{rule.severity:<9}{rule.title}\n")
