"""``forklore watch``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from forklore.cli.attach import seconds
from forklore.cli.common import add_view_arguments, in_words, pid
from forklore.cli.main import OWN_FAILURE, complain
from forklore.cli.tracing import add_bpf_arguments, add_recording_arguments, add_seen_arguments, failures, kept, record

if TYPE_CHECKING:
    from forklore.abi.units import Pid
    from forklore.sources.bpf.kernel import Filter
    from forklore.sources.ptrace.options import Options

HELP = """\
Follow every process and thread that a machine, a cgroup, a user or a program
starts, by programs in the kernel: nobody is stopped, nobody notices. Until Ctrl-C
or --duration. Needs CAP_BPF and CAP_PERFMON (root has them).
"""
EPILOG = """\
The filters are applied in the kernel, and all that are given have to fit. What a
task that fits creates is followed too, whatever it becomes.

exit status:
  0 when it was left; 125 if nothing could be watched

examples:
  forklore watch --duration 10
  forklore watch --uid www-data --log
  forklore watch --container 3f1b0c9e77aa -o trace.jsonl --rotate 64M,8
  forklore watch --pid 4711 --top
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore watch``."""
    who = parser.add_argument_group("who is watched (default: everybody)")
    who.add_argument("--uid", type=_user, metavar="USER", help="tasks of a user, by name or number")
    who.add_argument("--cgroup", metavar="PATH", help="tasks in a cgroup of the unified hierarchy, and below it")
    who.add_argument("--container", metavar="ID", help="tasks of a container, by its id (12 characters of it) or name")
    who.add_argument("--comm", metavar="NAME", help="tasks with this name (/proc/PID/comm), when they are first met")
    who.add_argument(
        "--pid", type=pid, action="append", default=[], metavar="PID", help="a process and its descendants; repeatable"
    )
    parser.add_argument("--duration", type=seconds, metavar="S", help="leave after S seconds")
    parser.add_argument(
        "--top",
        action="store_true",
        help="a screen that is renewed each second: starts, execs and ends a second by program, refusals, tasks alive",
    )
    add_recording_arguments(parser)
    seen = parser.add_argument_group("what is seen")
    add_bpf_arguments(seen)
    add_seen_arguments(seen)
    add_view_arguments(parser)


def _user(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"no user {text!r} is known here; give the number") from None


def run(arguments: argparse.Namespace) -> int:
    """Watch; the exit status."""
    from forklore.abi.units import Pid
    from forklore.sources.bpf.attach import Attachment
    from forklore.sources.header import TraceRefusedError

    try:
        pids = [Pid(pid) for pid in arguments.pid]
        everything = _filter(arguments, pids)
        source = Attachment(
            pids, _options(arguments), everything=everything, tree=True, seconds=arguments.duration,
            buffer=arguments.buffer,
            failures=failures(arguments), kept=kept(arguments),
        )  # fmt: skip
        if arguments.top:
            from forklore.cli.top import top

            top(source, arguments)
        else:
            record(source, arguments, pids)
    except (TraceRefusedError, ValueError) as problem:
        complain(str(problem))
        return OWN_FAILURE
    except OSError as problem:
        complain(in_words(problem))
        return OWN_FAILURE
    return 0


def _filter(arguments: argparse.Namespace, pids: list[Pid]) -> Filter | None:
    from forklore.linux import cgroups
    from forklore.sources.bpf.kernel import Filter

    others = (arguments.uid, arguments.cgroup, arguments.container, arguments.comm)
    if pids:
        if any(other is not None for other in others):
            raise ValueError("watch: --pid names processes, and the other filters look for them: give one or the other")
        return None
    if arguments.cgroup is not None and arguments.container is not None:
        raise ValueError("watch: a container is a cgroup: give --cgroup or --container")
    path = arguments.cgroup if arguments.container is None else cgroups.of_container(arguments.container)
    comm = None if arguments.comm is None else arguments.comm.encode()
    return Filter(uid=arguments.uid, cgroup=None if path is None else cgroups.number(path), comm=comm)


def _options(arguments: argparse.Namespace) -> Options:
    from forklore.sources.ptrace.options import Observe, Options

    return Options(
        observe=Observe(arguments.observe),
        argv=not arguments.no_argv,
        env=arguments.env,
        stack_depth=0 if arguments.no_stack else arguments.stack_depth,
        lines_at_once=arguments.log or arguments.rotate is not None,
    )
