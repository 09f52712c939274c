"""Two audits of C libraries, set against each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec
from msgspec import Struct

from forklore.features.audit.audits import How, named
from forklore.features.audit.observe.target import NoTargetError
from forklore.features.audit.result import Audit
from forklore.features.audit.show.compare import AuditComparison, compare
from forklore.features.diff.diff import NO_PAGE, Form, NotComparableError, in_words


class AuditDiff(Struct, frozen=True):
    """What changed from A to B. It is true where something did."""

    comparison: AuditComparison
    """Function by function."""

    def __bool__(self) -> bool:
        return bool(self.comparison.changes)

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """A sentence a line, as `forklore diff` prints them."""
        return self.comparison.text()

    def markdown(self) -> str:
        """The same as a page or a pull request has it."""
        return self.comparison.markdown()

    def to_json(self) -> bytes:
        """The same for programs."""
        return msgspec.json.format(msgspec.json.encode(self.comparison), indent=1) + b"\n"

    def write(self, out: IO[str], form: Form) -> None:
        """Write it in that form. NotComparableError for the page, which is of traces."""
        if form == "html":
            raise NotComparableError(NO_PAGE)
        out.write(in_words(self, form))


def diff_audits(old: Path, new: Path, warn: Callable[[str], None]) -> AuditDiff:
    """Of two files of audits, or of libraries, which are audited. Raises AuditError and OSError."""
    return AuditDiff(compare(_audit(old, warn), _audit(new, warn)))


def _audit(name: Path, warn: Callable[[str], None]) -> Audit:
    found = named(name, How(shared_only=True), warn)
    if len(found) != 1:
        names = ", ".join(each.library.name for each in found)
        raise NoTargetError(f"{name} holds {len(found)} libraries ({names}); name the file of one")
    return found[0]
