"""What an exec changed in the environment, where that was recorded (``--env``)."""

from __future__ import annotations

from forklore.model.tasks import Image, Task, Trace

Change = tuple[bytes, bytes | None, bytes | None]
"""A name, what it was set to before, and after; None: not set."""


def environment_changes(trace: Trace, task: Task, index: int) -> list[Change] | None:
    """What the ``index``-th exec of a task changed against the program before it: its own last one, or that which its
    creator ran when it made the task. By name. None where one of the two was not recorded.

    That a process changes its own environment without an exec is not seen: it is in what its next exec hands on.
    """
    after = task.images[index].envp
    before = task.images[index - 1] if index else _of_creator(trace, task)
    if after is None or before is None or before.envp is None:
        return None
    old, new = _variables(before.envp), _variables(after)
    names = sorted(old.keys() | new.keys())
    return [(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def _of_creator(trace: Trace, task: Task) -> Image | None:
    # Through those that executed nothing: a shell's subshell has the environment of the shell.
    above = task
    while above.creator is not None:
        created, above = above.created, trace.tasks[above.creator]
        ran = [image for image in above.images if created is None or image.t is None or image.t <= created]
        if ran:
            return ran[-1]
    return None


def _variables(envp: tuple[bytes, ...]) -> dict[bytes, bytes]:
    # The first of several with one name is what getenv(3) finds.
    found: dict[bytes, bytes] = {}
    for entry in envp:
        name, _, value = entry.partition(b"=")
        found.setdefault(name, value)
    return found
