"""The text of one line of the tree."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from operator import itemgetter
from typing import Final

from forklore.abi.flags import CLONE_PARENT, CLONE_VFORK, CLONE_VM
from forklore.abi.text import printable
from forklore.abi.units import Unavailable
from forklore.decode.calls import Setsid
from forklore.decode.creation import Creation
from forklore.decode.sharing import shared_names
from forklore.events.records import raw_bytes
from forklore.model.sharing import object_answers
from forklore.model.tasks import FailedExec, Failure, MadeCall, Task, Trace
from forklore.report.styled_lines import Line, Piece, cut_text, width_of
from forklore.report.tree.commands import common_text, together, told_apart
from forklore.report.tree.edges import edges_text, own_name
from forklore.report.tree.fold import Leaf, TreeRow
from forklore.report.words import words
from forklore.report.words.deaths import death_words, gone_words
from forklore.report.words.reaping import zombie_words

_LEAST: Final = 20
"""Columns that a command gets in any case."""
_FORMERS: Final = 2
"""Of more programs that a task ran one after the other, those in between can be left out."""
_SLOWEST: Final = 24
_OUTLIER: Final = 2
"""Whose life is so many times the median's stands out."""
_HELD_SHARE: Final = 4
"""A life is marked where forklore held the task for more than this part of it, …"""
_HELD_LEAST: Final = 5_000_000
"""… and for more than so many ns."""


class Detail(IntEnum):
    """How much a line says of a call's flags."""

    FULL = 0
    SHORT = 1
    """Without the prefix CLONE_."""
    NONE = 2
    """No flags."""
    BRIEF = 3
    """Nor the line of the source that made it."""


SEPARATOR = Piece(" · ", "quiet")


def joined(parts: list[Line]) -> Line:
    """Parts with a separator between them; empty ones left out."""
    line: list[Piece] = []
    for part in parts:
        if part and line:
            line.append(SEPARATOR)
        line.extend(part)
    return tuple(line)


def task_head(row: TreeRow, room: int | None = None, *, runs: bool = False) -> Line:
    """Number and what runs: ``4712 ls -l``, ``thread 4715 "pool-3"``, ``31 × cc -c f*.c``, in ``room`` columns.

    A thread has its own name, or none where it is known what it runs, but never its creator's. ``runs``: with what it
    runs even where the library call has that in its parentheses.
    """
    first = row.tasks[0]
    pieces: list[Piece] = []
    if row.each > 1:
        pieces.append(Piece(f"{row.each:,} × ", "loud"))
    if first.kind != "process":
        pieces.append(Piece(f"{first.kind} "))
    if tids := _tids(row.tasks):
        pieces += [Piece(tids, "tid"), Piece(" ")]
    own = together(list(map(own_name, row.tasks))) if own_name(first) else ""
    ran = _runs(row)
    runs_own = bool(first.images or first.title)
    name = "" if first.kind == "thread" and not runs_own and (own or ran) else words.task_name(first)
    left = None if room is None else max(room - sum(width_of(piece.text) for piece in pieces), _LEAST)
    if runs_own and name:
        formers = [words.base_name(image.named) for image in first.images[:-1]]
        former = "".join(f"{name} → " for name in formers)
        if left is not None and len(formers) > _FORMERS and width_of(former) > left // 2:
            former = f"{formers[0]} → … → "  # what it runs now tells more
        text = common_text(row.tasks, None if left is None else max(left - width_of(former), _LEAST), row.telling)
        name, _, arguments = text.partition(" ")
        pieces += [Piece(former, "quiet")] if former else []
        pieces += [Piece(name, "name"), Piece(arguments and f" {arguments}")]
    elif name:
        pieces.append(Piece(name, "name"))
        does = {edge.role for edge in row.edges}
        if first.kind == "process" and len(does) == 1 and (text := does.pop()):
            pieces.append(Piece(f" ({text})"))
    if own and own != name:
        pieces.append(Piece(f'"{own}"' if not name else f' "{own}"', "name"))
    if ran and (runs or not row.edges[0].library or len({edge.library for edge in row.edges}) > 1):
        pieces += [Piece(" runs " if pieces[-1].text != " " else "runs "), Piece(ran, "name")]
    while pieces and not pieces[-1].text.strip():
        pieces.pop()
    if pieces:
        pieces[-1] = Piece(pieces[-1].text.rstrip(), pieces[-1].role)
    return tuple(pieces)


