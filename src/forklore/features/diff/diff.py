"""Two files compared, whichever they are: traces or audits. What a file is, is told by its content."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol

from msgspec import Struct

if TYPE_CHECKING:
    from forklore.features.diff.audits import AuditDiff
    from forklore.features.diff.traces import TraceDiff

_HEAD: Final = 4096
_AUDIT: Final = re.compile(rb"\s*\{\s*\"audit\"\s*:")
_TRACE: Final = re.compile(rb"\s*\{[^\n]*\"forklore-trace\"")
_GZIP: Final = b"\x1f\x8b"

NO_PAGE: Final = "diff: a page is of two traces; audits have --format text, markdown and json"

Kind = Literal["trace", "audit"]
Form = Literal["text", "markdown", "json", "html"]


class NotComparableError(ValueError):
    """What was asked for cannot be compared so; the text says why."""


class InWords(Protocol):
    """What changed, whatever was compared."""

    def text(self) -> str:
        """A sentence a line, as `forklore diff` prints them."""

    def markdown(self) -> str:
        """The same as a page or a pull request has it."""

    def to_json(self) -> bytes:
        """The same for programs."""


def in_words(found: InWords, form: Literal["text", "markdown", "json"]) -> str:
    """What is written in that form."""
    match form:
        case "text":
            return found.text()
        case "markdown":
            return found.markdown()
        case "json":
            return found.to_json().decode()


class DiffOptions(Struct, frozen=True, kw_only=True):
    """What is compared, of the command and of Python alike."""

    old: Path
    """A: a trace, an audit, or a library to be audited."""
    new: Path
    """B, of the same kind."""
    old_runs: Sequence[Path] = ()
    """More runs of the same as A."""
    new_runs: Sequence[Path] = ()
    """More runs of the same as B."""
    form: Form | None = None
    """How it will be written; None: in any of them, so that both traces are kept, as the page needs them."""


def diff(options: DiffOptions, warn: Callable[[str], None]) -> TraceDiff | AuditDiff:
    """What changed. ``warn`` is given what is wrong with a file that can still be read.

    Raises NotComparableError, TraceError, AuditError, and OSError with the file's name.
    """
    kinds = kind(options.old), kind(options.new)
    if kinds != ("trace", "trace") and (options.old_runs or options.new_runs):
        raise NotComparableError("diff: --old and --new are more runs of traces, and audits have none")
    if kinds[0] != kinds[1]:
        trace, audit = (options.old, options.new) if kinds[0] == "trace" else (options.new, options.old)
        raise NotComparableError(
            f"{trace} is a trace and {audit} is an audit, or a library to be audited: they tell of different things;"
            " give two traces or two audits"
        )
    if kinds[0] == "trace":
        from forklore.features.diff.traces import diff_traces

        old, new = [options.old, *options.old_runs], [options.new, *options.new_runs]
        return diff_traces(old, new, warn, keep=options.form in (None, "html"))
    if options.form == "html":
        raise NotComparableError(NO_PAGE)
    from forklore.features.diff.audits import diff_audits

    return diff_audits(options.old, options.new, warn)


def kind(name: Path) -> Kind:
    """What a file stands for. OSError, with the file's name."""
    if str(name) == "-" or name.is_fifo():
        return "trace"
    if name.is_dir() or not name.exists():
        # Of strace -ff: a directory with nothing but its files, or the prefix of their names. libc.so.6 is named alike.
        from forklore.sources.logs.strace.per_task import files_below

        files = files_below(name)
        whole = not name.is_dir() or len(files) == sum(1 for _ in name.iterdir())
        if files and whole and b"\0" not in _head(files[0]):
            return "trace"
    if name.is_dir() or name.suffix == ".deb":
        return "audit"
    head = _head(name)
    if _TRACE.match(head) or head.startswith(_GZIP):
        return "trace"
    # A library is no text; a log of another tool is nothing else.
    return "audit" if _AUDIT.match(head) or b"\0" in head or head.startswith(b"!<") else "trace"


def _head(name: Path) -> bytes:
    with name.open("rb") as file:
        return file.read(_HEAD)
