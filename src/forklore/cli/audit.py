"""``forklore audit``: how a C library creates processes, call by call."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from forklore.cli.main import complain

if TYPE_CHECKING:
    from forklore.features.audit.result import Audit
    from forklore.features.audit.target import Target

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
    from forklore.features.audit.build import NoProbeError
    from forklore.features.audit.elf_file import BrokenElfError
    from forklore.features.audit.result import NotAnAuditError
    from forklore.features.audit.target import NoTargetError

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
    except (NoTargetError, NoProbeError, BrokenElfError, NotAnAuditError) as problem:
        complain(str(problem))
        return 1
    except OSError as problem:
        complain(refusal(problem))
        return 1
    return 0


def refusal(problem: OSError) -> str:
    """What the system refused, of which file, and what to do about it."""
    from forklore.features.audit.package import cache

    said = problem.strerror or str(problem)
    if problem.filename is None:
        hint = "; `forklore doctor` says what this machine allows" if isinstance(problem, PermissionError) else ""
        return f"{said}{hint}"
    where, kept = os.fsdecode(problem.filename), str(cache())
    if where.startswith(kept) or kept.startswith(f"{where.rstrip('/')}/"):
        keeping = f"built probes and packages are kept below {kept}"
        return f"{where}: {said}: {keeping}; set XDG_CACHE_HOME to a directory that you may write"
    return f"{where}: {said}"


def audit_of(target: Target, probe: Path | None = None, *, refuse: bool = True) -> Audit:
    """Audit one library. Errors as :func:`forklore.features.audit.run.prober` has them, and OSError."""
    from forklore.features.audit.audit import audit
    from forklore.features.audit.run import prober

    built = "prebuilt" if probe is not None else "built on this machine without the library's headers"
    by = (
        "linked with the archive into one program with every function, run" if target.static
        else "run by the library's own dynamic linker"
    )  # fmt: skip
    how = f"Each row: the probe, {built}, {by} under the tracer."
    return audit(prober(target, probe), how, refuse=refuse)


def audits_in(name: Path, args: argparse.Namespace | None = None, *, shared_only: bool = False) -> list[Audit]:
    """The audits that a name on the command line stands for: one kept as JSON, or those of libraries, made now.

    ``shared_only``: not of a libc.a that lies beside shared libraries.
    """
    from forklore.features.audit.result import SIZE_LIMIT, decode
    from forklore.features.audit.target import targets

    if name.is_file() and name.stat().st_size <= SIZE_LIMIT:
        with name.open("rb") as file:
            if file.read(64).lstrip()[:1] in (b"{", b"["):
                return [decode(name.read_bytes(), str(name))]
    linker, probe, refuse = (args.linker, args.probe, not args.no_refusals) if args is not None else (None, None, True)
    found = targets(name, linker)
    if shared_only and not all(target.static for target in found):
        found = [target for target in found if not target.static]
    return _each(found, probe, refuse=refuse)


def _each(found: list[Target], probe: Path | None, *, refuse: bool) -> list[Audit]:
    # A libc.a that lies with shared libraries may have come without what to link it with, and a probe fits one kind.
    from forklore.features.audit.build import NoProbeError
    from forklore.features.audit.target import NoTargetError

    beside = not all(target.static for target in found)
    audits = []
    for target in found:
        try:
            audits.append(audit_of(target, probe, refuse=refuse))
        except (NoProbeError, NoTargetError) as problem:
            if not (beside and target.static):
                raise
            complain(f"{target.name} is left out: {problem}")
    return audits


def _audits(args: argparse.Namespace, programs: list[Path]) -> list[Audit]:
    # Static programs go to `programs`.
    from forklore.features.audit.target import StaticProgramError, running, runs_here, under
    from forklore.linux.proc import machine

    refuse = not args.no_refusals
    found: list[Audit] = []
    for name in args.what:
        try:
            found += audits_in(name, args)
        except StaticProgramError as problem:
            complain(f"{problem}; this is what it says")
            programs.append(problem.path)
    if args.all_found:
        here = [target for target in under(Path("/")) if runs_here(target, machine())]
        found += _each(here, args.probe, refuse=refuse)
    elif not args.what:
        found.append(audit_of(running(), args.probe, refuse=refuse))
    return found


def _show(audits: list[Audit], args: argparse.Namespace) -> None:
    from forklore.features.audit import profile, view
    from forklore.features.audit.result import encode

    if args.format == "html":
        sys.stdout.write(view.page(audits))
        return
    for index, audit in enumerate(audits):
        if index and args.format != "json":
            print()
        if args.view == "seccomp":
            sys.stdout.write(profile.document(audit).decode() if args.format == "json" else profile.text(audit))
        elif args.format == "json":
            sys.stdout.write(encode(audit).decode())
        elif args.format == "markdown":
            sys.stdout.write(view.markdown(audit))
        elif args.view == "details" or args.function:
            sys.stdout.write(view.details(audit, args.function))
        else:
            sys.stdout.write(view.text(audit))


def _build(place: Path, libraries: list[Path]) -> int:
    import shutil

    from forklore.features.audit.build import probe
    from forklore.features.audit.target import NoTargetError, from_file
    from forklore.linux.proc import machine

    if len(libraries) > 1:
        complain("--build-probe builds one probe: for this machine, or for one LIBC")
        return 2
    if libraries:
        from forklore.features.audit.link import program

        target = from_file(libraries[0])
        shutil.copy(program(target.path, target.arch) if target.static else probe(target.arch), place)
        print(f"built {place} for {target.name}")
        return 0
    arch = machine()
    if arch is None:
        raise NoTargetError("this machine is none that the probe knows: x86_64, aarch64 or riscv64")
    shutil.copy(probe(arch), place)
    print(f"built {place} for {arch}")
    return 0


def _static(args: argparse.Namespace) -> int:
    if not args.what:
        complain("--static needs the ELF files to look at")
        return 2
    _look(args.what, args, more=False)
    return 0


def _look(files: list[Path], args: argparse.Namespace, *, more: bool) -> None:
    # more: something was printed before.
    from forklore.features.audit import static

    for index, name in enumerate(files):
        found = static.look(name)
        if args.format == "json":
            sys.stdout.write(static.document(found).decode())
        else:
            sys.stdout.write(("\n" if index or more else "") + static.text(found))
