"""A tree against the kernel's tasks of the same run: agreement in numbers, every difference in words."""

from __future__ import annotations

from typing import Any

import pytest
from oracles.errors import OracleError
from oracles.exact import Verdict, compare
from oracles.kernel import KernelTask
from oracles.tree import Exec, Tree, flag_names, kernel_flags, load

PTHREAD = 0x3D0F00


def record(id: int, tid: int, creator: int | None, **more: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "id": id, "tid": tid, "tgid": tid, "kind": "process", "comm": "sh", "creator": creator,
        "creation": None if creator is None else {"call": "clone", "flags_raw": 0x1200011, "exit_signal": 17},
        "execs": [], "exit": {"code": 0},
    }  # fmt: skip
    return {**base, **more}


def document(*more: dict[str, Any], failures: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    root = record(1, 100, None, execs=[{"path": "/bin/sh", "argv": ["sh"]}])
    return {"format": {}, "header": {}, "tasks": [root, *more], "failures": failures or []}


def kernel() -> tuple[KernelTask, KernelTask]:
    tracer = KernelTask(99, None, None, 0)
    root = KernelTask(100, tracer, 0x1200000, 1, True, [Exec("/bin/sh")], 1)
    return root, KernelTask(101, root, 0x1200000, 2, True, [], 1)


def check(tree: dict[str, Any], *tasks: KernelTask) -> Verdict:
    return compare("forklore", load(tree), tasks)


def test_agreement_counts_what_was_compared() -> None:
    verdict = check(document(record(2, 101, 1)), *kernel())
    assert (verdict.agree, verdict.tasks, verdict.execs, verdict.exits) == (True, 2, 1, 2)
    assert verdict.notes == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tid": 102}, ["task 101: the kernel saw task 100 make it", "task 102: forklore has it"]),
        ({"creator": 2}, ["its creator is task 100 for the kernel, task 101 for forklore"]),
        ({"kind": "thread"}, ["it is a process for the kernel, a thread for forklore"]),
        ({"creation": {"call": "vfork"}}, ["with VM|VFORK for forklore"]),
        ({"creation": {"call": "clone", "flags_raw": 0x1200111}}, ["they differ in VM"]),
        ({"creation": {"call": "clone"}}, ["does not know the flags"]),
        ({"execs": [{"path": "/bin/ls"}]}, ["saw it exec nothing, forklore '/bin/ls'"]),
        ({"exit": None}, ["the kernel saw it exit, forklore did not"]),
    ],
)
def test_a_difference_is_told_in_words(change: dict[str, Any], said: list[str]) -> None:
    verdict = check(document(record(2, 101, 1) | change), *kernel())
    assert len(verdict.differences) == len(said)
    for text in said:
        assert any(text in difference for difference in verdict.differences), verdict.differences


def test_an_unreadable_path_is_a_difference() -> None:
    root, child = kernel()
    child.execs.append(Exec("/bin/ls"))
    absent = {"kind": "absent", "errno": 14, "why": "bad address"}
    verdict = check(document(record(2, 101, 1, execs=[{"path": absent}])), root, child)
    assert verdict.differences == [
        "task 101: the kernel saw it exec '/bin/ls', forklore a path that it could not read"
    ]


def test_bytes_that_are_no_text_compare_as_bytes() -> None:
    root, child = kernel()
    child.execs.append(Exec("/\udcff"))
    assert check(
        document(record(2, 101, 1, execs=[{"path": {"kind": "opaque", "hex": "2fff"}}])), root, child
    ).agree


@pytest.mark.parametrize(("given", "agree"), [("", True), ("bin/ls", True), ("/bin/ls", False)])
def test_execveat_is_named_by_its_descriptor(given: str, agree: bool) -> None:
    root, child = kernel()
    child.execs.append(Exec("/dev/fd/3/bin/ls" if given else "/dev/fd/3"))
    assert check(document(record(2, 101, 1, execs=[{"path": given}])), root, child).agree is agree


