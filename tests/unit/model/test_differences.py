"""What people change between runs: arguments, environments, times; and what is no difference."""

from __future__ import annotations

from typing import Any

from happenings import MS, Story, stories
from hypothesis import HealthCheck, given, settings

from forklore.events import records as ev
from forklore.model.differences import Differences, RunFacts, TimeChanged, differences, facts
from forklore.model.environment import Changed, environments
from forklore.model.matched import Words
from forklore.report.run_changes import data, differs, lines


def build(level: str = "-O2", files: tuple[str, ...] = ("a.c", "b.c"), *, pause: int = 0, **more: Any) -> Story:
    """make, which runs cc for each file."""
    story = Story()
    root = story.begin(100)
    story.exec(root, "/usr/bin/make", argv=["make"], **more)
    for index, name in enumerate(files):
        child = story.clone(root, 101 + index)
        story.exec(child, "/usr/bin/cc", argv=["cc", level, "-c", name, "-o", f"/tmp/cc{index}{pause}.o"], **more)
        for _ in range(pause):
            story.tell(ev.Note(t=story.t, what="x", why="y"))
        story.exit(child)
    story.exit(root)
    return story.end()


def told(story: Story) -> RunFacts:
    return facts(story.trace())


def between(old: Story, new: Story) -> Differences:
    return differences([told(old)], [told(new)])


def said(found: Differences) -> list[tuple[bytes, Words, Words, int]]:
    return [(each.program, each.before, each.now, each.count) for each in found.arguments]


def test_another_argument_is_told_once_for_all() -> None:
    found = between(build(), build("-O0"))
    assert said(found) == [(b"cc", (b"-O2",), (b"-O0",), 2)]
    assert list(lines(found, ())) == ["cc (2 runs): -O2 became -O0"]
    assert differs(found, ())


def test_siblings_are_matched_by_most_of_their_words() -> None:
    found = between(build(files=("a.c", "b.c")), build("-O0", files=("b.c", "a.c")))
    assert said(found) == [(b"cc", (b"-O2",), (b"-O0",), 2)]


def test_another_order_other_names_in_tmp_and_one_more_are_no_other_arguments() -> None:
    assert between(build(files=("a.c", "b.c")), build(files=("b.c", "a.c", "c.c"), pause=1)).arguments == ()


def test_what_differs_within_a_side_is_no_difference() -> None:
    runs = [told(build(level)) for level in ("-O2", "-O0")]
    assert differences(runs, [runs[1], runs[0]]).arguments == ()


def test_a_variable_of_another_value() -> None:
    old, new = (build(envp=["A=1", f"FLAGS={value}", "B"]) for value in ("-O2", "-O0"))
    found = between(old, new)
    assert {each.variable for each in found.environments} == {Changed(b"FLAGS", b"-O2", b"-O0")}
    assert list(lines(found, ())) == ["environment of make and cc: FLAGS was '-O2', is '-O0'"]
    assert between(old, build()).not_compared == ("environments (--env)",)


def test_one_run_a_side_tells_times_but_ends_with_0() -> None:
    found = between(build(), build(pause=50))
    (whole, *_) = found.times
    assert (whole.program, whole.what, len(whole.before), whole.sure) == (None, "wall", 1, False)
    assert not differs(found, ())
    assert "how much they vary is not known" in list(lines(found, ()))[-1]


def test_runs_that_lie_apart_are_a_difference_and_those_that_do_not_are_none() -> None:
    fast = [told(build(pause=pause)) for pause in (1, 3, 5)]
    slow = [told(build(pause=pause)) for pause in (60, 70, 80)]
    found = differences(fast, slow)
    assert all(each.sure for each in found.times)
    (whole,) = [each for each in found.times if each.program is None]
    assert whole.before == tuple(sorted(each.whole_wall or 0 for each in fast))
    assert differs(found, ())
    assert "3 runs)" in next(iter(lines(found, ())))
    assert differences([*fast, slow[1]], slow).times == ()


def test_a_little_longer_is_no_difference() -> None:
    assert between(build(pause=200), build(pause=203)).times == ()
    assert TimeChanged(None, "wall", (MS,), (2 * MS,)).sure is False


def test_the_environment_is_set_against_the_program_before() -> None:
    story = Story()
    root = story.begin(100)
    story.exec(root, "/bin/sh", envp=["A=1", "B=2"])
    child = story.clone(root, 101)
    story.exec(child, "/bin/x", envp=["A=1", "C=3", "A=9"])
    story.exec(child, "/bin/y", envp=["A=1", "C=3", "A=9"])
    first, second, third = environments(story.trace())
    assert (first.before, first.changed, first.entries) == (None, (), 2)
    assert second.changed == (Changed(b"B", b"2", None), Changed(b"C", None, b"3"))
    assert (third.before, third.changed) == (second.image, ())


@given(stories(15), stories(15))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_two_traces(old: Story, new: Story) -> None:
    found = between(old, new)
    assert all(line.isprintable() for line in lines(found, ()))
    assert data(found, ())["runs"] == [1, 1]
    same = between(old, old)
    assert not differs(same, ())
    assert not any((same.arguments, same.environments, same.times))
