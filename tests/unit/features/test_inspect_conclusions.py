"""What is said of running tasks, from what was read of them and a comparison of any two."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from forklore.abi.resources import OBJECTS
from forklore.abi.units import NsInode, Pid, Tid, Unavailable
from forklore.features.inspect.inspection import (
    Apart,
    Between,
    Dropped,
    Elsewhere,
    InspectedThread,
    Inspection,
    Pending,
    compare_all,
    concluded,
    partners,
)
from forklore.features.inspect.text import lines, to_data, to_json
from forklore.report.styled_lines import plain, width_of

SPACES = ("mnt", "uts", "ipc", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "cgroup")
CONTROL = Tid(1 << 22)
DENIED = Unavailable(1, "EPERM: it runs as another user")
NOT_YET = Unavailable(2, "ENOENT: a new pid namespace that has no process yet")
Held = dict[str, int]


def task(
    tid: int, pid: int | None = None, *, ppid: int = 1, name: bytes = b"sh", **spaces: int | Unavailable
) -> InspectedThread:
    inodes: dict[str, NsInode | Unavailable] = {each: NsInode(1) for each in SPACES}
    for each, value in spaces.items():
        inodes[each] = value if isinstance(value, Unavailable) else NsInode(value)
    return InspectedThread(
        tid=Tid(tid),
        pid=Pid(tid if pid is None else pid),
        ppid=Pid(ppid),
        name=name,
        uid=0,
        state="S",
        marks="",
        start=100,
        ns_tids=(tid,),
        exit_signal=17,
        made_by=None,
        in_vfork=False,
        namespaces=inodes,
        cgroups=((0, b"", b"/user.slice"),),
    )


def looked(
    tasks: Sequence[InspectedThread], held: Mapping[int, Held], shut: Sequence[int] = (), **more: Any
) -> Inspection:
    """Objects by number: 0 for none. A task has objects of its own where ``held`` does not say otherwise."""

    def at(name: str, tid: Tid) -> int:
        return 0 if tid == CONTROL else held.get(tid, {}).get(name, 1000 + tid)

    def compare(name: str, a: Tid, b: Tid) -> int | Unavailable:
        if {a, b} & set(shut):
            return DENIED
        return (at(name, a) < at(name, b)) + 2 * (at(name, a) > at(name, b))

    asked = more.pop("asked", [each.pid for each in tasks])
    return concluded(tasks, asked, compare_all(tasks, compare, CONTROL), **more)


def text(inspection: Inspection, width: int = 80, *, each: bool = False) -> str:
    return "\n".join(plain(line).rstrip() for line in lines(inspection, width, each=each))


SHARED = dict.fromkeys(OBJECTS, 5)
THREAD = {**SHARED, "io": 0}


def test_a_thread_shares_and_a_fork_child_does_not() -> None:
    found = looked([task(10), task(11, 10), task(12, ppid=10)], {10: THREAD, 11: THREAD, 12: {"sysvsem": 0, "io": 0}})
    assert found.objects["mm"].letters() == {10: "A", 11: "A", 12: "B"}
    assert found.objects["sysvsem"].letters() == {10: "A", 11: "A"}
    assert found.objects["sysvsem"].unset == (12,)
    assert found.objects["io"].unset == (10, 11, 12)
    assert (found.between, found.apart, found.pending) == ((), (), ())


def test_a_process_that_shares_but_is_no_thread() -> None:
    both = {"files": 5, "fs": 7}
    found = looked([task(10), task(12), task(13)], {10: both, 12: both, 13: {"fs": 7}})
    assert found.between == (
        Between((Pid(10), Pid(12)), ("files",), None),
        Between((Pid(10), Pid(12), Pid(13)), ("fs",), None),
    )
    assert "10 (sh) and 12 (sh) share files, though they are different processes" in text(found)
    assert "CLONE_FILES without CLONE_THREAD" in " ".join(text(found).split())


def test_two_that_have_none_share_nothing() -> None:
    found = looked([task(10), task(12)], {10: {"sysvsem": 0, "io": 0}, 12: {"sysvsem": 0, "io": 0}})
    assert found.between == ()


def test_a_vfork_child_and_the_thread_that_it_holds() -> None:
    holder = replace(task(11, 10), in_vfork=True)
    found = looked([task(10), holder, task(12, ppid=10)], {10: SHARED, 11: SHARED, 12: {"mm": 5}})
    assert found.between == (Between((Pid(10), Pid(12)), ("mm",), Tid(11)),)
    assert "thread 11 is held in vfork" in " ".join(text(found).split())
    unrelated = looked([task(10), holder, task(12, ppid=1)], {10: SHARED, 11: SHARED, 12: {"mm": 5}})
    assert unrelated.between[0].holder is None


def test_a_thread_with_files_and_namespaces_of_its_own() -> None:
    found = looked([task(10), task(11, 10, net=2)], {10: THREAD, 11: {**THREAD, "files": 6}})
    assert found.apart == (Apart(Tid(11), Pid(10), ("files",), ("net",)),)
    assert "does not share the process's files or net namespace" in " ".join(text(found).split())


def test_an_io_context_of_its_own_is_what_every_thread_has() -> None:
    found = looked([task(10), task(11, 10)], {10: {**THREAD, "io": 8}, 11: {**THREAD, "io": 9}})
    assert found.apart == ()


@pytest.mark.parametrize(
    ("spaces", "namespace"),
    [({"pid_for_children": 2}, "pid"), ({"pid_for_children": NOT_YET}, "pid"), ({"time_for_children": 2}, "time")],
)
def test_a_namespace_that_only_children_enter(spaces: dict[str, Any], namespace: str) -> None:
    found = looked([task(10, **spaces)], {})
    assert [(each.tid, each.namespace) for each in found.pending] == [(10, namespace)]
    assert isinstance(found.pending[0], Pending)


def test_what_may_not_be_looked_into_is_unknown_with_its_reason() -> None:
    found = looked([task(10), task(12)], {10: SHARED, 12: SHARED}, shut=[12])
    assert all(found.objects[name].unknown == {12: DENIED} for name in OBJECTS)
    assert found.between == ()
    said = " ".join(text(found).split())
    assert "mm, files, fs, sighand, sysvsem and io of task 12 (sh): unknown (EPERM: it runs as another user)" in said
    (process,) = [each for each in to_data(found)["processes"] if each["pid"] == 12]
    assert process["tasks"][0]["mm"] == {"unavailable": DENIED.why, "errno": 1, "errno_name": "EPERM"}


def test_one_refusal_closes_a_task_for_all_objects() -> None:
    """The kernel's access check does not ask what is compared: no use in asking six times."""
    asked: list[str] = []

    def compare(name: str, _a: Tid, _b: Tid) -> Unavailable:
        asked.append(name)
        return DENIED

    compare_all([task(10)], compare, None)
    assert asked == ["mm"]


