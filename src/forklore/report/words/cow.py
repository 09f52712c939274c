"""Words for copy-on-write: what a forked child had in common with its creator, and who copied it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from forklore.abi.text import printable
from forklore.abi.units import TaskId, Unavailable
from forklore.events.records import Cow
from forklore.model.tasks import Trace
from forklore.report.words import words

_KIB: Final = 1024


def cow_words(record: Cow, trace: Trace) -> str:
    """``copied 12 of 340 pages in common with 4711 by exit; 4711 copied 3``; at creation, how many there are."""
    creator = trace.tasks[TaskId(record.creator)].tid
    if record.unknown is not None:
        return f"pages in common with {creator}: not known ({printable(record.unknown.why)})"
    about = "" if record.exact else "about "
    if record.side is None:
        size = record.common * record.page_size // _KIB
        return f"has {about}{words.count(record.common, 'page')} ({size:,} KiB) in common with {creator}"
    total = f"{about}{record.common:,} pages in common"
    moment = record.moment
    own = record.side == record.task
    if not isinstance(record.copied, int):
        who = trace.tasks[TaskId(record.side)].tid
        by = f"by {moment}" if own else f"by {who}'s {moment}"
        return f"{record.parted:,} of {total} with {creator} were copied {by}, by whom is not known"
    other = max(0, record.parted - record.copied)
    verb = "changed" if record.told_by == "contents" else "copied"
    if own:
        text = f"{verb} {record.copied:,} of {total} with {creator} by {moment}"
        return text + (f"; {creator} {verb} {other:,}" if other else "")
    return f"{verb} {other:,} of {total} with {creator} by the {moment} of {creator}, which {verb} {record.copied:,}"


def last_words(records: Sequence[Cow], trace: Trace) -> str:
    """What became of the common pages; how many there were, as long as that is all that is known. Empty for none."""
    return cow_words(records[-1], trace) if records else ""


def cow_lines(records: Sequence[Cow], trace: Trace) -> Iterator[tuple[str, str]]:
    """Each moment, and what is to say of it."""
    for record in records:
        other = None if record.side is None or record.side == record.task else trace.tasks[TaskId(record.side)]
        side = "" if other is None else f" of {other.tid}"
        yield f"{record.moment}{side}", f"{cow_words(record, trace)} [{_source(record)}]"
        if record.side is None or record.unknown is not None:
            continue
        counts = (("still in common", record.still), ("no longer", record.parted), ("swapped out", record.swapped),
                  ("given back", record.gone))  # fmt: skip
        yield "", ", ".join(f"{count:,} {name}" for name, count in counts if count) or "nothing was in common"
        if isinstance(record.copied, Unavailable):
            yield "", f"who copied: {record.copied.why}"


def _source(record: Cow) -> str:
    told = {"frames": ", page frames", "contents": ", contents"}.get(record.told_by or "", "")
    return f"{record.source or 'not measured'}{told}"
