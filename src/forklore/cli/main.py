"""The ``forklore`` command: which verb, and what errors look like."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final, NoReturn

from forklore.abi.text import printable
from forklore.cli.streams import OutputLostError, open_streams
from forklore.version import VERSION

VERBS: Final = {
    "run": "trace a program and show the tree of what it created",
    "attach": "trace programs that are running already, without stopping them",
    "watch": "follow what a machine, a cgroup, a user or a program starts, without stopping anybody",
    "show": "show a trace file, ours or strace's or ltrace's",
    "check": "say what is wrong in a trace: leaks, hangs in the making, crashes, waste",
    "explain": "put flags, calls, clone3 structs and refusals into words",
    "inspect": "show what running tasks share right now",
    "why": "say what hanging programs wait for, to the root of the chain",
    "audit": "say how a C library creates processes and threads, function by function",
    "diff": "say in words what changed between two traces, or two audits of C libraries",
    "export": "add traces to a directory of Parquet files",
    "query": "ask traces in SQL",
    "doctor": "say what this machine allows, and what to do about what it does not",
    "demo": "trace something real, with nothing to prepare",
}
"""Each verb is a module of this folder; only the one that is asked for is imported, for start-up time counts."""

OWN_FAILURE: Final = 125
"""Exit status of ``run`` when forklore itself fails, as env(1) and timeout(1) have it."""
USAGE_ERROR: Final = 2

_DESCRIPTION = """\
strace shows the flags that were passed. forklore shows what they made: it runs a
program under ptrace, decodes every fork, vfork, clone and clone3 to the bit, and
rebuilds the tree of processes and threads.
"""
_EXAMPLES = """\
examples:
  forklore run -- make -j2            the tree of what make starts
  forklore run -o t.jsonl -- ./a.out  and keep the trace
  forklore show t.jsonl               look at it again, on any machine
  forklore explain 0x1200011          what a clone call says
  forklore explain EINVAL CLONE_THREAD   why it was refused
  forklore audit                      how this C library forks, spawns and threads
  forklore doctor                     can I trace here?
"""


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal. (argparse's own way to the width costs an import at every start.)"""

    def __init__(self, prog: str) -> None:
        try:
            width = os.get_terminal_size().columns
        except OSError:
            width = 80
        super().__init__(prog, max_help_position=26, width=min(width, 100) - 2)


class Parser(argparse.ArgumentParser):
    """Reports a usage error in one line, with where to read on."""

    status = USAGE_ERROR

    def error(self, message: str) -> NoReturn:
        """End with a message on stderr."""
        self.exit(self.status, f"{self.prog}: {printable(message)}\n(see: {self.prog} --help)\n")


def parser_for(verb: str) -> Parser:
    """The parser of one verb."""
    module = _module(verb)
    parser = Parser(
        prog=f"forklore {verb}",
        description=module.HELP,
        epilog=getattr(module, "EPILOG", None),
        formatter_class=Formatter,
    )
    parser.status = OWN_FAILURE if verb == "run" else USAGE_ERROR
    module.add_arguments(parser)
    return parser


def parsed(verb: str, words: Sequence[str]) -> argparse.Namespace:
    """What was given to a verb. SystemExit for a usage error, and for --help."""
    parser = parser_for(verb)
    # Options may stand between the words of all verbs but run, where the first word begins the program's own.
    parse = parser.parse_args if verb == "run" else parser.parse_intermixed_args
    return parse(words)


def _module(verb: str) -> ModuleType:
    return importlib.import_module(f"forklore.cli.{verb}")


def _top() -> Parser:
    parser = Parser(
        prog="forklore",
        usage="forklore VERB ...\n       forklore [-h] [--version]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"forklore {VERSION}")
    verbs = "\n".join(f"  {verb:<9}{text}" for verb, text in VERBS.items())
    group = parser.add_argument_group("verbs", f"{verbs}\n\nforklore VERB --help says more of each")
    group.add_argument("verb", choices=VERBS, metavar="VERB", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    open_streams()
    try:
        try:
            return _status(list(sys.argv[1:] if argv is None else argv))
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OutputLostError as lost:
        if isinstance(lost.problem, BrokenPipeError):
            return 141  # the reader of our output went away: that is no failure of ours
        complain(f"standard output: {lost}")
        return 1


def _status(words: list[str]) -> int:
    verb = words[0] if words else "--help"
    if verb in VERBS:
        status: int = _module(verb).run(parsed(verb, words[1:]))
        return status
    top = _top()
    if verb.startswith("-") and verb not in ("-h", "--help", "--version"):
        top.error(f"no option {verb} here: forklore VERB comes first, its options after it")
    if not verb.startswith("-"):
        top.error(f"no verb {verb!r}: {_meant(words)}")
    top.parse_args([verb])
    return USAGE_ERROR


def _meant(words: list[str]) -> str:
    # What somebody wanted who gave no verb.
    import shlex
    import shutil
    from difflib import get_close_matches

    if shutil.which(words[0]):
        return f"to trace a program: forklore run -- {shlex.join(words)}"
    if alike := get_close_matches(words[0], VERBS, 1):
        return f"did you mean {alike[0]}?"
    return f"there are {', '.join(VERBS)}"


def say(text: str) -> None:
    """A line of ours on stderr. What it quotes, names of files as well, cannot command a terminal."""
    print(printable(text), file=sys.stderr)


def complain(text: str) -> None:
    """An error or warning of ours, on stderr."""
    say(f"forklore: {text}")
