"""The environment of each exec, and how it differs from the one before."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from forklore.abi.units import TaskId
from forklore.model.tasks import Image, Task, Trace

Variables = dict[bytes, bytes]


class Changed(Struct, frozen=True):
    """A variable with another value, or one that there was not, or is no more: None."""

    name: bytes
    before: bytes | None
    now: bytes | None


class ExecEnvironment(Struct, frozen=True):
    """A program's environment, set against that of the program which made its task, or which ran in the task before."""

    task: Task
    image: Image
    entries: int
    before: Image | None
    """None: nothing is known of one before; ``changed`` is empty then."""
    changed: tuple[Changed, ...]


def variables(entries: tuple[bytes, ...]) -> Variables:
    """By name. Of a name that is there twice the first counts, as for getenv(3); an entry without = is a name."""
    found: Variables = {}
    for entry in entries:
        name, _, value = entry.partition(b"=")
        found.setdefault(name, value)
    return found


def changed(before: Variables, now: Variables) -> tuple[Changed, ...]:
    """What differs, by name."""
    names = sorted(before.keys() | now.keys())
    return tuple(Changed(n, before.get(n), now.get(n)) for n in names if before.get(n) != now.get(n))


def environments(trace: Trace) -> Iterator[ExecEnvironment]:
    """Every exec whose environment was recorded, in the order of tasks."""
    parsed: dict[int, Variables] = {}

    def of(entries: tuple[bytes, ...]) -> Variables:
        # The model has equal ones once.
        known = parsed.get(id(entries))
        if known is None:
            known = parsed[id(entries)] = variables(entries)
        return known

    inherited: dict[TaskId, Image] = {}
    for task in trace.tasks.values():
        before = _creators(task, trace, inherited)
        if before is not None:
            inherited[task.id] = before
        for image in task.images:
            own = image.envp
            if own is None:
                continue
            former = None if before is None else before.envp
            found = () if former is None or former is own else changed(of(former), of(own))
            yield ExecEnvironment(task, image, len(own), None if former is None else before, found)
            before = image


def _creators(task: Task, trace: Trace, inherited: dict[TaskId, Image]) -> Image | None:
    """What its creator ran as it made the task, which that may have of its own creator."""
    creator = None if task.creator is None else trace.tasks[task.creator]
    if creator is None:
        return None
    t = task.created
    ran = (image for image in reversed(creator.images) if t is None or image.t is None or image.t <= t)
    return next(ran, inherited.get(creator.id))


Change = tuple[bytes, bytes | None, bytes | None]
"""A name, what it was set to before, and after; None: not set."""


def environment_changes(trace: Trace, task: Task, index: int) -> list[Change] | None:
    """What the ``index``-th exec of a task changed against the program before it, by name.

    None where one of the two was not recorded.

    That a process changes its own environment without an exec is not seen: it is in what its next exec hands on.
    """
    after = task.images[index].envp
    before = task.images[index - 1] if index else _of_creator(trace, task)
    if after is None or before is None or before.envp is None:
        return None
    return [(each.name, each.before, each.now) for each in changed(variables(before.envp), variables(after))]


def _of_creator(trace: Trace, task: Task) -> Image | None:
    # Through those that executed nothing: a shell's subshell has the environment of the shell.
    above = task
    while above.creator is not None:
        created, above = above.created, trace.tasks[above.creator]
        ran = [image for image in above.images if created is None or image.t is None or image.t <= created]
        if ran:
            return ran[-1]
    return None
