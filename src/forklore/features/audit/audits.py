"""The audits that a command line asks for: of libraries by name, of all that are found here, or kept as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import Struct

from forklore.features.audit.observe.build import NoProbeError
from forklore.features.audit.observe.target import NoTargetError, Target, running, runs_here, targets, under
from forklore.features.audit.result import SIZE_LIMIT, Audit, AuditRow, decode
from forklore.linux.proc import machine


class How(Struct, frozen=True):
    """How libraries are audited."""

    linker: Path | None = None
    """The dynamic linker of a library that has none beside it."""
    probe: Path | None = None
    """A prebuilt probe."""
    refuse: bool = True
    """Also with calls refused, to see what follows."""
    shared_only: bool = False
    """Not of a libc.a that lies beside shared libraries."""
    watch: Callable[[Target, AuditRow], None] | None = None
    """Is shown each row as it is there."""


DEFAULT: Final = How()


def named(name: Path, how: How, complain: Callable[[str], None]) -> list[Audit]:
    """What a name stands for: an audit kept as JSON, or those of libraries, made now.

    ``complain`` is told of what is left out. AuditError, and OSError where a library cannot be traced.
    """
    if name.is_file() and name.stat().st_size <= SIZE_LIMIT:
        with name.open("rb") as file:
            if file.read(64).lstrip()[:1] in (b"{", b"["):
                return [decode(name.read_bytes(), str(name))]
    found = targets(name, how.linker)
    if how.shared_only and not all(target.static for target in found):
        found = [target for target in found if not target.static]
    return _each(found, how, complain)


def installed(how: How, complain: Callable[[str], None]) -> list[Audit]:
    """Those of every library of this machine that can run here. Errors as :func:`named` has them."""
    return _each([target for target in under(Path("/")) if runs_here(target, machine())], how, complain)


def own(how: How) -> Audit:
    """That of the library that this process runs on. Errors as :func:`named` has them."""
    return audit_of(running(), how)


def audit_of(target: Target, how: How = DEFAULT) -> Audit:
    """That of one library. Errors as :func:`forklore.features.audit.observe.run.prober` has them, and OSError."""
    from forklore.features.audit.audit import audit  # an audit that is kept needs no tracer
    from forklore.features.audit.observe.run import prober

    built = "prebuilt" if how.probe is not None else "built on this machine without the library's headers"
    by = (
        "linked with the archive into one program with every function, run" if target.static
        else "run by the library's own dynamic linker"
    )  # fmt: skip
    told = f"Each row: the probe, {built}, {by} under the tracer."
    watch = None if how.watch is None else partial(how.watch, target)
    return audit(prober(target, how.probe), told, refuse=how.refuse, watch=watch)


def _each(found: Iterable[Target], how: How, complain: Callable[[str], None]) -> list[Audit]:
    # A libc.a that lies with shared libraries may have come without what to link it with, and a probe fits one kind.
    found = list(found)
    beside = not all(target.static for target in found)
    audits = []
    for target in found:
        try:
            audits.append(audit_of(target, how))
        except (NoProbeError, NoTargetError) as problem:
            if not (beside and target.static):
                raise
            complain(f"{target.name} is left out: {problem}")
    return audits
