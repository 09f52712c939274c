"""Who holds an object together with whom, against a table that says of each member which object it holds."""

from __future__ import annotations

from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from forklore.decode.holders import Holders

MEMBERS = st.integers(0, 5)
WHATS = st.sampled_from(("mm", "files", "fs"))


class AgainstATable(RuleBasedStateMachine):
    """The table has an object's number for each member and kind; whoever has one number holds one object."""

    def __init__(self) -> None:
        super().__init__()
        self.holders: Holders[str, int] = Holders()
        self.table: dict[tuple[int, str], int] = {}
        self.new = count()

    def object_of(self, member: int, what: str) -> int:
        return self.table.setdefault((member, what), next(self.new))

    @rule(member=MEMBERS, other=MEMBERS, whats=st.sets(WHATS))
    def join(self, member: int, other: int, whats: set[str]) -> None:
        self.holders.join(member, other, sorted(whats))
        for what in whats:
            self.table[member, what] = self.object_of(other, what)

    @rule(member=MEMBERS, what=WHATS, others=st.sets(MEMBERS))
    def enter(self, member: int, what: str, others: set[int]) -> None:
        holders: set[int] = set()
        number = next(self.new)
        for each in (member, *others):
            self.holders.enter(each, what, holders)
            self.table[each, what] = number
        assert holders == {member, *others}

    @rule(member=MEMBERS, what=WHATS)
    def leave(self, member: int, what: str) -> None:
        self.holders.leave(member, what)
        self.table.pop((member, what), None)

    @rule(member=MEMBERS)
    def end(self, member: int) -> None:
        self.holders.end(member)
        for what in ("mm", "files", "fs"):
            self.table.pop((member, what), None)
        assert not self.holders.of(member)

    @invariant()
    def they_agree(self) -> None:
        for member in range(6):
            for what in ("mm", "files", "fs"):
                mine = self.table.get((member, what))
                same = {one for (one, kind), number in self.table.items() if kind == what and number == mine}
                assert self.holders.others(member, what) == same - {member}
                if same - {member}:
                    assert self.holders.of(member)[what] == same


TestAgainstATable = AgainstATable.TestCase
TestAgainstATable.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_set_stays_current_for_who_keeps_it() -> None:
    holders: Holders[str, str] = Holders()
    holders.join("child", "creator", ["files"])
    kept = holders.of("creator")["files"]
    holders.join("second", "child", ["files"])
    holders.end("creator")
    assert kept == {"child", "second"}
    holders.leave("child", "files")
    assert kept == {"second"}


def test_nothing_is_kept_of_who_ended() -> None:
    holders: Holders[str, int] = Holders()
    for number in range(1, 1000):
        holders.join(number, 0, ["mm"])
        holders.end(number)
    assert holders.of(0)["mm"] == {0}
    assert not any(holders.of(number) for number in range(1, 1000))