def _tids(tasks: list[Task]) -> str:
    # A range is told where it has no gaps: elsewhere it would name tasks that are not meant.
    tids = [task.tid for task in tasks]
    low, high = min(tids), max(tids)
    if len(tids) == 1:
        return words.tid(low)
    return f"{low}…{high}" if low and high - low + 1 == len(set(tids)) else ""


def _runs(row: TreeRow) -> str:
    ran = {edge.runs for edge in row.edges}
    return ran.pop() if len(ran) == 1 and row.tasks[0].kind == "thread" else ""


def maker(row: TreeRow, *, brief: bool = False, short: bool = False) -> str:
    """Who made it, in short: ``pthread_create(worker) ← start_pool, pool.c:88``; else how: ``fork``; empty where that
    is not known. ``brief``, ``short``: as for :meth:`Edge.text`."""
    task = row.tasks[0]
    if text := edges_text(row.edges, brief=brief, short=short):
        return text
    if task.creation is None:
        return ""
    return _manner(task.creation) or ""


def task_parts(row: TreeRow, trace: Trace, detail: Detail, *, verbose: bool = True) -> list[Line]:
    """How it was made, what it shares, what it executes, and what is unusual about it.

    Not ``verbose``: without who made it, and without what the C library does in its usual way.
    """
    task = row.tasks[0]
    single = len(row.tasks) == 1
    parts: list[Line] = []
    if verbose and (text := edges_text(row.edges)):
        parts.append((Piece(text, "maker"),))
    if task.creation is not None:
        parts += _creation(task, task.creation, detail, row, verbose=verbose)
    elif task.how == "attached":
        parts.append((Piece("was running", "quiet"),))
    elif task.how == "continued":
        parts.append((Piece(f"carried over from {_file_before(trace)}", "quiet"),))
    elif task.how != "root":
        parts.append((Piece("its creation was not seen", "loud"),))
    if verbose:
        parts.append(_exec(task, single))
        parts.append(_took(row.tasks))
        if row.held:
            parts.append((Piece(row.held, "quiet"),))
    notes = [*task_notes(row, trace), *row.extras]
    if text := zombie_words(row.tasks, verbose=verbose):
        notes.append(text)
    if verbose and row.descriptors:
        notes.append(row.descriptors)
    parts.extend((Piece(text, "loud"),) for text in notes)
    return [part for part in parts if part]


def _file_before(trace: Trace) -> str:
    name = trace.header.continues
    return "the file before" if name is None else words.base_name(raw_bytes(name))


def _creation(task: Task, creation: Creation, detail: Detail, row: TreeRow, *, verbose: bool) -> list[Line]:
    parts: list[Line] = []
    names = shared_names(creation)
    # What was seen counts, not what the flags say; where nothing was seen, the flags.
    answers = object_answers(creation.flags.raw, task.kcmp)
    if verbose or not row.usual:
        word = _manner(creation)
        said = bool(row.edges) and row.edges[0].library.endswith(word or "?")
        if verbose and word and creation.call not in ("fork", "vfork") and not said:
            parts.append((Piece(word, "call"),))
        parts.append((Piece(creation.text(abbreviate=detail is not Detail.FULL), "flags"),))
        seen = {answer.resource: answer.observed for answer in answers if answer.observed != "unknown"}
        shared = [name for name in names if not name.startswith("new") and seen.get(name, "shared") == "shared"]
        shared += [name for name, how in seen.items() if how == "shared" and name not in names]
        if shared:
            parts.append((Piece("shares " + " ".join(shared)),))
    new = [name.removeprefix("new") for name in names if name.startswith("new")]
    if new:
        parts.append((Piece(f"new {' '.join(new)} {'namespace' if len(new) == 1 else 'namespaces'}", "loud"),))
    parts.extend((Piece(f"{a.resource}: {a.sentence}", "loud"),) for a in answers if a.sentence is not None)
    return parts


