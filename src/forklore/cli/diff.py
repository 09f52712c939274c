"""``forklore diff``: what changed from one audit of a C library to another, in words."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from forklore.cli.main import complain

if TYPE_CHECKING:
    from forklore.audit.result import Audit

HELP = "say in words what changed between two audits of C libraries"

EPILOG = """\
A and B are what `forklore audit --format json` wrote, or libraries as `forklore audit`
takes them, which are audited first.

examples:
  forklore diff libc6_2.31_amd64.deb libc6_2.36_amd64.deb
  forklore diff before.json after.json --format json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("old", metavar="A", type=Path, help="the audit or library to start from")
    parser.add_argument("new", metavar="B", type=Path, help="the one to compare with it")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="default: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Print the comparison; 0 if nothing changed, 1 if something did, 2 if one of them cannot be read or audited."""
    from forklore.audit.build import NoProbeError
    from forklore.audit.compare import compare
    from forklore.audit.elffile import BrokenElfError
    from forklore.audit.result import NotAnAuditError
    from forklore.audit.target import NoTargetError

    try:
        comparison = compare(_one(args.old), _one(args.new))
    except (NoTargetError, NoProbeError, BrokenElfError, NotAnAuditError, OSError) as problem:
        complain(str(problem))
        return 2
    if args.format == "json":
        import msgspec

        sys.stdout.write(msgspec.json.format(msgspec.json.encode(comparison), indent=1).decode() + "\n")
    else:
        sys.stdout.write(comparison.text())
    return 1 if comparison.changes else 0


def _one(name: Path) -> Audit:
    from forklore.audit.target import NoTargetError
    from forklore.cli.audit import audits_in

    found = audits_in(name)
    if len(found) != 1:
        names = ", ".join(audit.library.name for audit in found)
        raise NoTargetError(f"{name} holds {len(found)} libraries ({names}); name the file of one")
    return found[0]
