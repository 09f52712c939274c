"""Which task of one trace is which of another."""

from __future__ import annotations

from happenings import Story, stories
from hypothesis import HealthCheck, given, settings

from forklore.model.matched import alike, matched


def build(
    level: str = "-O2", files: tuple[str, ...] = ("a.c", "b.c"), *, program: str = "make", deeper: str = ""
) -> Story:
    """A program that runs cc for each file, or has another one run them."""
    story = Story()
    maker = story.begin(100)
    story.exec(maker, f"/usr/bin/{program}", argv=[program])
    if deeper:
        maker = story.clone(maker, 200)
        story.exec(maker, f"/bin/{deeper}", argv=[deeper, "-c", "x"])
    for index, name in enumerate(files):
        child = story.clone(maker, 101 + index)
        story.exec(child, "/usr/bin/cc", argv=["cc", level, "-c", name, "-o", f"/tmp/cc{index}{level}.o"])
        story.exit(child)
    return story.end()


def between(old: Story, new: Story) -> dict[int, int]:
    return {int(task): int(other) for task, other in matched(old.trace(), new.trace()).items()}


def test_siblings_are_told_apart_by_their_arguments() -> None:
    assert between(build(), build("-O0", ("b.c", "a.c"))) == {1: 1, 2: 3, 3: 2}


def test_what_is_the_same_goes_before_what_is_alike() -> None:
    # b.c is there as it was; a.c has no other one left than c.c.
    assert between(build(), build(files=("c.c", "b.c"))) == {1: 1, 2: 2, 3: 3}


def test_one_more_and_one_less() -> None:
    assert between(build(), build(files=("a.c", "x.c", "b.c"))) == {1: 1, 2: 2, 3: 4}
    assert between(build(files=("a.c", "x.c", "b.c")), build()) == {1: 1, 2: 2, 4: 3}


def test_the_first_programs_are_each_others_whatever_they_are() -> None:
    assert between(build(), build(program="ninja")) == {1: 1, 2: 2, 3: 3}


def test_what_moved_below_another_creator_is_found_there() -> None:
    assert between(build(), build(deeper="sh")) == {1: 1, 2: 3, 3: 4}


def test_a_thread_is_no_process_and_another_program_another_task() -> None:
    old, new = Story(), Story()
    for story, program in ((old, "/bin/a"), (new, "/bin/b")):
        root = story.begin(100)
        story.exec(story.clone(root, 101), program)
    old.thread(1, 102)
    new.clone(1, 102)
    assert between(old.end(), new.end()) == {1: 1}


def test_many_siblings_are_matched_in_their_order() -> None:
    left, come = [(b"x",)] * 600, [(b"y",)] * 700
    assert list(alike(left, come)) == [(place, place) for place in range(600)]


@given(stories(), stories())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_task_is_two_others_and_each_is_of_its_kind(old: Story, new: Story) -> None:
    first, second = old.trace(), new.trace()
    found = matched(first, second)
    assert len(set(found.values())) == len(found)
    lone = len(first.roots) == len(second.roots) == 1
    for task, other in found.items():
        assert (lone and first.tasks[task] in first.roots) or first.tasks[task].kind == second.tasks[other].kind
    again = matched(first, first)
    assert again == {task: task for task in first.tasks}
