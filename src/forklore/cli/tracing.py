"""What ``run`` and ``attach`` have in common: where a trace goes, and what is read of each creation."""

from __future__ import annotations

import argparse
import os
import re
import stat
import sys
from collections import deque
from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING, Final, TextIO, cast

from forklore.cli.common import positive, print_sites, print_tree, wants_color
from forklore.cli.main import complain

if TYPE_CHECKING:
    from forklore.abi.units import TaskId
    from forklore.events import records as ev
    from forklore.events.jsonl import Writer
    from forklore.events.rotate import RotatingWriter
    from forklore.model.build import Builder


def add_recording_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the trace goes."""
    parser.add_argument("-o", "--output", metavar="FILE", help="record the trace to FILE, for `forklore show`")
    parser.add_argument(
        "--max-events",
        type=positive,
        metavar="N",
        help="record N events and no more: the program goes on, and the trace says how many are left out",
    )
    parser.add_argument(
        "--rotate",
        type=_rotation,
        metavar="SIZE[,KEEP]",
        help="continue the trace in FILE.1, FILE.2, … whenever one has SIZE bytes (64M, 1G), and keep the last KEEP",
    )
    parser.add_argument("--log", action="store_true", help="print each event as it happens, and no tree at the end")
    parser.add_argument("-q", "--quiet", action="store_true", help="print neither (for use with -o)")
    parser.add_argument(
        "--view",
        choices=("tree", "sites"),
        default="tree",
        help="what is printed at the end: the tree (default), or where tasks are made, ranked",
    )


_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _rotation(text: str) -> tuple[int, int | None]:
    size, comma, keep = text.partition(",")
    found = re.fullmatch(r"([0-9]{1,15})([KMG]?)", size)
    if found is None or int(found[1]) == 0 or (comma and not re.fullmatch(r"0*[1-9][0-9]{0,8}", keep)):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no SIZE[,KEEP]: a number of bytes from 1, with K, M or G if wanted, and of files, like 64M,4"
        )
    return int(found[1]) * _UNITS[found[2]], int(keep) if comma else None


class _Lasting:
    """A stream that goes silent when it cannot be written any more: its reader left, the disk is full, the terminal is
    gone. What is traced goes on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None
        """Why it is silent."""

    def write(self, text: str) -> int:
        if self.lost is None:
            try:
                return self._stream.write(text)
            except OSError as problem:
                self.lost = problem
        return len(text)

    def flush(self) -> None:
        if self.lost is None:
            try:
                self._stream.flush()
            except OSError as problem:
                self.lost = problem

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def keep_stderr() -> None:
    """From now on nothing that is said on stderr can end the tracer, and with it the traced program."""
    sys.stderr = cast("TextIO", _Lasting(sys.stderr))


class Outputs:
    """Where the events go: the file that was asked for, and one of our own to make the tree from if that is no file.

    Raises OSError.
    """

    def __init__(self, header: ev.Header, arguments: argparse.Namespace, *, tree: bool, reread: bool) -> None:
        """``tree``: the trace is read back at the end; ``reread``: from the output, where that is a regular file."""
        from forklore.events.jsonl import Writer, open_trace
        from forklore.events.rotate import RotatingWriter, Rotation

        self.writers: list[Writer | RotatingWriter] = []
        self._output: str | None = arguments.output
        self._own: int | None = None
        self._rotating: RotatingWriter | None = None
        most = arguments.max_events
        if arguments.rotate is not None:
            if self._output is None:
                raise OSError(EINVAL, "--rotate needs a file to continue in others: give -o FILE too")
            self._rotating = RotatingWriter(self._output, header, Rotation(*arguments.rotate), most=most)
            self.writers.append(self._rotating)
        elif self._output is not None:
            fd = open_trace(self._output)
            self.writers.append(Writer(fd, header, most=most))
            if tree and reread and self._output != "-" and stat.S_ISREG(os.fstat(fd).st_mode):
                self._own = os.open(self._output, os.O_RDONLY | os.O_CLOEXEC)
        if tree and self._own is None and self._rotating is None:
            self._own = os.memfd_create("forklore-trace", os.MFD_CLOEXEC)
            self.writers.append(Writer(self._own, header, most=most))

    def event(self, event: ev.Event) -> None:
        """Take an event."""
        for writer in self.writers:
            writer.event(event)

    @property
    def sink(self) -> Callable[[ev.Event], None]:
        """Takes an event, by the shortest way."""
        return self.writers[0].event if len(self.writers) == 1 else self.event

    @property
    def pending(self) -> bool:
        """Whether something is buffered."""
        return any(writer.pending for writer in self.writers)

    def flush(self) -> None:
        """Write what is buffered."""
        for writer in self.writers:
            writer.flush()

    def end(self, t: int, reason: str) -> None:
        """Write the end record; say what could not be written, or was not to be."""
        for writer in self.writers:
            writer.end(t, reason)
            if writer.failure is not None:
                complain(
                    f"the trace in {self._output} is not whole: {writer.failure.strerror}; {writer.lost} of"
                    f" {writer.events} events could not be written"
                )
        if self.writers and self.writers[0].left_out:
            complain(f"--max-events: {self.writers[0].left_out} more events were not recorded")

    def show(self, arguments: argparse.Namespace) -> None:
        """Print the view that was asked for of what was recorded; of several files, of the last one."""
        from forklore.events.jsonl import read
        from forklore.model.build import built

        source = self._rotating.source if self._rotating is not None else self._own
        if source is None:
            return
        show = print_sites if arguments.view == "sites" else print_tree
        trace = built(read(f"/proc/self/fd/{source}"))
        if self.writers[0].left_out:
            trace.warnings.clear()  # it was said already
        show(trace, arguments, sys.stderr)
        name = self._output if self._rotating is None else self._rotating.name
        if name is not None:
            print(f"Recorded in {name}; look again with: forklore show {name}", file=sys.stderr)


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
    from forklore.abi.units import TaskId
    from forklore.events.records import Exit, Gone
    from forklore.model.build import Builder
    from forklore.report.log import LogView
    from forklore.report.styled_lines import write

    builder = Builder(header)
    view = LogView(builder)
    ended = _Ended(builder)
    color = wants_color(arguments.color, sys.stderr)

    def emit(event: ev.Event) -> None:
        record(event)
        builder.feed(event)
        line = view.line(event)
        if line is not None:
            write([line], sys.stderr, color=color)
        if isinstance(event, Exit | Gone):
            ended.add(TaskId(event.task))

    return emit


_ENDED_KEPT: Final = 256


class _Ended:
    """Takes tasks that ended out of the model, so that a log of a program that never ends needs no more memory.

    The last of them stay: an event that is told late may name them.
    """

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._numbers: deque[TaskId] = deque()

    def add(self, number: TaskId) -> None:
        self._numbers.append(number)
        if len(self._numbers) <= _ENDED_KEPT:
            return
        oldest = self._numbers.popleft()
        if self._builder.holds_creator(oldest):
            self._numbers.append(oldest)
        else:
            self._builder.forget(oldest)
