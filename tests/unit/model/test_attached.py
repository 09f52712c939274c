"""What attached tasks share already, as their begin records tell."""

from __future__ import annotations

import pytest

from forklore.abi.units import TaskId
from forklore.events import records as ev
from forklore.events.check import Checker, InconsistentError
from forklore.model.sharing import Sharing


def test_groups_of_attached_tasks() -> None:
    sharing = Sharing()
    one, two, three = TaskId(1), TaskId(2), TaskId(3)
    sharing.began(one, None, None, {"mm": 1, "files": 1})
    sharing.began(two, None, None, {"mm": 1, "files": 2})
    sharing.began(three, None, None, None)
    assert set(sharing.holdings.partners(one)["mm"]) == {two}
    assert set(sharing.holdings.partners(two)["mm"]) == {one}
    assert not sharing.holdings.partners(one)["files"]
    assert not sharing.holdings.partners(three)["mm"]
    known = {name: [hold.how for hold in sharing.holdings.holds(two)[name]] for name in ("mm", "files", "fs")}
    assert known == {"mm": ["kcmp"], "files": ["kcmp"], "fs": ["rule"]}


def test_together_names_tasks_that_there_are() -> None:
    checker = Checker()
    checker(ev.Begin(t=0, task=1, tid=100, tgid=100, how="attached", together={"mm": 1}))
    with pytest.raises(InconsistentError):
        checker(ev.Begin(t=0, task=2, tid=101, tgid=100, how="attached", together={"mm": 7}))
