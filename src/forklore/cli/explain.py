"""``forklore explain``: what a call's flags, its struct or its error mean."""

from __future__ import annotations

import argparse
import sys

from forklore.abi.arch import Arch
from forklore.cli.main import complain

HELP = "say what flags, a clone3 struct or an error mean, or compare calls"

_EPILOG = """\
WHAT is one of, or several of, these:
  0x1200011, 18874385         a flags word
  'CLONE_VM|CLONE_FS', vm,fs  names, with SIGCHLD and the like among them
  fork vfork posix_spawn      well-known calls, side by side; also _Fork, system, popen,
                              pthread_create, thrd_create, musl-pthread, go-exec, go-thread,
                              clone, clone3
  unshare:newns,newnet        flags of a call by its name
  clone3 00410000...          a clone_args in hexadecimal, as it lies in memory
  EINVAL CLONE_THREAD         why a call fails; EINVAL alone: all that gives it
  'clone(child_stack=NULL, flags=SIGCHLD) = -1 EAGAIN (…)'
                              a line of strace or ltrace
  CLONE_STOPPED forkall exec  a word of history or of another system: also do_fork, fork1, forkx,
                              forkallx, vforkx, CSIGNAL, pid-cache, vfork-rules, fields (clone's and
                              clone3's, side by side), aio, states (the letters of ps)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG
    parser.add_argument("what", nargs="+", metavar="WHAT", help="what to explain; several calls are compared")
    parser.add_argument(
        "--call",
        choices=("clone", "clone3", "unshare", "setns"),
        help="whose flags they are (default: clone's where they fit, else clone3's)",
    )
    parser.add_argument(
        "--kernel", metavar="X.Y", type=_kernel, help="judge by this kernel's rules and names, such as 6.1 or 2.6.32"
    )
    parser.add_argument(
        "--arch",
        choices=[str(arch) for arch in Arch],
        default=str(Arch.X86_64),
        help="whose registers and numbers (default: %(default)s)",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="of a call also each resource with its rule, the same by the other call, and the same bits elsewhere",
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Print the explanation; 0, or 2 for what cannot be understood."""
    from forklore.features.explain.text import explain, to_json, to_text

    try:
        explanation = explain(*args.what, call=args.call, kernel=args.kernel, arch=Arch(args.arch))
    except ValueError as error:
        complain(f"explain: {error}")
        return 2
    if args.format == "json":
        import json

        print(json.dumps(to_json(explanation), indent=2))
    else:
        sys.stdout.write(to_text(explanation, verbose=args.verbose))
    return 0


def _kernel(text: str) -> tuple[int, ...]:
    from forklore.decode.versions import read_version

    try:
        return read_version(text)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
