"""Two audits compared, in words: what a library calls otherwise than another."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from forklore.features.audit.functions import FUNCTIONS
from forklore.features.audit.result import Attempt, Audit, AuditRow
from forklore.features.audit.show import words

_MARKDOWN = str.maketrans({char: f"\\{char}" for char in "\\`*_[]<>|"})


class AuditChange(Struct, frozen=True):
    """The same thing said of one or more functions. ``text`` goes on from their names."""

    functions: tuple[str, ...]
    text: str

    @property
    def sentence(self) -> str:
        """``posix_spawn and system moved from ...``."""
        return f"{words.joined(words.folded(self.functions))} {self.text}"


class AuditComparison(Struct, frozen=True):
    """What changed from ``old`` to ``new``, and which functions did not."""

    old: str
    new: str
    changes: tuple[AuditChange, ...]
    same: tuple[str, ...]

    def text(self) -> str:
        """Lines for people."""
        return "\n".join([f"{self.old} -> {self.new}:", *(f"  {line}" for line in self._lines())]) + "\n"

    def markdown(self) -> str:
        """The same as GitHub's Markdown has it."""
        lines = (line.translate(_MARKDOWN) for line in self._lines())
        return "\n".join([f"# {self.old} → {self.new}", "", *(f"- {line}" for line in lines)]) + "\n"

    def _lines(self) -> Iterator[str]:
        yield from (change.sentence for change in self.changes)
        if self.same:
            yield f"{words.joined(words.folded(self.same))} unchanged"


def compare(old: Audit, new: Audit) -> AuditComparison:
    """Every function that both audits know, in single- and multi-threaded programs and with calls refused."""
    said: dict[str, list[str]] = {}
    same: list[str] = []
    for function in FUNCTIONS:
        before, after = old.row(function), new.row(function)
        if before is None or after is None:
            continue
        texts = list(dict.fromkeys(_changes(old, new, before, after)))
        for text in texts:
            said.setdefault(text, []).append(function)
        if not texts and before.outcome == "called":
            same.append(function)
    changes = tuple(AuditChange(tuple(functions), text) for text, functions in said.items())
    return AuditComparison(old.library.name, new.library.name, changes, tuple(same))


def _changes(old: Audit, new: Audit, before: AuditRow, after: AuditRow) -> Iterator[str]:
    if before.outcome != after.outcome or before.outcome != "called":
        yield from _outcomes(before, after)
        return
    if words.call(before) != words.call(after):
        yield _moved(before, after)
    first, second = _first(before), _first(after)
    if first is not None and second is not None:
        yield from _attempts(first, second)
    yield from _steps(before, after)
    if before.exec_failure != after.exec_failure:
        yield f"tells of a failed exec otherwise: {after.exec_failure} (was {before.exec_failure})"
    if words.outcome(before) != words.outcome(after):
        yield f"returned {words.outcome(before)}, now {words.outcome(after)}"
    yield from _refusals(old, new, before.function)
    many = old.row(before.function, "multi"), new.row(before.function, "multi")
    if many[0] is not None and many[1] is not None and words.call(many[0]) != words.call(many[1]):
        text = _moved(many[0], many[1])
        if text != _moved(before, after):
            yield f"in a program with threads {text}"


def _moved(before: AuditRow, after: AuditRow) -> str:
    # The long sets of flags of threads are not worth saying twice.
    one, two = _first(before), _first(after)
    if one is not None and two is not None and one.call != two.call and len(one.flags) > 3 and one.flags == two.flags:
        return f"moved from {one.call} to {two.call} with the same flags"
    return f"moved from {words.call(before)} to {words.call(after)}"


def _outcomes(before: AuditRow, after: AuditRow) -> Iterator[str]:
    if before.outcome == after.outcome:
        return
    if before.outcome == "missing":
        yield f"came: {words.call(after)}"
    elif after.outcome == "missing":
        yield f"went (was {words.call(before)})"
    else:
        yield f"was {before.outcome}, now is {after.outcome}"


def _first(row: AuditRow) -> Attempt | None:
    return row.made or (row.attempts[0] if row.attempts else None)


def _attempts(before: Attempt, after: Attempt) -> Iterator[str]:
    if before.blocked != after.blocked:
        yield f"had {before.blocked} of the signals blocked at the call, now {after.blocked}"
    stacks = words.stack(before.stack), words.stack(after.stack)
    if stacks[0] != stacks[1]:
        yield f"had as the child's stack: {stacks[0]}; now: {stacks[1]}"
    for name in ("tls", "parent_tid", "child_tid", "pidfd"):
        one, two = getattr(before, name), getattr(after, name)
        if one != two:
            yield f"pointed {name} to {one or 'nothing'}, now to {two or 'nothing'}"
    if before.shared != after.shared and before.shared is not None and after.shared is not None:
        yield f"shared {', '.join(before.shared) or 'nothing'}, now {', '.join(after.shared) or 'nothing'}"
    told = words.identity(before), words.identity(after)
    if told[0] != told[1]:
        yield f"told the child: {told[0]}; now: {told[1]}"


def _steps(before: AuditRow, after: AuditRow) -> Iterator[str]:
    one, two = _first(before), _first(after)
    pairs = [("before the call", before.before, after.before), ("after it", before.after, after.after)]
    if one is not None and two is not None:
        pairs.append(("in the child", one.child, two.child))
    for where, old, new in pairs:
        if old == new:
            continue
        gone = [step for step in old if step not in new and not step.startswith("mmap")]
        come = [step for step in new if step not in old and not step.startswith("mmap")]
        if not gone and not come and {*old} != {*new}:
            continue  # the stack, of which its size is told above
        parts = ([f"no more {', '.join(gone)}"] if gone else []) + ([f"now {', '.join(come)}"] if come else [])
        yield f"{where}: {'; '.join(parts) or 'the same steps in another order or number'}"


def _refusals(old: Audit, new: Audit, function: str) -> Iterator[str]:
    for errno in ("ENOSYS", "EINVAL"):
        before, after = words.fallback(old, function, errno), words.fallback(new, function, errno)
        if before == after:
            continue
        if before == words.NOTHING:
            again = after.partition("(")[0]
            yield f"when clone3 answers {errno}: {f'{again} follows' if again == 'clone' else after}"
        elif after != words.NOTHING:
            yield f"when clone3 answers {errno}: {after} (was: {before})"
    for errno in ("EPERM", "EAGAIN"):
        first, second = old.row(function, "single", f"all {errno}"), new.row(function, "single", f"all {errno}")
        if first is not None and second is not None and words.outcome(first) != words.outcome(second):
            yield f"when refused with {errno} returned {words.outcome(first)}, now {words.outcome(second)}"
