"""``forklore run``."""

from __future__ import annotations

import argparse
import re
import signal
from errno import EAGAIN, EMFILE, ENOMEM
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from forklore.cli.common import add_check_arguments, add_view_arguments, in_words, positive
from forklore.cli.main import OWN_FAILURE, complain
from forklore.cli.timeout import Timeout, add_timeout_arguments
from forklore.cli.tracing import (
    add_engine_arguments,
    add_recording_arguments,
    add_seen_arguments,
    because,
    by_engine,
    failures,
    kept,
    record,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from forklore.sources.ptrace.options import Options
    from forklore.sources.ptrace.session import Session as PtraceSession
    from forklore.sources.unheld import UnheldSession

    Session = PtraceSession | UnheldSession[Any]

HELP = """\
Run a program under ptrace and show the tree of processes and threads it created.
The tree goes to stderr when all has ended; the program keeps its own stdin,
stdout and terminal, and forklore ends as the program ended.
"""
EPILOG = """\
exit status:
  the program's own; or, if a signal ended it, forklore ends by the same signal
  1    with --check, where the program ended with 0 and something was found
  124  it took longer than --timeout (137 if SIGKILL had to be sent)
  125  forklore itself failed, 126 the program cannot be executed, 127 it was not found

examples:
  forklore run -- sh -c 'ls | sort'
  forklore run -o trace.jsonl -- make -j4
  forklore run --log -- ./server
  forklore run --timeout 5m --kill-after 10 -- make test
  forklore run -q --check -- make test
"""
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127
_DESCRIPTORS: Final = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``forklore run``."""
    add_recording_arguments(parser)
    follow = parser.add_argument_group("what is followed")
    follow.add_argument(
        "--follow",
        choices=("all", "processes", "threads", "none"),
        default="all",
        help="which new tasks stay traced; the others run on untraced, and what they create is not seen (default: all)",
    )
    follow.add_argument("--max-depth", type=positive, metavar="N", help="follow N levels below the program")
    follow.add_argument(
        "--no-follow-untraced",
        action="store_true",
        help="leave children made with CLONE_UNTRACED alone (by default the bit is cleared for the call)",
    )
    follow.add_argument(
        "--wait",
        choices=("tree", "root"),
        default="tree",
        help="stay until the last descendant has ended, or leave with the program itself (default: tree)",
    )
    follow.add_argument(
        "--leave",
        choices=("kill", "detach"),
        default="kill",
        help="what becomes of tasks that are left then (default: kill)",
    )
    seen = parser.add_argument_group("what is seen")
    add_engine_arguments(seen)
    seen.add_argument(
        "--stops",
        choices=("seccomp", "syscalls", "events"),
        help="how calls are seen: by a seccomp filter (default: cheap, sees failures); by stopping at every system"
        " call (slow, no filter); by ptrace events alone (cheapest, no failures; default where tasks are let go)",
    )
    add_seen_arguments(seen)
    seen.add_argument(
        "--cow",
        action="store_true",
        help="count the pages that each forked child has in common with its creator, and who has copied how many of"
        " them when one of the two executes or ends",
    )
    seen.add_argument(
        "--vfork-writes",
        action="store_true",
        help="find out which bytes of its creator's memory each child changes that runs in it (vfork, CLONE_VM): the"
        " creator waits while up to 64 MiB are copied and compared",
    )
    add_timeout_arguments(parser)
    found = parser.add_argument_group("what is wrong")
    found.add_argument(
        "--check",
        action="store_true",
        help="say at the end what is wrong, as `forklore check` does; where the program ended with 0 and a finding is"
        " as bad as --fail-on, the exit status is 1",
    )
    add_check_arguments(found)
    add_view_arguments(parser)
    # For forklore.trace(): what to say goes to a file, and the program's environment may differ from ours.
    parser.add_argument("--complaints", help=argparse.SUPPRESS)
    parser.add_argument("--environment", help=argparse.SUPPRESS)
    parser.add_argument("--options", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD …", help="the program and its arguments")


def run(arguments: argparse.Namespace) -> int:
    """Trace; the exit status."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        complain("run: no program given; try: forklore run -- ls")
        return OWN_FAILURE
    if arguments.stack and arguments.no_stack:
        complain("run: --stack shows the stacks that --no-stack leaves unread; give one of the two")
        return OWN_FAILURE
    from forklore.linux.ours.exit_as import end_as
    from forklore.linux.tracing.spawn import NotExecutableError, NotFoundError
    from forklore.sources.header import TraceRefusedError

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the program has it: to look for a program can be to wait for a file system, where no handler is called.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        say = complain if arguments.complaints is None else None  # else stderr is the program's alone
        session = _session(arguments, command, say)
        limit = None
        if arguments.timeout is not None:
            quiet = arguments.complaints is not None
            limit = Timeout(arguments.timeout, arguments.signal, arguments.kill_after, quiet=quiet)
            session.begun = partial(limit.begin, session)
        found = record(session, arguments)
    except NotFoundError as problem:
        _say(arguments, f"{problem}{_for_a_shell(command)}")
        return _NOT_FOUND
    except NotExecutableError as problem:
        _say(arguments, str(problem))
        return _NOT_EXECUTABLE
    except (TraceRefusedError, ValueError) as problem:
        _say(arguments, str(problem))
    except OSError as problem:
        _say(arguments, _os_error(problem))
    else:
        late = None if limit is None else limit.close()
        return (end_as(session.status) or found) if late is None else late
    return OWN_FAILURE


def _session(
    arguments: argparse.Namespace, command: list[str], say: Callable[[str], None] | None
) -> Session:
    options, environment = _options(arguments), _environment(arguments)

    def bpf(_why: str | None) -> Session:
        from forklore.sources.bpf.session import Session

        return Session(
            command, options, environment, buffer=arguments.buffer, failures=failures(arguments), relay_signals=True,
            kept=kept(arguments, kills=True),
        )  # fmt: skip

    def perf(why: str | None) -> Session:
        from forklore.sources.perf.session import Session

        found = Session(
            command, options, environment, buffer=arguments.buffer, relay_signals=True,
            kept=kept(arguments, kills=True, stacks=False),
        )  # fmt: skip
        found.header = because(found.header, "perf", why)
        return found

    def ptrace(why: str | None) -> Session:
        from forklore.sources.ptrace.session import Session

        found = Session(command, options, environment, relay_signals=True, say=say)
        found.header = because(found.header, "ptrace", why)
        return found

    return by_engine(arguments.engine, {"bpf": bpf, "perf": perf, "ptrace": ptrace})


_BUILTINS: Final = (
    ". : alias bg bind builtin cd command declare dirs eval exec exit export fg hash history jobs let local popd pushd"
    " read readonly return set shift shopt source trap type typeset ulimit umask unalias unset wait"
)
"""What shells do themselves and is, as a rule, no program."""


def _for_a_shell(command: list[str]) -> str:
    """What to run instead of words that only a shell understands."""
    import shlex

    if command[0] in _BUILTINS.split():
        why, line = f"{command[0]} is built into the shell", shlex.join(command)
    elif len(command) == 1 and re.search(r"[\s|&;<>()$`*?]", command[0]):
        why, line = "it is taken for the name of one program", command[0]
    else:
        return ""
    return f"; {why}: try: forklore run -- sh -c {shlex.quote(line)}"


def _say(arguments: argparse.Namespace, text: str) -> None:
    if arguments.complaints is None:
        complain(text)
    else:
        with open(arguments.complaints, "w") as file:
            file.write(text)


def _environment(arguments: argparse.Namespace) -> list[bytes] | None:
    if arguments.environment is None:
        return None
    with open(arguments.environment, "rb") as file:
        raw = file.read()
    return raw.split(b"\0") if raw else []


def _os_error(problem: OSError) -> str:
    said = in_words(problem)
    if problem.errno == EMFILE:
        return f"{said}: forklore needs up to {_DESCRIPTORS} descriptors of its own; see `ulimit -n`"
    if problem.errno in (EAGAIN, ENOMEM):
        return f"{said}: no process can be made for the program; see `ulimit -u`, `ulimit -v` and the cgroup's pids.max"
    return said


def _options(arguments: argparse.Namespace) -> Options:
    import msgspec

    from forklore.sources.ptrace.options import Follow, Leave, Observe, Options, Stops, Until

    if arguments.options is not None:
        return msgspec.json.decode(arguments.options, type=Options)
    return Options(
        stops=Stops(arguments.stops) if arguments.stops else None,
        follow=Follow(arguments.follow),
        max_depth=arguments.max_depth,
        follow_untraced=not arguments.no_follow_untraced,
        until=Until(arguments.wait),
        leave=Leave(arguments.leave),
        observe=Observe(arguments.observe),
        argv=not arguments.no_argv,
        env=arguments.env,
        stack_depth=0 if arguments.no_stack else arguments.stack_depth,
        lines_at_once=arguments.log or arguments.rotate is not None,
        cow=arguments.cow,
        vfork_writes=arguments.vfork_writes,
    )
