"""What ``run`` and ``attach`` have in common: where a trace goes, and what is read of each creation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from forklore.cli.common import positive, print_sites, print_tree, wants_color
from forklore.cli.main import complain

if TYPE_CHECKING:
    from forklore.events import records as ev
    from forklore.events.jsonl import Writer


def add_recording_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the trace goes."""
    parser.add_argument("-o", "--output", metavar="FILE", help="record the trace to FILE, for `forklore show`")
    parser.add_argument("--log", action="store_true", help="print each event as it happens, and no tree at the end")
    parser.add_argument("-q", "--quiet", action="store_true", help="print neither (for use with -o)")
    parser.add_argument(
        "--view",
        choices=("tree", "sites"),
        default="tree",
        help="what is printed at the end: the tree (default), or where tasks are made, ranked",
    )


def add_seen_arguments(seen: argparse._ArgumentGroup) -> None:
    """What is read of each creation."""
    seen.add_argument(
        "--observe",
        choices=("auto", "full", "kcmp", "none"),
        default="auto",
        help="what is asked of the kernel about a child while it and its creator are held: what they share, and where"
        " they may differ from its creator's also namespaces, cgroup and more (auto, the default), or these of every"
        " process (full); what they share and no more (kcmp); or nothing",
    )
    stacks = seen.add_mutually_exclusive_group()
    stacks.add_argument(
        "--stack-depth",
        type=positive,
        metavar="N",
        default=32,
        help="how many frames of each creator's call stack are read (default: 32)",
    )
    stacks.add_argument(
        "--no-stack",
        action="store_true",
        help="read no call stacks: who made a task is then told by the form of the call alone, as far as it can be",
    )
    seen.add_argument("--no-argv", action="store_true", help="do not record the arguments of executed programs")
    seen.add_argument("--env", action="store_true", help="record their environment too")


def with_log(
    record: Callable[[ev.Event], None], header: ev.Header, arguments: argparse.Namespace
) -> Callable[[ev.Event], None]:
    """Takes each event: records it, and prints its line."""
    from forklore.model.build import Builder
    from forklore.report.lines import write
    from forklore.report.log import LogView

    builder = Builder(header)
    view = LogView(builder)
    color = wants_color(arguments.color, sys.stderr)

    def emit(event: ev.Event) -> None:
        record(event)
        builder.feed(event)
        line = view.line(event)
        if line is not None:
            write([line], sys.stderr, color=color)

    return emit


def end_writers(writers: Iterable[Writer], output: str | None, t: int, reason: str) -> None:
    """Write the end record; say what could not be written."""
    for writer in writers:
        writer.end(t, reason)
        if writer.failure is not None:
            complain(
                f"the trace in {output} is not whole: {writer.failure.strerror}; {writer.lost} of"
                f" {writer.events} events could not be written"
            )


def show_again(source: int, arguments: argparse.Namespace) -> None:
    """Print the view that was asked for of a whole trace, read back from a descriptor."""
    from forklore.events.jsonl import read
    from forklore.model.build import built

    show = print_sites if arguments.view == "sites" else print_tree
    show(built(read(f"/proc/self/fd/{source}")), arguments, sys.stderr)
    if arguments.output is not None:
        print(f"Recorded in {arguments.output}; look again with: forklore show {arguments.output}", file=sys.stderr)
