"""Events go out in their order, whatever waits to be looked up for one of them."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.events import records as ev
from forklore.sources import outbox
from forklore.sources.outbox import Outbox


def note(number: int) -> ev.Note:
    return ev.Note(t=number, what="x", why="y")


def test_what_waits_for_nothing_goes_out_at_once() -> None:
    out: list[ev.Event] = []
    Outbox(out.append)(note(1))
    assert out == [note(1)]


@given(st.lists(st.sampled_from(["event", "work", "work in work", "empty"])))
def test_the_order_is_the_one_of_telling(steps: list[str]) -> None:
    told: list[ev.Event] = []
    out = Outbox(told.append)
    expected: list[ev.Event] = []

    def work(number: int, *, inner: bool) -> None:
        out(note(number))
        if inner:
            out.later(partial(work, number, inner=False))

    for number, step in enumerate(steps):
        if step == "empty":
            out.empty()
            assert told == expected
            assert not out.waits
            continue
        expected += [note(number)] * (2 if step == "work in work" else 1)
        if step == "event":
            out(note(number))
        else:
            out.later(partial(work, number, inner=step == "work in work"))
            assert out.waits
    out.empty()
    assert told == expected


def test_while_somebody_is_held_the_other_work_is_done_that_in_work_included() -> None:
    told: list[ev.Event] = []
    out = Outbox(told.append)

    def again(number: int) -> None:
        out.later(lambda: out(note(number)), held=lambda: out(note(-number)))

    for held in (True, False):
        out.later(lambda: out(note(1)), held=lambda: out(note(-1)))
        out.later(lambda: out(note(2)))
        out.later(lambda: again(3))
        out.empty(held=held)
    assert told == [note(each) for each in (-1, 2, -3, 1, 2, 3)]


def test_work_that_fails_leaves_nothing_behind() -> None:
    told: list[ev.Event] = []
    out = Outbox(told.append)

    def fails() -> None:
        raise OSError(28, "No space left on device")

    out.later(fails)
    with pytest.raises(OSError, match="No space"):
        out.empty()
    out(note(1))
    assert told == [note(1)]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MOST", 3)
    out = Outbox(lambda _event: None)
    out.later(lambda: None)
    for number in range(2):
        out(note(number))
    assert not out.full
    out(note(3))
    assert out.full