def test_a_zombie_is_never_compared() -> None:
    def compare(_name: str, a: Tid, b: Tid) -> int:
        assert 12 not in (a, b)
        return 0

    ended = replace(task(12), state="Z")
    found = compare_all([task(10), ended], compare, None)
    assert all(list(grouping.unknown) == [12] for grouping in found.values())


def test_a_leader_that_ended_before_its_threads_is_not_their_measure() -> None:
    found = looked([replace(task(10), state="Z"), task(11, 10), task(12, 10)], {11: THREAD, 12: THREAD})
    assert found.apart == ()
    assert "sh (ended)" in text(found)


def test_what_changed_meanwhile_is_left_out_everywhere() -> None:
    found = looked(
        [task(10), task(12), task(13)],
        {10: {"mm": 5}, 12: {"mm": 6}, 13: {"mm": 5}},
        dropped=[Dropped(Tid(10), "it ended while it was inspected")],
    )
    assert [each.tid for each in found.tasks] == [12, 13]
    assert found.objects["mm"].letters() == {12: "A", 13: "B"}
    assert found.between == ()
    assert "Left out\n  10: it ended while it was inspected" in text(found)


def test_partners_are_those_who_share_with_who_was_asked_for() -> None:
    tasks = [task(10), task(12), task(13), task(14)]
    found = looked(tasks, {10: {"mm": 5}, 12: {"files": 7}, 13: {"mm": 5}, 14: {"files": 7}})
    assert partners([Tid(10)], found.objects) == [13]


