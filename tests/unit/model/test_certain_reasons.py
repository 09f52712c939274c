"""What the trace around a refused call tells of its caller."""

from __future__ import annotations

import errno

from happenings import Story

from forklore.abi.flags import CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWTIME, CLONE_NEWUSER, CLONE_VFORK, CLONE_VM
from forklore.abi.units import TaskId
from forklore.model.tasks import Task


def first(task: Task) -> tuple[str, bool]:
    reason = task.failures[-1].reasons[0]
    return reason.rule, reason.certain


def test_the_init_of_the_new_pid_namespace_has_ended() -> None:
    # unshare --pid sh -c 'true; true': the first child is the init, and nothing can be created after it.
    story = Story(times=False)  # as in a log without times
    root = story.begin()
    story.call(root, "unshare", CLONE_NEWPID)
    init = story.clone(root, 101, 0)
    story.exit(init)
    story.fail(root, errno.ENOMEM, 0)
    assert first(story.trace().tasks[TaskId(root)]) == ("pidns-init-dead", True)


def test_while_the_init_lives_it_is_not_the_reason() -> None:
    story = Story()
    root = story.begin()
    story.call(root, "unshare", CLONE_NEWPID)
    init = story.clone(root, 101, 0)
    story.fail(root, errno.ENOMEM, 0)
    story.exit(init)
    rules = [reason.rule for reason in story.trace().tasks[TaskId(root)].failures[0].reasons]
    assert "pidns-init-dead" not in rules
    assert "task-memory" in rules


def test_a_child_makes_its_children_in_its_creators_new_namespace() -> None:
    # pid 2 of the namespace: unshare, a first child, a second one whose own fork comes after the first one's end.
    story = Story()
    root = story.begin()
    story.call(root, "unshare", CLONE_NEWPID)
    init, second = story.clone(root, 101, 0), story.clone(root, 102, 0)
    story.exit(init)
    story.fail(second, errno.ENOMEM, 0)
    assert first(story.trace().tasks[TaskId(second)]) == ("pidns-init-dead", True)


def test_a_call_that_failed_makes_no_namespace() -> None:
    story = Story()
    root = story.begin()
    story.call(root, "unshare", CLONE_NEWPID, result=-errno.EPERM)
    child = story.clone(root, 101, 0)
    story.exit(child)
    story.fail(root, errno.ENOMEM, 0)
    assert first(story.trace().tasks[TaskId(root)])[0] != "pidns-init-dead"


def test_vfork_after_a_new_time_namespace_by_kernel_and_until_an_exec() -> None:
    for kernel, executes, rule in (("5.15.0", False, "vm-after-new-time"), ("6.2.0", False, "unexplained"),
                                   ("5.15.0", True, "vm-after-new-time")):  # fmt: skip
        story = Story(kernel=kernel)
        root = story.begin()
        story.call(root, "unshare", CLONE_NEWTIME)
        if executes:
            story.exec(root, "/bin/true")
        story.fail(root, errno.EINVAL, CLONE_VM | CLONE_VFORK)
        # Before 6.2 an exec did not enter the new namespace.
        found = story.trace().tasks[TaskId(root)].failures[0].reasons[0]
        assert found.rule == rule, (kernel, executes)


def test_other_threads_of_the_process_are_seen() -> None:
    story = Story()
    root = story.begin()
    thread = story.thread(root, 101)
    story.call(root, "unshare", CLONE_NEWUSER, result=-errno.EINVAL)
    story.exit(thread)
    story.call(root, "unshare", CLONE_NEWUSER, result=-errno.EINVAL)
    threaded, alone = story.trace().tasks[TaskId(root)].calls
    assert [(reason.rule, reason.certain) for reason in threaded.reasons] == [("unshare-threaded", True)]
    assert not alone.reasons[0].certain


def test_what_a_setns_was_about() -> None:
    story = Story()
    root = story.begin()
    story.call(root, "setns", 3, CLONE_NEWNET, result=-errno.EINVAL, target="uts:[4026531838]")
    story.call(root, "setns", 9, 0, result=-errno.EBADF, target="/proc/100/fd/9: No such file or directory")
    wrong, closed = story.trace().tasks[TaskId(root)].calls
    assert [(reason.rule, reason.certain) for reason in wrong.reasons] == [("setns-type", True)]
    assert [(reason.rule, reason.certain) for reason in closed.reasons] == [("setns-descriptor", True)]
