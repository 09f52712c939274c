"""Flags and signals that do something else than is meant, refused calls, and limits."""

from __future__ import annotations

import struct
from typing import Any

from happenings import FORK, THREAD, Story, number, task
from judged import found, ids, one

from forklore.abi.flags import CLONE_FS, CLONE_NEWTIME, CLONE_PARENT, CLONE_SIGHAND, CLONE_VM
from forklore.events import records as ev

USR1, EPERM, EAGAIN, ENOSYS = 10, 1, 11, 38


def made(flags: int = FORK, signal: int = 17, execs: int | None = None) -> Story:
    story = Story()
    root = story.begin(100, comm="maker")
    child = story.clone(root, 101, flags, signal)
    if execs is not None:
        story._t += execs
        story.exec(child, "/bin/true")
    story.exit(child)
    story.exit(root)
    return story


def test_another_signal_than_sigchld() -> None:
    other = one(made(signal=USR1), "exit-signal")
    assert other.severity == "warning"
    assert "101 maker sends SIGUSR1 to 100 maker when it ends, and not SIGCHLD" in other.first.text
    none = one(made(signal=0), "exit-signal")
    assert none.severity == "note"
    assert "sends nothing" in none.first.text
    for right in (made(), made(signal=USR1, execs=1), made(FORK | CLONE_PARENT, 0), made(THREAD, 0)):
        assert found(right, "exit-signal") == []


def test_clone_newtime_in_clone() -> None:
    wrong = made(FORK | CLONE_NEWTIME)
    assert ids(wrong) == {"newtime-in-clone"}
    assert "SIGCHLD was meant" in one(wrong, "newtime-in-clone").first.text
    story = Story()
    root = story.begin(100)
    story.exit(story.clone3(root, 101, CLONE_NEWTIME))
    assert ids(story) == set()


def test_clone_fs_over_an_exec() -> None:
    wrong = one(made(FORK | CLONE_FS, execs=1), "fs-shared-over-exec")
    assert "101 true shares root, working directory and umask with 100 maker beyond its exec" in wrong.first.text
    assert found(made(FORK | CLONE_FS), "fs-shared-over-exec") == [], "no exec"
    parted = Story()
    root = parted.begin(100)
    child = parted.clone(root, 101, FORK | CLONE_FS)
    parted.call(child, "unshare", CLONE_FS)
    parted.exec(child, "/bin/true")
    assert ids(parted) == set()
    alone = Story()
    root = alone.begin(100)
    child = alone.clone(root, 101, FORK | CLONE_FS)
    alone.exit(root)
    alone.exec(child, "/bin/true")
    assert found(alone, "fs-shared-over-exec") == []


def test_shared_handlers() -> None:
    flags = CLONE_VM | CLONE_SIGHAND
    assert one(made(flags), "handlers-shared").severity == "note"
    assert found(made(flags, execs=1), "handlers-shared") == []
    assert found(made(THREAD, 0), "handlers-shared") == []


def refused(errno: int, *, instead: bool, limits: dict[str, int] | None = None, **more: Any) -> Story:
    story = Story()
    root = story.begin(100, comm="app")
    raw = struct.pack("<8Q", THREAD, 0, 0, 0, 0, 0, 0, 0).hex()
    call = {"nr": number("clone3"), "args": (4096, 64, 0, 0, 0, 0), "struct": raw, **more}
    story.fail(root, errno, limits={"seccomp": 2} if limits is None else limits, **call)
    if instead:
        story.thread(root, 101)
    return story


def test_clone3_that_a_filter_refuses() -> None:
    fell_back = one(refused(ENOSYS, instead=True), "clone3-refused")
    assert fell_back.severity == "note"
    assert "clone was called instead and made 101 app" in fell_back.first.text
    lost = one(refused(EPERM, instead=False), "clone3-refused")
    assert lost.severity == "error"
    assert "no other call was made instead" in lost.first.text
    injected = refused(ENOSYS, instead=False, injected=True)
    assert found(injected, "clone3-refused") == []
    unprivileged = refused(EPERM, instead=False, limits={"cap_eff": 0, "uid": 1000, "seccomp": 0})
    assert found(unprivileged, "clone3-refused") == []


