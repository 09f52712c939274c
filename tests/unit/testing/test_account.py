"""What belongs to which test, and what it comes to."""

from __future__ import annotations

from happenings import MS, Story

from forklore.events import records as ev
from forklore.testing.account import Account, Accounts, Made, from_json, to_json


def told(story: Story, given: ev.Descriptors | None = None) -> Accounts:
    accounts = Accounts(story.header, given)
    for event in story.events:
        accounts.feed(event)
    return accounts


def attached() -> tuple[Story, int]:
    story = Story()
    return story, story.begin(100, how="attached", comm="pytest")


def account(accounts: Accounts, since: int, until: int, but: list[tuple[int, int]] | None = None) -> Account:
    return accounts.account(accounts.tasks((since * MS, until * MS), but or []), lambda _tid: False)


def test_tests_are_told_apart_by_when_they_made_what() -> None:
    story, pytest = attached()
    first = story.clone(pytest, 101)  # at 1 ms
    story.exec(first, "/bin/true", argv=["true"])
    story.exit(first)
    second = story.thread(pytest, 102)  # at 4 ms
    story.exit(second)
    accounts = told(story)
    one, two = account(accounts, 0, 3), account(accounts, 3, 9)
    assert [made.text() for made in one.processes] == ["101 true"]
    assert (one.threads, one.left, one.at_once, one.processes[0].end) == ([], [], 1, "exit 0")
    assert [made.pid for made in two.threads] == [102]
    assert two.at_once is None
    assert account(accounts, 20, 30).is_empty()


def test_what_a_leftover_makes_belongs_to_the_test_that_left_it() -> None:
    story, pytest = attached()
    left = story.clone(pytest, 101)  # at 1 ms
    worker = story.thread(pytest, 102)
    story._t += 20 * MS
    story.clone(left, 103)
    story.clone(worker, 104)
    accounts = told(story)
    assert [made.pid for made in account(accounts, 0, 10).left] == [101, 102, 103, 104]
    assert account(accounts, 10, 90).is_empty()


def test_what_a_fixture_of_several_tests_makes_is_left_out() -> None:
    story, pytest = attached()
    story.clone(pytest, 101)  # at 1 ms
    story.clone(pytest, 102)
    accounts = told(story)
    assert [made.pid for made in account(accounts, 0, 9, [(0, 2 * MS)]).processes] == [102]
    marker = accounts.by_tid(102)
    assert marker is not None
    assert accounts.tasks((0, 9 * MS), (), frozenset({marker.id})) == accounts.tasks((0, 2 * MS))


def test_zombies_are_asked_for() -> None:
    story, pytest = attached()
    story.exit(story.clone(pytest, 101))
    story.exit(story.clone(pytest, 102))
    accounts = told(story)
    found = accounts.account(accounts.tasks((0, 99 * MS)), lambda tid: tid == 102)
    assert [made.pid for made in found.zombies] == [102]


def test_findings_are_those_of_the_test_alone() -> None:
    story, pytest = attached()
    story.thread(pytest, 90)  # at 1 ms: of another test, or of a plugin
    story._t += 10 * MS
    story.exit(story.clone(pytest, 101))  # at 12 ms
    story._t += 10 * MS
    worker = story.thread(pytest, 102)  # at 24 ms
    story.exit(story.clone(pytest, 103))
    story.exit(worker)
    accounts = told(story)
    assert account(accounts, 5, 20).findings == []
    assert [found.rule for found in account(accounts, 20, 90).findings] == ["fork-with-threads"]


def test_what_pytest_was_started_with_is_no_leak() -> None:
    def held(fd: int, **more: object) -> ev.Held:
        return ev.Held(fd=fd, kind="socket", target=f"socket:[{fd}]", flags=2, inode=fd, **more)  # type: ignore[arg-type]

    story, pytest = attached()
    child = story.clone(pytest, 101)
    story.exec(child, "/bin/cat")
    table = [held(fd, same=0, creators_cloexec=False) for fd in (9, 10)]
    story.tell(ev.Descriptors(t=story.t, task=child, table=table, creator=pytest))
    story.exit(child)
    (leak,) = account(told(story, ev.Descriptors(t=0, task=1, table=[held(9)])), 0, 90).findings
    assert leak.text.startswith("socket:[10] at 10, open in 100 pytest"), leak.text


def test_an_account_is_handed_on_as_text() -> None:
    made = Account(processes=[Made(7, "process", "sh")], at_once=1, leaked=["3 /x"])
    assert from_json(to_json(made)) == made
