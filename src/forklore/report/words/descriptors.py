"""Words for the descriptors that a task holds after an exec."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Sequence
from typing import Final

from forklore.abi.text import printable
from forklore.abi.units import TaskId, Unavailable
from forklore.events.records import Descriptors, Held, raw_bytes
from forklore.model.pipes import reads, writes
from forklore.model.tasks import Trace
from forklore.report.words import words

STANDARD: Final = 2
"""0, 1 and 2 are meant to be inherited."""


Key = tuple[int, object, int, int | None]


def beyond(record: Descriptors) -> list[Held]:
    """The descriptors above 2."""
    return [] if isinstance(record.table, Unavailable) else [held for held in record.table if held.fd > STANDARD]


def key(held: Held) -> Key:
    """The same for two tasks that have one thing open at one number."""
    return held.fd, held.target, held.device, held.inode


def given(trace: Trace) -> frozenset[Key]:
    """What the traced program was started with: no doing of its own."""
    root = next((task for task in trace.tasks.values() if task.how == "root"), None)
    return frozenset(map(key, beyond(root.descriptors[0]))) if root is not None and root.descriptors else frozenset()


def held_words(records: Sequence[Descriptors], but: frozenset[Key] = frozenset()) -> str:
    """``holds 2 descriptors beyond 0-2: 3 pipe, 4 file``, after the last exec; empty for none ``but`` those."""
    found = [held for held in beyond(records[-1]) if key(held) not in but] if records else []
    if not found:
        return ""
    more = records[-1].left_out
    if len(found) <= 3 and not more:
        which = ", ".join(f"{held.fd} {printable(held.kind)}" for held in found)
    else:
        kinds = Counter(printable(held.kind) for held in found)
        which = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common(3))
        which += ", …" if len(kinds) > 3 else ""
    return f"holds {words.count(len(found) + more, 'descriptor')} beyond 0-2: {which}"


def held_name(held: Held) -> str:
    """What a descriptor is: ``pipe:[123], write end``, ``file /etc/passwd``."""
    target = printable(raw_bytes(held.target))
    if held.kind in ("pipe", "fifo"):
        ends = {(True, False): "read end", (False, True): "write end", (True, True): "both ends"}
        return f"{target}, {ends.get((reads(held), writes(held)), 'neither end')}"
    return target if target.startswith(f"{held.kind}:") else f"{printable(held.kind)} {target}"


def origin(held: Held, record: Descriptors, trace: Trace) -> str:
    """Where a descriptor comes from, as far as the comparison with the creator's tells."""
    if record.creator is None:
        return "not compared: its creator was gone or outside the trace"
    creator = trace.tasks[TaskId(record.creator)].tid
    if held.same == 0:
        how = {False: "open there without close-on-exec", True: "close-on-exec there"}.get(
            held.creators_cloexec, "close-on-exec or not is unknown"  # type: ignore[arg-type]
        )
        return f"the same open file as {creator}'s {held.fd}, {how}"
    if held.same == -errno.EBADF:
        return f"{creator} has no {held.fd} at this moment"
    if held.same is not None and held.same > 0:
        return f"not what {creator} has at {held.fd}"
    return f"not compared with {creator}'s" + (f": {words.error(-held.same)}" if held.same else "")
