"""Where tasks are made: the sites of a program, ranked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from forklore.model.stacks import CallStack, StackFrame
from forklore.model.tasks import Failure, Task, Trace
from forklore.report.styled_lines import Line, Piece, fit
from forklore.report.tree.edges import Edge, Edges
from forklore.report.words import words
from forklore.report.words.code import function_words

if TYPE_CHECKING:
    from forklore.model.attribution import Attribution

SHOWN: Final = 40
"""Sites of a table, unless more are asked for."""
_THROUGH: Final = 8
"""Functions that are named below one site."""


Cell = Callable[["Site"], str]


class Site(Struct):
    """All that was made by one library call of one caller, with one routine to run."""

    text: str
    edge: Edge | None
    """None: only the system call is known."""
    tasks: list[Task] = field(default_factory=list)
    refused: list[Failure] = field(default_factory=list)

    @property
    def held(self) -> int | None:
        """How long its vfork children held their creators, together; None where they held none, or it is not known."""
        spans = [task.held for task in self.tasks if task.held is not None]
        return sum(spans) if spans else None

    @property
    def longest(self) -> int | None:
        """The longest of these times."""
        return max((task.held for task in self.tasks if task.held is not None), default=None)

    @property
    def count(self) -> int:
        """How often a task was asked for."""
        return len(self.tasks) + len(self.refused)

    @property
    def kind(self) -> str:
        """What was asked for: ``process`` or ``thread``; ``both``, or ``task`` where it is not known."""
        kinds = {task.kind for task in self.tasks} | {each.creation.kind for each in self.refused}
        return kinds.pop() if len(kinds) == 1 else "both"

    def through(self, edges: Edges) -> list[tuple[str, int]]:
        """Who called the caller, and how often, where that is a function that several others use to make tasks.

        Empty where only one function called it, none of them has a name, or the stacks do not tell.
        """
        counts: dict[str, int] = {}
        named = False
        asked: list[Task | Failure] = [*self.tasks, *self.refused]
        for made in asked:
            frame = _next(made.stack, edges.attribution(made))
            if frame is not None:
                named = named or frame.place.function is not None
                who = function_words(frame.place, frame.place.lines[-1] if frame.place.lines else None)
                counts[who] = counts.get(who, 0) + 1
        if not named or len(counts) < 2:
            return []
        return sorted(counts.items(), key=lambda item: -item[1])


def _next(stack: CallStack | None, found: Attribution | None) -> StackFrame | None:
    if stack is None or found is None or found.caller is None or found.script_frame is not None:
        return None
    frames = iter(stack.frames)
    if found.caller not in frames:  # that takes all up to it
        return None
    outer = next(frames, None)
    return outer if outer is not None and outer.sure else None


def sites(trace: Trace, edges: Edges) -> list[Site]:
    """The sites, those that were used most often first, then those first seen."""
    found: dict[object, Site] = {}
    for made in asked_for(trace):
        assert made.creation is not None
        edge = edges.of(made)
        text = made.creation.text(abbreviate=True) if edge is None else edge.text()
        site = found.setdefault(text if edge is None else edge, Site(text, edge))
        if isinstance(made, Task):
            site.tasks.append(made)
        else:
            site.refused.append(made)
    return sorted(found.values(), key=lambda site: -site.count)


def asked_for(trace: Trace) -> Iterator[Task | Failure]:
    """All that calls were seen for: the tasks that they made, then the refused ones."""
    yield from (task for task in trace.tasks.values() if task.creation is not None)
    yield from trace.failures


def site_lines(trace: Trace, columns: int | None, shown: int | None = SHOWN) -> list[Line]:
    """The table of all sites by number, then of those that held their creators, by time."""
    edges = Edges(trace)
    found = sites(trace, edges)
    if not found:
        return [(Piece("No task was made."),)]
    refusals = any(site.refused for site in found)
    cells = [("tasks", _tasks), ("kind", _kind), *([("refused", _refused)] if refusals else [])]
    lines = [*_table("Creation sites by number", found, cells, shown, edges)]
    holding = sorted((site for site in found if site.held), key=lambda site: -(site.held or 0))
    if holding:
        title = "Creation sites by the time for which a vfork held the creator"
        lines += [(), *_table(title, holding, [("tasks", _tasks), ("held", _held), ("longest", _longest)], shown)]
    if any(site.edge is not None and not site.edge.sure for site in found):
        lines += [(), (Piece("≈ told by the form of the call, or by a stack that is partly a guess.", "quiet"),)]
    return [fit(line, columns) for line in lines]


def _table(
    title: str, found: list[Site], columns: Sequence[tuple[str, Cell]], shown: int | None, edges: Edges | None = None
) -> Iterator[Line]:
    # ``edges``: with who called the callers.
    yield (Piece(title, "name"),)
    yield (Piece("".join(f"{name:>9}" for name, _ in columns) + "  made by", "quiet"),)
    for site in found[:shown]:
        cells = "".join(f"{cell(site):>9}" for _, cell in columns)
        yield (Piece(f"{cells}  "), Piece(site.text, "maker" if site.edge is not None else "flags"))
        through = [] if edges is None else site.through(edges)
        for who, number in through[:_THROUGH]:
            yield (Piece(f"{'':{9 * len(columns)}}  {number:>7,} "), Piece(f"← {who}", "maker"))
        if len(through) > _THROUGH:
            rest = sum(number for _, number in through[_THROUGH:])
            others = words.count(len(through) - _THROUGH, "other function")
            yield (Piece(f"{'':{9 * len(columns)}}  {rest:>7,} ← {others}", "quiet"),)
    if shown is not None and len(found) > shown:
        yield (Piece(f"… {words.count(len(found) - shown, 'more site')} (--all shows them)", "quiet"),)


def _tasks(site: Site) -> str:
    return f"{len(site.tasks):,}"


def _kind(site: Site) -> str:
    return site.kind


def _refused(site: Site) -> str:
    return f"{len(site.refused):,}" if site.refused else "-"


def _held(site: Site) -> str:
    return words.span(site.held or 0)


def _longest(site: Site) -> str:
    return words.span(site.longest or 0)
