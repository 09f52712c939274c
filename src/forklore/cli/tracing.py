"""What ``run`` and ``attach`` have in common: where a trace goes, and what is read of each creation."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, TypeVar

from forklore.cli.common import check_output, columns, positive, view_options, wants_color
from forklore.cli.main import complain, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from forklore.cli.progress import Progress
    from forklore.events.records import Header
    from forklore.events.rotate import Rotation
    from forklore.findings.settings import Settings
    from forklore.sources.bpf.kernel import Failures
    from forklore.sources.ptrace.options import Options
    from forklore.sources.recording import Recording
    from forklore.sources.source import Source


def add_recording_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the trace goes."""
    parser.add_argument("-o", "--output", metavar="FILE", help="record the trace to FILE, for `forklore show`")
    parser.add_argument("--html", metavar="FILE", help="write the whole trace to FILE as a page for a browser")
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
    parser.add_argument(
        "--progress",
        choices=("auto", "always", "never"),
        default="auto",
        help="on a terminal, a line that is renewed each second: tasks alive, made, refused; auto: where what is traced"
        " does not write to that terminal itself: of `forklore run`, where stdout and stderr both go to files",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print neither (for use with -o)")
    parser.add_argument(
        "--view",
        type=_view,
        choices=("tree", "sites", "time"),
        default="tree",
        help="what is printed at the end: the tree (default), where tasks are made, ranked, or where the time went",
    )


def _view(text: str) -> str:
    from forklore.export.table import VIEWS

    if text in VIEWS and text not in ("tree", "sites", "time"):
        raise argparse.ArgumentTypeError(f"{text!r} is of a recording: -o FILE, then forklore show FILE --view {text}")
    return text


def _rotation(text: str) -> Rotation:
    from forklore.events.rotate import Rotation

    try:
        return Rotation.read(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def record(source: Source, arguments: argparse.Namespace, pids: Sequence[int] | None = None) -> int:
    """Run a source to its end, record it as asked, say what went wrong, and print the view that was asked for.

    ``pids``: what is traced and ran before; None for a program of ours, which has our terminal. The exit status that
    ``--check`` asks for; 0 without it. Raises OSError, and what the source raises.
    """
    said = None
    if getattr(arguments, "check", False):
        from forklore.cli.checking import settings_of  # before anything runs: what is wrong there is told at once

        said = settings_of(arguments)
    from forklore.sources.recording import Recording

    view = not (arguments.log or arguments.quiet)
    page = arguments.html
    if page is not None:
        check_output(page)  # the program may run for hours
    reread = view or said is not None or page is not None
    recording = Recording(
        source.header, arguments.output, rotation=arguments.rotate, most=arguments.max_events, reread=reread
    )
    log = None
    if arguments.log:
        from forklore.export.log import Log

        cut = None if arguments.columns is None else columns(arguments, sys.stderr)
        color = wants_color(arguments.color, sys.stderr)
        log = Log(source.header, sys.stderr, color=color, endless=True, columns=cut).event
    progress = _progress(arguments, pids)
    if progress is None:
        recording.record(source, log)
    else:
        try:
            recording.record(source, progress.event, progress.idle)
        finally:
            progress.close()
    for text in (*source.warnings, *recording.complaints()):
        complain(text)
    if view:
        _show(recording, arguments)
    if page is not None:
        _write_page(recording, page)
    return 0 if said is None else _check(recording, said, arguments)


def _check(recording: Recording, said: Settings, arguments: argparse.Namespace) -> int:
    from forklore.cli.checking import judge
    from forklore.model.build import built

    file = recording.trace_file()
    return 0 if file is None else judge(built(file), recording.name or "", said, sys.stderr, arguments)


def _write_page(recording: Recording, page: str) -> None:
    from forklore.cli.common import output_file
    from forklore.export.table import EXPORTERS, ExportOptions

    file = recording.trace_file()
    if file is None:
        return
    try:
        with output_file(page, text=False) as out:
            EXPORTERS["html"].write(file, out, ExportOptions(), lambda _text: None)
    except OSError as problem:
        complain(f"{problem.filename or page}: {problem.strerror}; the page is not whole")
        return
    say(f"Page in {page}")


def _progress(arguments: argparse.Namespace, pids: Sequence[int] | None) -> Progress | None:
    auto = arguments.progress == "auto"
    if arguments.log or arguments.progress == "never" or (auto and arguments.quiet):
        return None
    from forklore.cli.progress import Progress, apart, can_renew, shows_on

    if auto and pids is None:
        # A line between those of the program would spoil both: it has our stdout and stderr.
        terminal = apart()
        return None if terminal is None else Progress(terminal, own=True)
    if not can_renew(sys.stderr) or (auto and pids is not None and shows_on(sys.stderr, pids)):
        return None
    return Progress(sys.stderr)


def _show(recording: Recording, arguments: argparse.Namespace) -> None:
    from forklore.export.table import EXPORTERS

    file = recording.trace_file()
    if file is not None:
        warn = (lambda _text: None) if recording.left_out else complain  # what it lacks was said already
        EXPORTERS["tree"].write(file, sys.stderr, view_options(arguments, sys.stderr), warn)
    if recording.name is not None:
        say(f"Recorded in {recording.name}; look again with: forklore show {recording.name}")


def add_engine_arguments(seen: argparse._ArgumentGroup) -> None:
    """By what events are seen."""
    seen.add_argument(
        "--engine",
        choices=("ptrace", "bpf", "perf", "auto"),
        default="ptrace",
        help="who sees: ptrace, which holds each task for a moment and can look into it (default); bpf, programs in the"
        " kernel, which hold nobody, need CAP_BPF and CAP_PERFMON, and see less of each task; perf, the kernel's own"
        " records, which hold nobody, need nothing for one's own programs, and tell the tree, programs and times; auto:"
        " the first of bpf, perf and ptrace that may be used here and has what is asked for (docs/engines.md)",
    )
    add_bpf_arguments(seen)


def add_bpf_arguments(seen: argparse._ArgumentGroup) -> None:
    """How far the reader of engine bpf may fall behind, and whether it sees refused calls."""
    seen.add_argument(
        "--buffer",
        type=_size,
        default=1 << 26,
        metavar="SIZE",
        help="--engine bpf and perf: how many bytes of events the kernel keeps until they are read (64M, the default:"
        " some 80,000 creations; perf: less where a user may not lock so much); what finds no room is counted",
    )
    seen.add_argument(
        "--failures",
        choices=("auto", "yes", "no"),
        default="auto",
        help="--engine bpf: whether refused creations and execs, unshare, setns, close_range and setsid are seen: by"
        " programs on the kernel's functions where it lets us, else on tracepoints, which make every system call of the"
        " machine a little slower meanwhile (auto: not for `watch`); no: not at all",
    )


Made = TypeVar("Made", bound="Source")


def by_engine(
    engine: str,
    makers: Mapping[str, Callable[[str | None], Made]],
    needs_hold: str | None = None,
) -> Made:
    """The source of the engine that was asked for. ``auto``: of the first of ``makers``, in their order, that can be
    made; of the last, unless nothing ``needs_hold``.

    A maker is given why those before it were not taken. Raises what the makers raise.
    """
    if engine != "auto":
        return makers[engine](None)
    from forklore.sources.header import TraceRefusedError

    *first, last = makers
    reasons = [] if needs_hold is None else [needs_hold]
    for name in first if needs_hold is None else ():
        try:
            return makers[name]("; ".join(reasons) or None)
        except (TraceRefusedError, ValueError) as problem:
            reasons.append(f"{name}: {problem}")
    return makers[last]("; ".join(reasons) or None)


def because(header: Header, engine: str, why: str | None) -> Header:
    """The header of a trace by an engine that was chosen for a reason."""
    from msgspec.structs import replace

    return header if why is None else replace(header, options={**header.options, "engine": engine, "engine_why": why})


def kept(arguments: argparse.Namespace, *, kills: bool = False, stacks: bool = True) -> set[str]:
    """The capabilities that are needed once programs are followed without being held.

    ``kills``: signals may have to be sent to a program that has become another user's.
    """
    names = {"CAP_KILL"} if kills else set()
    if stacks and not arguments.no_stack:
        names |= {"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}  # /proc/PID/maps and the files of others' code
    if arguments.rotate is not None or arguments.html is not None:
        names |= {"CAP_DAC_OVERRIDE"}  # files are still to be made, in a directory that may be another user's
    return names


def unheld_options(arguments: argparse.Namespace, options: Options) -> Options:
    """The same without the default way to stop tasks, for an engine that stops none."""
    from msgspec.structs import replace

    asked = getattr(arguments, "syscalls", False) or getattr(arguments, "stops", None) is not None
    return options if asked else replace(options, stops=None)


def failures(arguments: argparse.Namespace) -> Failures:
    """What --failures says."""
    from forklore.sources.bpf.kernel import Failures

    return Failures(arguments.failures)


def _size(text: str) -> int:
    number, unit = text[:-1], text[-1:].upper()
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(unit)
    if factor is None:
        number, factor = text, 1
    if not number.isascii() or not number.isdigit() or not 4096 <= int(number) * factor <= 1 << 31:
        raise argparse.ArgumentTypeError(f"a size from 4K to 2G is expected, not {text!r}")
    return int(number) * factor


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
