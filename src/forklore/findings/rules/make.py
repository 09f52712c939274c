"""make without its jobserver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from forklore.abi.units import Unavailable
from forklore.events.records import Descriptors
from forklore.findings.finding import Finding
from forklore.findings.rule import Rule
from forklore.findings.subject import Subject, argv_of
from forklore.findings.told import ARGUMENTS, DESCRIPTORS
from forklore.model.pipes import reads, writes
from forklore.model.tasks import Image, Task
from forklore.model.timing import most_at_once
from forklore.report.words import words
from forklore.report.words.descriptors import beyond, given

MAKES: Final = frozenset({b"make", b"gmake", b"gnumake"})
_JOBS: Final = re.compile(rb"-[a-zA-Z]*j(\d*)|--jobs(?:=(\d+))?")
_FEW: Final = 2


def jobs(image: Image | None) -> int | None:
    """What ``-j`` asks for: a number, 0 for as many as there are; None without the option."""
    words_ = argv_of(image)
    for index, word in enumerate(words_[1:], 1):
        found = _JOBS.fullmatch(word)
        if found is None:
            continue
        number = found[1] or found[2] or (words_[index + 1] if index + 1 < len(words_) else b"")
        return int(number) if number.isdigit() else 0
    return None


def _make(task: Task) -> Image | None:
    return next((image for image in reversed(task.images) if _base(image) in MAKES), None)


def _base(image: Image) -> bytes:
    return (image.file or b"").rpartition(b"/")[2]


def _lost(subject: Subject) -> Iterator[Finding]:
    for task in subject.processes:
        image = _make(task)
        if image is None or jobs(image) is not None:
            continue  # with a -j of its own it has a jobserver of its own
        above = next((each for each in subject.ancestors(task) if _make(each) is not None), None)
        asked = None if above is None else jobs(_make(above))
        if above is None or asked is None or asked == 1 or _has_jobserver(subject, task):
            continue
        children = [subject.trace.tasks[child] for child in task.children]
        ran = [child for child in children if child.images and child.kind == "process"]
        # One that has its jobserver by name (make 4.4: --jobserver-auth=fifo:) has no descriptor to tell it by.
        if len(ran) < _FEW or most_at_once(ran) != 1:
            continue
        text = (
            f"{subject.who(task)} ran {words.count(len(ran), 'command')} one after the other, below"
            f" {subject.who(above)} with -j{asked or ''}: it has not got the jobserver's pipe"
        )
        yield Finding(
            rule="jobserver-lost",
            severity="warning",
            text=text,
            tasks=(task.id, above.id),
            t=task.created,
            where=subject.where(task),
            program=subject.program(task),
            sure=False,
        )


def jobservers(record: Descriptors) -> set[tuple[int, int | None]]:
    """The pipes, by device and inode, of which a task has both ends beyond 0 to 2, as make hands its jobserver down."""
    held = [each for each in beyond(record) if each.kind in ("pipe", "fifo")]
    reading, writing = ({(each.device, each.inode) for each in held if open_(each)} for open_ in (reads, writes))
    return reading & writing


def _has_jobserver(subject: Subject, task: Task) -> bool:
    last = task.descriptors[-1] if task.descriptors else None
    if last is None:
        return False
    # A pipe that the whole trace began with is no jobserver of a make in it.
    before = {(device, inode) for _fd, _target, device, inode in given(subject.trace)}
    return isinstance(last.table, Unavailable) or bool(jobservers(last) - before)


RULES: Final = (
    Rule(
        id="jobserver-lost",
        severity="warning",
        title="make -j does not reach a make below it",
        about=(
            "GNU make hands its jobserver only to commands that it takes for a make: those with $(MAKE) or a + in"
            " them. A make that is started otherwise runs one command at a time and says `jobserver unavailable`."
            " Found where it has no pipe's both ends beyond 0 to 2, no -j of its own, and ran its commands one after"
            " the other."
        ),
        right="A make with a -j of its own; one that has the pipe; commands that overlap, as with a named jobserver.",
        advice="call it as $(MAKE), or put + before the command",
        find=_lost,
        needs=(DESCRIPTORS, ARGUMENTS),
    ),
)