def test_a_limit_that_is_reached() -> None:
    story = Story()
    root = story.begin(100, comm="app")
    story.fail(root, EAGAIN, FORK, limits={"pids_max": 10, "pids_current": 10, "seccomp": 0})
    reached = one(story, "task-limit-reached")
    assert reached.severity == "error"
    assert "100 app could make no child: clone gave EAGAIN" in reached.first.text
    injected = Story()
    injected.fail(injected.begin(100), EAGAIN, FORK, injected=True)
    assert found(injected, "task-limit-reached") == []


def crowd(count: int, limits: dict[str, int], uid: int = 1000) -> Story:
    story = Story(limits=limits, uid=uid)
    root = story.begin(100, comm="app")
    children = [story.clone(root, 101 + each) for each in range(count)]
    for child in children:
        story.exit(child)
    story.exit(root)
    return story.end()


def test_a_limit_that_is_near() -> None:
    near = one(crowd(44, {"rlimit_nproc": 50}), "task-limit-near")
    assert near.severity == "warning"
    assert "45 tasks of the trace lived at once, with RLIMIT_NPROC 50" in near.first.text
    assert "90 %" in near.first.text
    assert found(crowd(44, {"rlimit_nproc": 50}, uid=0), "task-limit-near") == [], "it does not bind root"
    system = one(crowd(90, {"threads_max": 100, "threads_now": 3}), "task-limit-near")
    assert "with /proc/sys/kernel/threads-max 100 of the machine, which had 3 when it began: 94 %" in system.first.text
    cgroup = one(crowd(20, {"pids_max": 50, "pids_current": 22}), "task-limit-near")
    assert "pids.max 50 of its cgroup, which had 22 when it began: 86 %" in cgroup.first.text
    for right in ({"rlimit_nproc": 5000}, {"pids_max": 500, "pids_current": 460}, {"pids_max": 50}):
        assert found(crowd(20, right), "task-limit-near") == []


def test_tasks_one_after_the_other_are_near_to_nothing() -> None:
    story = Story(limits={"rlimit_nproc": 50})
    root = story.begin(100)
    for each in range(60):
        story.exit(story.clone(root, 101 + each))
    assert found(story, "task-limit-near") == []


def test_a_call_of_no_known_flags_is_found_nothing_of() -> None:
    story = Story()
    root = story.begin(100)
    child = story.create(root, 101, nr=None)
    story.exit(child)
    assert task(story.trace(), child).form is not None
    assert ids(story) == set()


def executed(set_id: ev.SetId, *, uid: int = 0, flags: int = FORK) -> Story:
    story = Story(uid=uid)
    root = story.begin(100, comm="sh")
    child = story.clone(root, 101, flags)
    story.exec(child, "/usr/bin/sudo", set_id=set_id)
    story.exit(child)
    story.exit(root)
    return story


def test_a_set_id_program_without_its_privilege() -> None:
    lost = one(executed(ev.SetId(0, None, 1000, 1000)), "set-id-lost")
    assert lost.severity == "warning"
    assert lost.first.text.startswith("101 sudo was to run as user 0 and not 1000, as its file says: no_new_privs")
    ours = one(executed(ev.SetId(0, None, 1000, 1000), uid=1000), "set-id-lost")
    assert ours.severity == "note"
    assert "a tracer without privilege" in ours.first.text
    shares = one(executed(ev.SetId(None, 5, 0, 9), flags=FORK | CLONE_FS), "set-id-lost")
    assert "as group 5 and not 9, as its file says: it shares its working directory" in shares.first.text
    assert found(executed(ev.SetId(0, None, 0, 1000)), "set-id-lost") == []