def test_a_task_that_died_twice_is_a_difference() -> None:
    root, child = kernel()
    child.exits = 2
    assert check(document(record(2, 101, 1)), root, child).differences == [
        "task 101: the kernel saw it exit 2 times"
    ]


def test_lives_of_one_tid_are_matched_in_order() -> None:
    root, child = kernel()
    again = KernelTask(101, root, 0, 3, True, [], 1)
    fork = {"call": "fork"}
    agreeing = document(record(2, 101, 1), record(3, 101, 1, creation=fork))
    assert check(agreeing, root, child, again).agree
    swapped = document(record(2, 101, 1, creation=fork), record(3, 101, 1))
    differences = check(swapped, root, child, again).differences
    assert differences[0].startswith("task 101: made with")
    assert differences[1].startswith("task 101 (number 2 of that pid): made with")


def test_a_leader_superseded_by_its_threads_exec_ended() -> None:
    root, _ = kernel()
    thread = KernelTask(101, root, PTHREAD, 2, True, [Exec("/bin/true", 101)], 1)
    creation = {"call": "clone3", "flags_raw": PTHREAD}
    execs = [{"path": "/bin/true", "former_tid": 101}]
    tree = document(record(2, 100, 1, kind="thread", creation=creation, execs=execs))
    tree["tasks"][0] |= {"exit": None, "gone": "superseded"}
    assert check(tree, root, thread).differences == []
    tree["tasks"][0]["gone"] = "lost"
    assert len(check(tree, root, thread).differences) == 1


def test_the_kernels_own_workers_are_named_and_let_pass() -> None:
    root, child = kernel()
    worker = KernelTask(102, root, 0x80810F00, 3)
    verdict = check(document(record(2, 101, 1)), root, child, worker)
    assert verdict.agree
    assert verdict.notes == ["1 made by the kernel itself (io_uring or vhost workers), which no call shows"]


def test_what_a_tracer_does_not_follow_is_named_and_let_pass() -> None:
    root, child = kernel()
    child.flags = 0x800000
    grandchild = KernelTask(102, child, 0, 3, True, [], 1)
    creation = {"call": "clone", "flags_raw": 0x800011}
    verdict = check(document(record(2, 101, 1, creation=creation, exit=None)), root, child, grandchild)
    assert verdict.agree
    assert verdict.notes == ["1 made with CLONE_UNTRACED, which forklore does not follow; 1 below them"]


def test_untraced_that_was_cleared_for_the_call_is_named() -> None:
    root, child = kernel()
    child.flags = 0
    verdict = check(
        document(record(2, 101, 1, creation={"call": "clone", "flags_raw": 0x800011})), root, child
    )
    assert verdict.agree
    assert "cleared by forklore" in verdict.notes[0]


@pytest.mark.parametrize(
    ("call", "raw", "flags"),
    [
        ("fork", None, 0),
        ("fork", 17, 0),
        ("vfork", None, 0x4100),
        ("clone", 0x1200011, 0x1200000),
        ("clone", 1 << 40 | 0x91, 0),
        ("clone3", 0x100000080, 0x100000080),
        ("clone3", None, None),
    ],
)
def test_the_flags_that_the_kernel_keeps(call: str, raw: int | None, flags: int | None) -> None:
    assert kernel_flags(call, raw) == flags


def test_unknown_bits_stay_visible() -> None:
    assert flag_names(0x4100 | 1 << 50) == f"VM|VFORK|{1 << 50:#x}"


@pytest.mark.parametrize("broken", [{}, {"tasks": 3}, {"tasks": [{"id": 1}]}, {"tasks": []}, {"tasks": [7]}])
def test_another_form_of_json_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(OracleError):
        load(broken)


def test_tasks_come_in_the_order_of_their_ids() -> None:
    tree: Tree = load(document(record(3, 103, 1), record(2, 102, 1)))
    assert [task.id for task in tree.tasks] == [1, 2, 3]
