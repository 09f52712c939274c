"""What an audit found, as values and as JSON: one row for each function, mode and refused call."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from forklore.abi.text import as_text, printable
from forklore.features.audit.errors import AuditError

FORMAT: Final = 1
SIZE_LIMIT: Final = 1 << 26
"""Bytes of a result that is read."""


class ChildStack(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stack that a child starts on."""

    whose: str
    """``its own copy``, ``the caller's, borrowed``, ``within the caller's``, ``given by the program``, ``mapped``."""
    size: int | None = None
    """Bytes of the mapping, guard included, or of what the program gave."""
    guard: int | None = None
    """Bytes at its lower end that fault."""
    guard_by: str | None = None
    """``mprotect`` or ``MADV_GUARD_INSTALL``."""


class ThreadIdentity(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the library tells a child of itself: ``own`` where that is true."""

    getpid: str
    gettid: str
    """``none``: the library has no gettid."""
    cached_tid: str
    """The tid in struct pthread, which mutexes take for the owner's."""
    pthread_self: str


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A creation call: a library that is refused one may make another."""

    call: str
    by: str = "caller"
    """``caller``, ``child`` for a process that the function made, ``helper`` for a thread of the library's own."""
    flags: list[str]
    unknown: int = 0
    exit_signal: str | None = None
    size: int | None = None
    """clone3's struct size."""
    stack: ChildStack
    tls: str | None = None
    parent_tid: str | None = None
    child_tid: str | None = None
    pidfd: str | None = None
    cgroup: bool = False
    refused: str | None = None
    """The errno it failed with; None: it made a child."""
    injected: bool = False
    """It was refused by the tracer."""
    blocked: str = "none"
    """The signals that the caller blocks at the call."""
    shared: list[str] | None = None
    """What kcmp found to be one and the same in both, while both were held."""
    child: list[str] = []
    """What the child does, in order, until ``until``."""
    until: str | None = None
    """``user code``, ``exec``, ``exit``; None: it stays within the library."""
    says: ThreadIdentity | None = None

    @property
    def words(self) -> str:
        """The call on one line, the prefix CLONE_ left out."""
        names = [*(flag.removeprefix("CLONE_") for flag in self.flags), *([hex(self.unknown)] if self.unknown else [])]
        if self.call in ("fork", "vfork"):
            return f"{self.call}()"
        if self.call == "clone3":
            parts = ["|".join(names) or "0"] + ([f"exit {self.exit_signal}"] if self.exit_signal else [])
            return f"clone3({', '.join(parts)})"
        return f"clone({'|'.join([*names, self.exit_signal] if self.exit_signal else names) or '0'})"


class AuditRow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One function, called once."""

    function: str
    mode: str
    injected: str | None = None
    """Which errno the tracer answered to which calls: ``clone3 ENOSYS``."""
    outcome: str
    """``called``, ``missing``, ``cannot`` (it could not be set up), ``killed`` (it did not come back in time)."""
    result: str | None = None
    """What the function returned, pids as ``pid``."""
    why: str | None = None
    """``cannot``: the errno of what failed."""
    attempts: list[Attempt] = []
    before: list[str] = []
    """The caller's calls up to the first attempt."""
    after: list[str] = []
    """The caller's calls from the last attempt until the function returns."""
    calls: list[str] = []
    """The names of all system calls that it took, but those that depend on timing or the state of the heap."""
    exec_failure: str | None = None
    """How the child's failure to execute comes back."""
    held_ns: int | None = None
    """How long the caller's thread was in the call that made the child, the tracer's stops included."""

    @property
    def made(self) -> Attempt | None:
        """The first attempt that made a child."""
        return next((attempt for attempt in self.attempts if attempt.refused is None), None)

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What it is a row of."""
        return self.function, self.mode, self.injected


class Library(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The library as its file names itself."""

    family: str
    version: str
    arch: str
    package: str | None = None
    build_id: str | None = None
    """The file's; of an archive, which has none, the linked probe's."""
    static: bool = False
    """It is an archive, libc.a."""

    @property
    def name(self) -> str:
        """Such as ``glibc 2.36 x86_64``."""
        return f"{self.family} {self.version} {self.arch}" + (" static" if self.static else "")


class Audit(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="audit", tag="forklore"):
    """All rows of one library."""

    format: int = FORMAT
    library: Library
    how: str
    """How the rows were got."""
    kernel: str | None = None
    rows: list[AuditRow]

    def row(self, function: str, mode: str = "single", injected: str | None = None) -> AuditRow | None:
        """The row of that key."""
        return next((row for row in self.rows if row.key == (function, mode, injected)), None)


class NotAnAuditError(AuditError):
    """A file that holds no audit; the text says what is wrong and what was expected."""


def encode(audit: Audit) -> bytes:
    """JSON with a row a line, so that two audits compare line by line."""
    head = msgspec.json.encode(msgspec.structs.replace(audit, rows=[]))
    rows = b",\n".join(msgspec.json.encode(row) for row in audit.rows)
    opening, _, closing = head.rpartition(b"[]")
    return opening + b"[\n" + rows + b"\n]" + closing + b"\n"


def decode(raw: bytes, name: str) -> Audit:
    """The audit in JSON. NotAnAuditError."""
    if len(raw) > SIZE_LIMIT:
        raise NotAnAuditError(f"{name} is too large for an audit ({len(raw)} bytes)")
    try:
        audit = msgspec.json.decode(raw, type=Audit)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise NotAnAuditError(
            f"{name} is no audit: {problem} (what `forklore audit --format json` writes was expected)"
        ) from problem
    if audit.format != FORMAT:
        raise NotAnAuditError(f"{name} is an audit of format {audit.format}; this forklore reads format {FORMAT}")
    told = as_text(msgspec.json.encode(audit))
    if printable(told) != told or "\\" in re.sub(r'\\["\\]', "", told):
        raise NotAnAuditError(f"{name} is no audit: it holds control characters, and forklore writes none")
    return audit


def lasting(audit: Audit) -> Audit:
    """The audit without what differs from run to run and from machine to machine: times and the kernel."""
    rows = [msgspec.structs.replace(row, held_ns=None) for row in audit.rows]
    return msgspec.structs.replace(audit, kernel=None, rows=rows)
