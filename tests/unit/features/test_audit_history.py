"""What is known of each library's ways, against what was seen: the table of docs/libc/history.md, cell by cell."""

from __future__ import annotations

import pytest
from audits import glibcs, names, recorded

from forklore.features.audit.result import Attempt, Audit, AuditRow

THREAD = "VM|FS|FILES|SIGHAND|THREAD|SYSVSEM|SETTLS|PARENT_SETTID|CHILD_CLEARTID"
FORK = "clone(CHILD_CLEARTID|CHILD_SETTID|SIGCHLD)"
SPAWNING = ("posix_spawn", "posix_spawnp", "system", "popen", "wordexp")
GLIBCS = glibcs() + glibcs("i386")


def version(name: str) -> tuple[int, ...]:
    return tuple(map(int, name.split("-")[1].split(".")))


def row(name: str, function: str, mode: str = "single", injected: str | None = None) -> AuditRow:
    found = recorded(name).row(function, mode, injected)
    assert found is not None
    return found


def made(name: str, function: str, mode: str = "single", injected: str | None = None) -> Attempt:
    found = row(name, function, mode, injected).made
    assert found is not None
    return found


def test_there_are_audits_to_look_at() -> None:
    assert {"glibc-2.31-x86_64", "glibc-2.36-x86_64", "glibc-2.41-x86_64"} <= set(names())


@pytest.mark.parametrize("name", GLIBCS)
@pytest.mark.parametrize("mode", ["single", "multi"])
def test_fork_is_clone_with_the_tid_of_the_child(name: str, mode: str) -> None:
    for function in ("fork", "forkpty", "daemon"):
        attempt = made(name, function, mode)
        assert attempt.words == FORK
        assert attempt.child_tid is not None
        assert attempt.child_tid.endswith("(tid)")
        assert attempt.shared == []
        assert "[atfork: child]" in attempt.child


@pytest.mark.parametrize("name", GLIBCS)
def test_fork_blocks_signals_since_2_41(name: str) -> None:
    assert made(name, "fork").blocked == ("all" if version(name) >= (2, 41) else "none")


@pytest.mark.parametrize("name", GLIBCS)
def test_underscore_fork_came_with_2_34_and_runs_no_handlers(name: str) -> None:
    found = row(name, "_Fork")
    if version(name) < (2, 34):
        assert found.outcome == "missing"
        return
    assert made(name, "_Fork").words == FORK
    assert not any("atfork" in step for step in [*found.before, *found.after, *made(name, "_Fork").child])


@pytest.mark.parametrize("name", GLIBCS)
def test_vfork_is_vfork(name: str) -> None:
    assert made(name, "vfork").words == "vfork()"


@pytest.mark.parametrize("name", GLIBCS)
@pytest.mark.parametrize("function", SPAWNING)
def test_spawning_moved_to_clone3_in_2_34_and_clears_handlers_since_2_38(name: str, function: str) -> None:
    attempt = made(name, function)
    wanted = (
        "clone(VM|VFORK|SIGCHLD)" if version(name) < (2, 34)
        else "clone3(VM|VFORK, exit SIGCHLD)" if version(name) < (2, 38)
        else "clone3(VM|VFORK|CLEAR_SIGHAND, exit SIGCHLD)"
    )  # fmt: skip
    assert attempt.words == wanted
    assert attempt.blocked == "all"
    assert attempt.stack.whose == "mapped"
    assert attempt.shared == ["mm"]


@pytest.mark.parametrize("name", [name for name in GLIBCS if version(name) >= (2, 34)])
@pytest.mark.parametrize("function", SPAWNING)
def test_spawning_falls_back_to_clone(name: str, function: str) -> None:
    assert made(name, function, injected="clone3 ENOSYS").words == "clone(VM|VFORK|SIGCHLD)"
    after_einval = row(name, function, injected="clone3 EINVAL").made
    if version(name) < (2, 38):
        assert after_einval is None
    else:
        assert after_einval is not None
        assert after_einval.words == "clone(VM|VFORK|SIGCHLD)"


@pytest.mark.parametrize("name", GLIBCS)
def test_pthread_create(name: str) -> None:
    attempt = made(name, "pthread_create")
    call, struct = ("clone", None) if version(name) < (2, 34) else ("clone3", 88)
    assert (attempt.words, attempt.size) == (f"{call}({THREAD})", struct)
    assert attempt.blocked == ("none" if version(name) < (2, 32) else "all")
    assert attempt.parent_tid is not None
    assert attempt.parent_tid.endswith("(tid)")
    assert (attempt.child_tid == attempt.parent_tid) == (version(name) < (2, 43))
    assert attempt.tls is not None
    assert attempt.tls.endswith("new pd")
    assert attempt.stack.guard == 4096
    assert attempt.says is not None
    assert (attempt.says.cached_tid, attempt.says.pthread_self) == ("own", "its own")


@pytest.mark.parametrize("name", [name for name in GLIBCS if version(name) >= (2, 34)])
def test_threads_fall_back_on_enosys_alone(name: str) -> None:
    assert made(name, "pthread_create", injected="clone3 ENOSYS").words == f"clone({THREAD})"
    assert row(name, "pthread_create", injected="clone3 EINVAL").made is None


@pytest.mark.parametrize("name", GLIBCS)
def test_pidfd_spawn_and_cgroups_came_with_2_39(name: str) -> None:
    spawn, cgroup = row(name, "pidfd_spawn"), row(name, "posix_spawn/SETCGROUP")
    if version(name) < (2, 39):
        assert (spawn.outcome, cgroup.outcome) == ("missing", "missing")
        return
    assert made(name, "pidfd_spawn").words == "clone3(VM|PIDFD|VFORK|CLEAR_SIGHAND, exit SIGCHLD)"
    assert cgroup.attempts[0].words == "clone3(VM|VFORK|CLEAR_SIGHAND|INTO_CGROUP, exit SIGCHLD)"
    without = row(name, "posix_spawn/SETCGROUP", injected="clone3 ENOSYS")
    assert (without.made, without.result) == (None, "95")  # ENOTSUP


@pytest.mark.parametrize("name", GLIBCS)
def test_an_exec_that_fails_is_told_through_memory(name: str) -> None:
    found = row(name, "posix_spawn/ENOENT")
    assert found.result == "2"
    assert found.exec_failure == "through the memory they share; the child ends by exit_group(127)"


@pytest.mark.parametrize("name", GLIBCS)
def test_a_raw_clone_leaves_the_cached_tid_of_its_creator(name: str) -> None:
    says = made(name, "clone").says
    assert says is not None
    assert (says.getpid, says.cached_tid) == ("own", "0" if version(name) < (2, 34) else "the creator's")


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("musl")])
def test_musl(name: str) -> None:
    assert made(name, "fork").words == "fork()"
    assert made(name, "vfork").words == "vfork()"
    assert made(name, "posix_spawn").words == "clone(VM|VFORK|SIGCHLD)"
    assert made(name, "posix_spawn").stack.whose == "within the caller's"
    assert "DETACHED" in made(name, "pthread_create").words
    failed = row(name, "posix_spawn/ENOENT").exec_failure
    assert failed is not None
    assert failed.startswith("through a pipe")


@pytest.mark.parametrize("name", names())
def test_no_row_was_lost(name: str) -> None:
    audit: Audit = recorded(name)
    assert [row.key for row in audit.rows if row.outcome not in ("called", "missing")] == []
    assert audit.library.build_id is not None