def test_equal_processes_and_threads_take_one_line() -> None:
    threads = [task(tid, 10) for tid in range(11, 1111)]
    tasks = [task(10), *threads, *(task(tid, name=b"cc1") for tid in range(2000, 2211))]
    held: dict[int, Held] = {each.tid: THREAD if each.pid == 10 else {"sysvsem": 0, "io": 0} for each in tasks}
    found = looked(tasks, held)
    rows = text(found).splitlines()
    assert len(rows) < 20, rows
    assert any("sh +1,100 threads" in row for row in rows)
    assert any("211 × cc1" in row for row in rows)
    assert len(text(found, each=True).splitlines()) > len(tasks)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_told(width: int) -> None:
    tasks = [task(4000000 + i, name=b"\xff\x1b[31m\xe5\xad\x97" * 3, net=i) for i in range(40)]
    found = looked(tasks, {each.tid: {"files": 5} for each in tasks}, shut=[4000001], elsewhere=Elsewhere(5, 6, 7))
    for line in lines(found, width):
        assert sum(width_of(piece.text) for piece in line) <= width
        assert plain(line).isprintable()


cells = st.fixed_dictionaries({name: st.integers(0, 3) for name in OBJECTS})


@given(st.lists(st.tuples(st.integers(0, 4), cells, st.integers(1, 3), st.booleans()), min_size=1, max_size=12))
def test_any_population_is_shown_and_told_whole(population: list[tuple[int, Held, int, bool]]) -> None:
    """Whatever tasks share or hide: nothing is said of what is unknown, and JSON and table know every task."""
    tasks: list[InspectedThread] = []
    for index, (process, _, net, _) in enumerate(population):
        leader = next((each.tid for each in tasks if each.name == b"p%d" % process), None)
        tasks.append(task(100 + index, leader, name=b"p%d" % process, net=net))
    tasks.sort(key=lambda each: (each.pid, each.tid))
    held = {100 + i: {k: v + 1 if k in ("mm", "files", "fs", "sighand") else v for k, v in row[1].items()}
            for i, row in enumerate(population)}  # fmt: skip
    shut = [100 + i for i, row in enumerate(population) if row[3]]
    found = looked(tasks, held, shut)
    assert text(found)
    data = json.loads(to_json(found))
    told = [each for process in data["processes"] for each in process["tasks"]]
    assert sorted(each["tid"] for each in told) == [each.tid for each in sorted(tasks, key=lambda t: t.tid)]
    for each in told:
        for name in OBJECTS:
            if each["tid"] in shut:
                assert each[name]["errno_name"] == "EPERM"
            elif held[each["tid"]][name] == 0:
                assert each[name] is None
            else:
                assert isinstance(each[name], str)
    for one in told:
        for other in told:
            if one["tid"] not in shut and other["tid"] not in shut:
                for name in OBJECTS:
                    assert (one[name] == other[name]) == (held[one["tid"]][name] == held[other["tid"]][name])


def test_states_are_told_in_words() -> None:
    found = text(looked([task(10), replace(task(11), state="Z"), replace(task(12), state="T")], {}))
    assert "S  task 10 (sh): asleep until an event or a signal" in found
    assert "Z  task 11 (sh): a zombie: it ended, and its parent has not waited for it" in found
    assert "T  task 12 (sh): stopped by a signal of job control" in found