def _manner(creation: Creation) -> str | None:
    raw = creation.flags.raw
    if raw is None or creation.is_thread:
        return None
    if not raw & CLONE_VM:
        return "fork"
    return "vfork" if raw & CLONE_VFORK else None


def _exec(task: Task, single: bool) -> Line:
    if not task.images:
        return ()
    images = task.images if task.how != "root" else task.images[1:]
    if not images:
        return ()
    chain = [
        words.path(image.path) + ("" if image.at is None else f" by {words.executed(image.path, image.at)}")
        for image in images
    ]
    after = ""
    if single and task.how != "root" and task.exec_after is not None:
        after = f" after {words.span(task.exec_after)}"
    if len(chain) > 1:  # the time is the first one's
        chain[0], after = chain[0] + after, ""
    text = f"exec {' → '.join(chain)}"
    tried = sum(len(f.paths) for f in task.failed_execs)
    if tried and single:
        text += f" ({words.count(tried, 'path')} tried before)"
    return (Piece(text + after, "exec"),)


def task_notes(row: TreeRow, trace: Trace) -> list[str]:
    """What is unusual about the tasks of a row."""
    task = row.tasks[0]
    single = len(row.tasks) == 1
    found: list[str] = []
    if task.untraced_cleared:
        found.append("asked for CLONE_UNTRACED, followed all the same")
    if not task.traced:
        found.append("not followed")
    flags = task.creation.flags.raw if task.creation is not None else None
    if flags is not None and flags & CLONE_PARENT and task.kind == "process" and single:
        found.append(f"child of {_who(task.parent, trace)}, not of its creator")
    if task.ns_tids and single:
        inside = words.inside(task)
        found.append(f"pid {inside} inside its namespace")
    if task.heir is not None:
        found.append(f"superseded by exec of thread {_former(task, trace)}")
    if task.images and task.images[-1].former_tid is not None:
        found.append(f"took over tid {words.tid(task.tid)} at exec, was {task.images[-1].former_tid}")
    if task.reapers:
        found.append(f"orphan, now of {task.reapers[-1].tid}" if single else "orphans")
    if task.stops:
        found.append("was stopped")
    return found


def _who(number: int | None, trace: Trace) -> str:
    return "a process outside the trace" if number is None else words.tid(trace.tasks[number].tid)  # type: ignore[index]


def _former(task: Task, trace: Trace) -> str:
    heir = trace.tasks[task.heir] if task.heir is not None else task
    images = [image for image in heir.images if image.former_tid is not None]
    return str(images[0].former_tid) if images else words.tid(heir.tid)


