"""What is said of zombies, where and when."""

from __future__ import annotations

import pytest
from happenings import MS, Story, task

from forklore.events import records as ev
from forklore.report.words.reaping import NOTED, reaped_words, stood_long, zombie_words

S = 1_000 * MS


def told(how: ev.ReapHow, since: int, t: int | None, ended: int = 0) -> tuple[str, str, str]:
    """On a card, in the tree, and there with ``-v``."""
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101)
    story.tell(ev.Exit(t=ended, task=child, status=0))
    story.tell(ev.Reap(t=t, task=child, how=how, since=since, parent_tid=100, parent=root))
    found = task(story.trace(), child)
    return reaped_words(found, found.reaped[0]), *(zombie_words([found], verbose=v) for v in (False, True))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("how", "since", "t", "card", "tree", "verbose"),
    [
        ("waited", 0, MS, "100 waited for it: a zombie for at most 1.0 ms", "", ""),
        (
            "waited", 20 * MS, 30 * MS, "100 waited for it: a zombie for 20 ms to 30 ms",
            "", "a zombie for 20 ms to 30 ms",
        ),
        (
            "waited", 2 * S, 3 * S, "100 waited for it: a zombie for 2.0 s to 3.0 s",
            *["a zombie for 2.0 s to 3.0 s"] * 2,
        ),
        ("ignored", 0, 0, "no zombie: 100 ignores SIGCHLD", "", ""),
        ("at once", 0, 0, "100 was waiting for it, or has SA_NOCLDWAIT: its zombie was gone at once", "", ""),
        (
            "left", S, 2 * S, "100 never waited for it, and ended: a zombie for 2.0 s",
            *["never waited for, a zombie for 2.0 s"] * 2,
        ),
        ("left", 0, MS, "100 never waited for it, and ended: a zombie for 1.0 ms", *["never waited for"] * 2),
        (
            "stands", S, S, "100 has not waited for it as the trace ends: a zombie for 1.0 s",
            *["still a zombie for 1.0 s as the trace ends"] * 2,
        ),
        ("unknown", 0, S, "100 waited for it, or a reaper did when 100 had ended: which of them is not known", "", ""),
    ],
)  # fmt: skip
def test_each(how: ev.ReapHow, since: int, t: int, card: str, tree: str, verbose: str) -> None:
    assert told(how, since, t) == (card, tree, verbose)


def test_several_that_look_the_same() -> None:
    story = Story()
    root = story.begin(100)
    children = [story.clone(root, 101 + n) for n in range(3)]
    for n, child in enumerate(children):
        story.tell(ev.Exit(t=0, task=child, status=0))
        story.tell(ev.Reap(t=(n + 1) * S, task=child, how="left", since=0, parent_tid=100, parent=root))
    found = [task(story.trace(), child) for child in children]
    assert all(stood_long(each, NOTED) for each in found)
    assert zombie_words(found, verbose=False) == "never waited for, zombies for 1.0 s to 3.0 s"


def test_where_there_are_no_times() -> None:
    assert told("left", 0, None)[0] == "100 never waited for it, and ended"
