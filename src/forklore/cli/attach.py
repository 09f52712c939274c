"""``forklore attach``."""

from __future__ import annotations

import argparse
import threading
from typing import TYPE_CHECKING

from forklore.cli.common import add_view_arguments, in_words, pid
from forklore.cli.main import OWN_FAILURE, complain
from forklore.cli.tracing import (
    add_engine_arguments,
    add_recording_arguments,
    add_seen_arguments,
    because,
    by_engine,
    failures,
    kept,
    record,
    unheld_options,
)

if TYPE_CHECKING:
    from forklore.abi.units import Pid
    from forklore.sources.ptrace.options import Options
    from forklore.sources.source import Source

HELP = """\
Trace programs that are running: all their threads, and what they create from
then on. They are not stopped for it. Ctrl-C, --duration or the end of forklore,
however it ends, lets them go on as they were.
"""
EPILOG = """\
exit status:
  0 when the programs have ended or were left; 125 if nothing could be attached to

examples:
  forklore attach 4711
  forklore attach --duration 10 -o trace.jsonl $(pidof postgres)
  forklore attach --tree $$ --log
"""

def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore attach``."""
    parser.add_argument("pid", nargs="+", type=pid, metavar="PID", help="a process: all its threads")
    parser.add_argument("--tree", action="store_true", help="with the descendants that it has already")
    parser.add_argument("--duration", type=seconds, metavar="S", help="leave after S seconds")
    add_recording_arguments(parser)
    seen = parser.add_argument_group("what is seen")
    seen.add_argument(
        "--syscalls",
        action="store_true",
        help="stop at every system call, to see failed creations and execs, unshare, setns and names as well: many"
        " times slower, and each thread is interrupted once, which makes some blocked calls fail with EINTR",
    )
    add_engine_arguments(seen)
    add_seen_arguments(seen)
    add_view_arguments(parser)


def seconds(text: str) -> float:
    """A duration, of an option."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"a number of seconds above 0 is expected, not {text!r}")
    return value


def run(arguments: argparse.Namespace) -> int:
    """Attach; the exit status."""
    from forklore.abi.units import Pid
    from forklore.sources.header import TraceRefusedError

    try:
        pids = [Pid(pid) for pid in arguments.pid]
        record(_attachment(arguments, pids), arguments, pids)
    except (TraceRefusedError, ValueError) as problem:
        complain(str(problem))
        return OWN_FAILURE
    except OSError as problem:
        complain(in_words(problem))
        return OWN_FAILURE
    return 0


def _attachment(arguments: argparse.Namespace, pids: list[Pid]) -> Source:
    def bpf(_why: str | None) -> Source:
        from forklore.sources.bpf.attach import Attachment as Bpf

        options = unheld_options(arguments, _options(arguments))
        return Bpf(
            pids, options, tree=arguments.tree, seconds=arguments.duration, buffer=arguments.buffer,
            failures=failures(arguments), kept=kept(arguments),
        )  # fmt: skip

    def perf(why: str | None) -> Source:
        from forklore.sources.perf.attach import Attachment as Perf

        options = unheld_options(arguments, _options(arguments))
        found = Perf(
            pids, options, tree=arguments.tree, seconds=arguments.duration, buffer=arguments.buffer,
            kept=kept(arguments, stacks=False),
        )  # fmt: skip
        found.header = because(found.header, "perf", why)
        return found

    def ptrace(why: str | None) -> Source:
        from forklore.sources.ptrace.attach import Attachment

        found = Attachment(pids, _options(arguments), tree=arguments.tree, seconds=arguments.duration)
        found.header = because(found.header, "ptrace", why)
        return found

    needs = "--syscalls stops at every system call" if arguments.syscalls else None
    return by_engine(arguments.engine, {"bpf": bpf, "perf": perf, "ptrace": ptrace}, needs)


def _options(arguments: argparse.Namespace) -> Options:
    from forklore.sources.ptrace.options import Observe, Options, Stops

    return Options(
        stops=Stops.SYSCALLS if arguments.syscalls else Stops.EVENTS,
        follow_untraced=False,
        observe=Observe(arguments.observe),
        argv=not arguments.no_argv,
        env=arguments.env,
        stack_depth=0 if arguments.no_stack else arguments.stack_depth,
        lines_at_once=arguments.log or arguments.rotate is not None,
    )