def task_end(row: TreeRow, *, verbose: bool = True, room: int | None = None) -> Line:
    """How it ended and how long it lived: ``exit 1 · 41 ms``. Of several: the shortest, the median and the longest
    life, and as far as ``room`` columns reach, their sum and whose was the longest.

    Not ``verbose``: ``exit 0`` goes without saying.
    """
    task = row.tasks[0]
    if task.death is None:
        return (Piece(gone_words(task.gone), "quiet"),)
    good = task.death.code == 0
    pieces = [] if good and not verbose else [Piece(death_words(task.death, task.tgid), "good" if good else "bad")]
    lived = sorted(((span, t) for t in row.tasks if (span := t.lifetime) is not None), key=itemgetter(0))
    if lived:
        lifetimes = [lifetime for lifetime, _ in lived]
        text = words.spans(lifetimes)
        if len(lived) > 1:
            total = f"{text} · Σ {words.span(sum(lifetimes))}"
            longest = [total]
            if lifetimes[0] < lifetimes[-1]:
                slowest = f"slowest {_called(lived[-1][1], [lived[0][1], lived[1][1]])}"
                longest = [f"{total} · {slowest}", total, f"{text} · {slowest}"]
                # Who stands out tells more than the sum.
                if lifetimes[-1] >= _OUTLIER * lifetimes[len(lifetimes) // 2]:
                    longest[1:] = reversed(longest[1:])
            text = next((each for each in longest if room is None or width_of(each) <= room), text)
        pieces.append(Piece((" · " if pieces else "") + text, "quiet"))
        pieces += _held(row.tasks)
    elif not pieces:
        pieces.append(Piece(death_words(task.death, task.tgid), "good"))
    return tuple(pieces)


def _held(tasks: list[Task]) -> list[Piece]:
    # What is much of their life is no doing of the program.
    held, lived = sum(task.tracer_held for task in tasks), sum(task.lifetime or 0 for task in tasks)
    if held * _HELD_SHARE <= lived or held <= _HELD_LEAST * len(tasks) or tasks[0].how == "root":
        return []
    return [Piece(f" ({words.span(held)} held)", "loud")]


def _took(tasks: list[Task]) -> Line:
    cpu = [task.cpu for task in tasks if task.cpu is not None]
    peak = [task.peak for task in tasks if task.peak is not None]
    if not cpu or not peak or tasks[0].how == "root":  # whose sum stands above all
        return ()
    children = " with its children" if tasks[0].children else ""
    return (Piece(f"cpu {words.span(sum(cpu) * 1000)}{children}, memory {words.size(max(peak) * 1024)}", "quiet"),)


def _called(task: Task, others: list[Task]) -> str:
    return cut_text(told_apart(task, others), _SLOWEST) or words.tid(task.tid)


def leaf_line(row: TreeRow, detail: Detail) -> tuple[Line, Line]:
    """Something that made no task: a refused creation or exec, or an unsharing call; and the reason, if it has one."""
    leaf = row.leaves[0]
    times: Line = (Piece(f"{len(row.leaves):,} × ", "loud"),) if len(row.leaves) > 1 else ()
    text: Callable[[Leaf, Detail], Line] = _LEAVES[type(leaf)]
    by = edges_text(row.edges, brief=detail is Detail.BRIEF)
    why: Line = () if isinstance(leaf, FailedExec) else (Piece(words.because(leaf.reasons)),) if leaf.reasons else ()
    mark, *said = text(leaf, detail)
    made: Line = (Piece(by, "maker"), SEPARATOR) if by else ()
    return (*times, mark, *made, *said), why


def goes_without_saying(leaf: Leaf) -> bool:
    """Whether a line of its own takes more room than it is worth: a setsid that succeeded, as each daemon makes one."""
    return isinstance(leaf, MadeCall) and isinstance(leaf.call, Setsid) and leaf.result is not None and leaf.result >= 0


def _refused(leaf: Leaf, detail: Detail) -> Line:
    assert isinstance(leaf, Failure)
    call = leaf.creation.text(abbreviate=detail is not Detail.FULL)
    if detail >= Detail.NONE and leaf.creation.call.startswith("clone"):
        call = f"{leaf.creation.call}(…)"
    return (Piece("✗ ", "bad"), Piece(call, "flags"), Piece(f" = {words.error(leaf.errno)}", "bad"))


def _exec_refused(leaf: Leaf, _detail: Detail) -> Line:
    assert isinstance(leaf, FailedExec)
    shown, places = leaf.paths[-1], len(set(leaf.paths))
    text = words.path(shown)
    if places > 1 and not isinstance(shown, Unavailable):
        text = f"{words.base_name(shown)} in {places} directories"
    text = words.executed(shown, leaf.at, "execve ") if places == 1 else f"execve {text}"
    pieces = [Piece("✗ ", "bad"), Piece(text, "exec"), Piece(f" = {words.error(leaf.errnos[-1])}", "bad")]
    if len(leaf.paths) > places:
        pieces.append(Piece(f" ({len(leaf.paths)} attempts)"))
    if leaf.injected:
        pieces.append(Piece(" injected by strace"))
    return tuple(pieces)


def _call(leaf: Leaf, detail: Detail) -> Line:
    assert isinstance(leaf, MadeCall)
    text = leaf.call.text(abbreviate=detail is not Detail.FULL)
    target = f" [{printable(leaf.target)}]" if leaf.target else ""
    if leaf.result is None or leaf.result >= 0:
        return (Piece("· ", "quiet"), Piece(text + target, "flags"))
    return (Piece("✗ ", "bad"), Piece(text + target, "flags"), Piece(f" = {words.error(-leaf.result)}", "bad"))


_LEAVES: dict[type, Callable[[Leaf, Detail], Line]] = {
    Failure: _refused,
    FailedExec: _exec_refused,
    MadeCall: _call,
}
