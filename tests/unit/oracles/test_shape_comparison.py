"""Trees of different runs: what counts as the same shape, and what as a difference."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.shape import Runs, differences, shape, variable
from oracles.tree import Exec, Failure, Task, Tree


def tree(*children: Task, failures: tuple[Failure, ...] = ()) -> Tree:
    root = Task(1, 100, None, False, None, None, None, [Exec("/bin/sh")], "exit 0")
    return Tree([root, *children], list(failures))


def child(id: int, path: str | None = "/bin/ls", end: str = "exit 0", creator: int = 1) -> Task:
    return Task(id, 100 + id, creator, False, "vfork", 0x4100, 17, [Exec(path)] if path else [], end)


def runs(who: str, *trees: Tree) -> Runs:
    found = Runs(who)
    for one in trees:
        found.add(one)
    return found


def test_a_line_tells_the_programs_above_the_creation_what_ran_and_how_it_ended() -> None:
    grandchild = Task(3, 103, 2, True, "clone3", 0x10F00, 0, [], "exit 0")
    assert shape(tree(child(2), grandchild)) == Counter(
        {
            "root: root, ran sh, exit 0": 1,
            "sh: process by vfork(VM|VFORK, exit signal 17), ran ls, exit 0": 1,
            "sh > ls: thread by clone3(VM|FS|FILES|SIGHAND|THREAD), exit 0": 1,
        }
    )


def test_order_and_pids_do_not_matter() -> None:
    one = tree(child(2, "/bin/ls"), child(3, "/bin/cat"))
    other = tree(child(2, "/bin/cat"), child(3, "/bin/ls"))
    assert shape(one) == shape(other)


def test_how_it_ended_matters() -> None:
    found = differences(
        runs("forklore", tree(child(2))), runs("strace", tree(child(2, end="killed by SIGKILL")))
    )
    assert len(found) == 2
    assert "exit 0: 1 in forklore, 0 in strace" in found[0]
    assert "killed by SIGKILL: 0 in forklore, 1 in strace" in found[1]


def test_a_failed_creation_is_part_of_the_shape() -> None:
    failed = tree(failures=(Failure("clone3", "EINVAL", 0x10000),))
    assert differences(runs("forklore", failed), runs("strace", tree())) == [
        "failed clone3(THREAD) = EINVAL: 1 in forklore, 0 in strace"
    ]


def test_numbers_that_vary_are_a_difference_only_if_their_ranges_are_apart() -> None:
    three, four, five = (tree(*(child(n) for n in range(2, 2 + count))) for count in (3, 4, 5))
    assert differences(runs("forklore", three, five), runs("strace", four, four)) == []
    assert variable(runs("forklore", three, five), runs("strace", four, four)) == [
        "sh: process by vfork(VM|VFORK, exit signal 17), ran ls, exit 0: 3 to 5 in forklore, 4 in strace"
    ]
    assert differences(runs("forklore", three, four), runs("strace", five, five)) == [
        "sh: process by vfork(VM|VFORK, exit signal 17), ran ls, exit 0: 3 to 4 in forklore, 5 in strace"
    ]


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["/bin/ls", "/bin/cat", None]), max_size=8), st.randoms())
def test_a_shuffled_tree_has_the_same_shape_and_one_task_more_has_not(
    paths: list[str | None], random: Random
) -> None:
    shuffled = list(paths)
    random.shuffle(shuffled)
    one = runs("a", tree(*(child(n, path) for n, path in enumerate(paths, 2))))
    other = runs("b", tree(*(child(n, path) for n, path in enumerate(shuffled, 2))))
    assert differences(one, other) == []
    more = runs("c", tree(*(child(n, path) for n, path in enumerate([*paths, "/bin/ls"], 2))))
    assert len(differences(one, more)) == 1


def test_what_strace_cannot_see_of_an_untraced_task_is_left_out() -> None:
    def untraced(end: str | None, *below: Task) -> Tree:
        return tree(Task(2, 102, 1, False, "clone", 0x800000, 17, [], end), *below)

    seen = runs("forklore", untraced("exit 6", child(3, creator=2), child(4, creator=3)))
    assert differences(seen, runs("strace", untraced(None))) == []
    assert len(differences(seen, runs("strace", tree()))) == 1
