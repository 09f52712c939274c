"""``forklore audit``: how a C library creates processes, call by call."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from forklore.abi.text import printable
from forklore.cli.main import complain

if TYPE_CHECKING:
    from forklore.features.audit.observe.target import Target
    from forklore.features.audit.result import Audit, AuditRow

HELP = "say how a C library creates processes and threads, function by function"

EPILOG = """\
LIBC is a libc.so.6 or a musl libc.so, a libc.a, an unpacked root directory, or a Debian
package file; by default the library that runs here. A small program is run on it under
the tracer, by the library's own dynamic linker or linked with the libc.a, once for each
function. A static program is only looked into, as by --static.

examples:
  forklore audit                          the running library
  forklore audit /usr/lib/x86_64-linux-musl/libc.a
  forklore audit libc6_2.41_amd64.deb --format json > new.json
  forklore diff old.json new.json         what changed, in words
  forklore audit --view seccomp           what a filter must let pass
  forklore audit --static /usr/bin/bash   what a file can call, without running it
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("what", nargs="*", metavar="LIBC", type=Path, help="which libraries, or audits kept as JSON")
    parser.add_argument("--all-found", action="store_true", help="every library of this machine that can run here")
    parser.add_argument("--static", action="store_true", help="take the names for any ELF files, and run nothing")
    parser.add_argument(
        "--view",
        choices=("table", "details", "seccomp"),
        default="table",
        help="the table, all that was seen, or what a seccomp filter must let pass (default: %(default)s)",
    )
    parser.add_argument("--function", action="append", default=[], metavar="NAME", help="details: of this one only")
    parser.add_argument("--format", choices=("text", "markdown", "json", "html"), default="text", help="default: text")
    parser.add_argument("--no-refusals", action="store_true", help="do not refuse calls to see what follows: faster")
    parser.add_argument("--linker", type=Path, metavar="FILE", help="the library's dynamic linker, if not beside it")
    parser.add_argument("--probe", type=Path, metavar="FILE", help="a probe built before, where there is no compiler")
    parser.add_argument(
        "--build-probe", type=Path, metavar="FILE", help="build the probe for this machine, or LIBC's, and stop"
    )


def run(args: argparse.Namespace) -> int:
    """Print the audit; 0, 1 if a library could not be audited, 2 for what cannot be understood."""
    from forklore.features.audit.errors import AuditError

    try:
        if args.build_probe is not None:
            return _build(args.build_probe, args.what)
        if args.static:
            return _static(args)
        programs: list[Path] = []
        audits = _audits(args, programs)
        _show(audits, args)
        if programs:
            _look(programs, args, more=bool(audits))
    except AuditError as problem:
        complain(str(problem))
        return 1
    except OSError as problem:
        from forklore.features.audit.observe.package import refusal

        complain(refusal(problem))
        return 1
    return 0


def _audits(args: argparse.Namespace, programs: list[Path]) -> list[Audit]:
    # Static programs go to `programs`.
    from forklore.cli.progress import Steps
    from forklore.features.audit import audits
    from forklore.features.audit.observe.target import StaticProgramError

    steps = Steps()

    def watch(target: Target, row: AuditRow) -> None:
        steps.at(lambda: _step(target, row))

    def say(text: str) -> None:
        steps.close()
        complain(text)

    how = audits.How(args.linker, args.probe, refuse=not args.no_refusals, watch=watch)
    found: list[Audit] = []
    try:
        for name in args.what:
            try:
                found += audits.named(name, how, say)
            except StaticProgramError as problem:
                say(f"{problem}; this is what it says")
                programs.append(problem.path)
        if args.all_found:
            found += audits.installed(how, say)
        elif not args.what:
            found.append(audits.own(how))
    finally:
        steps.close()
    return found


def _step(target: Target, row: AuditRow) -> str:
    from forklore.features.audit.functions import FUNCTIONS

    number = FUNCTIONS.index(row.function) + 1
    return printable(f"{target.name}: {row.function}, {number} of {len(FUNCTIONS)} functions")


def _show(audits: list[Audit], args: argparse.Namespace) -> None:
    from forklore.features.audit.show import view

    if args.format == "html":
        sys.stdout.write(view.page(audits))
        return
    for index, audit in enumerate(audits):
        if index and args.format != "json":
            print()
        sys.stdout.write(view.shown(audit, args.view, args.format, args.function))


def _build(place: Path, libraries: list[Path]) -> int:
    import shutil

    from forklore.features.audit.observe.link import built_for

    if len(libraries) > 1:
        complain("--build-probe builds one probe: for this machine, or for one LIBC")
        return 2
    built, name = built_for(libraries[0] if libraries else None)
    shutil.copy(built, place)
    print(printable(f"built {place} for {name}"))
    return 0


def _static(args: argparse.Namespace) -> int:
    if not args.what:
        complain("--static needs the ELF files to look at")
        return 2
    _look(args.what, args, more=False)
    return 0


def _look(files: list[Path], args: argparse.Namespace, *, more: bool) -> None:
    # more: something was printed before.
    from forklore.features.audit.static import findings

    for index, name in enumerate(files):
        found = findings.look(name)
        if args.format == "json":
            sys.stdout.write(findings.document(found).decode())
        else:
            sys.stdout.write(("\n" if index or more else "") + findings.text(found))
