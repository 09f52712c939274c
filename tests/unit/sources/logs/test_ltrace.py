"""ltrace logs: real ones of ltrace 0.7.3, the older form, the newer form, and output mixed into the lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_events import DATA, events_of, only, read, tree

from forklore.abi.units import Unavailable
from forklore.events.records import (
    Begin,
    Create,
    Event,
    Exec,
    ExecFail,
    Exit,
    Fail,
    Gone,
    Note,
    Other,
    VforkDone,
)
from forklore.model.build import build
from forklore.sources.files import open_any

FORK = 0x1200011


def log(tmp_path: Path, *lines: str) -> tuple[list[Event], list[str]]:
    first = "10 SYS_brk(0) = 0x563999829000"
    return read(tmp_path / "log", "\n".join([first, *lines, "10 +++ exited (status 0) +++"]) + "\n")


def library(tmp_path: Path, *lines: str) -> tuple[list[Event], list[str]]:
    """Of ltrace -f without -S."""
    return read(tmp_path / "log", "\n".join([*lines, "10 +++ exited (status 0) +++"]) + "\n")


def test_a_shell_with_its_output_mixed_in() -> None:
    trace = open_any(DATA / "ltrace-stderr-sh.log")
    events = events_of(trace)
    assert trace.header.source.tool == "ltrace"
    assert tree(events) == {1: None, 2: 1, 3: 1, 4: 1}
    assert {(e.nr, e.args[0], e.args[4]) for e in only(events, Create)} == {(56, FORK, None)}
    assert {e.path for e in only(events, Exec)} == {"/usr/bin/ls", "/usr/bin/head"}
    assert [e.status for e in only(events, Exit)] == [0, 0, 0, 0]
    assert trace.warnings == []


def test_failures_and_unsharing() -> None:
    events = events_of(open_any(DATA / "ltrace-calls.log"))
    assert [(e.nr, e.errno, type(e.struct)) for e in only(events, Fail)] == [
        (435, 22, Unavailable),
        (435, 22, Unavailable),
        (435, 14, Unavailable),
        (435, 22, Unavailable),
    ]
    calls = [(e.nr, e.args, e.result) for e in only(events, Other)]
    assert calls[0] == (272, (0x4000400,), 0)
    assert calls[3] == (308, (0xFFFFFFFF, 0), -9)
    vfork, clone = only(events, Create)
    assert (vfork.nr, vfork.args, clone.args) == (58, (), (0x80000191, 0, 0, 0, None))
    assert [e.child for e in only(events, VforkDone)] == [vfork.child]
    assert {e.task: e.status for e in only(events, Exit)}[vfork.child] == 11
    times = [e.t for e in events if not isinstance(e, Create)]
    assert times == sorted(times, key=lambda t: t or 0)
    assert times[0] == 0


def test_exec_by_a_thread() -> None:
    events = events_of(open_any(DATA / "ltrace-non-leader-exec.log"))
    (thread,) = only(events, Create)
    (exec_,) = only(events, Exec)
    assert (exec_.task, exec_.path, exec_.former_tid) == (thread.child, "/bin/true", thread.tid)
    assert [(e.task, e.why) for e in only(events, Gone)] == [(1, "superseded")]


@pytest.mark.parametrize(
    "call",
    [
        "SYS_clone(0x1200011, 0, 0, 0x7fe3cf8339d0, 0) = 5967",
        "clone@SYS(0x1200011, 0, 0, 0x7fe3cf8339d0, 0) = 5967",
        "SYS_56(0x1200011, 0, 0, 0x7fe3cf8339d0, 0) = 5967",
        "SYS_clone(0x1200011, 0, 0, 0x7fe3cf8339d0, 0 <unfinished ...>\n10 <... SYS_clone resumed> ) = 5967",
        "clone@SYS(0x1200011, 0, 0, 0x7fe3cf8339d0, 0 <unfinished ...>\n10 <... clone@SYS resumed> ) = 5967",
    ],
)
def test_the_forms_of_a_call(call: str, tmp_path: Path) -> None:
    """In each, the library's fork around it is no creation of its own, and its return in the child is none."""
    lines = f"10 fork( <unfinished ...>\n10 {call}\n10 <... fork resumed> ) = 5967\n5967 <... fork resumed> ) = 0"
    events, warnings = log(tmp_path, lines)
    (create,) = only(events, Create)
    assert (create.nr, create.args, create.tid) == (56, (FORK, 0, 0, 0x7FE3CF8339D0, 0), 5967)
    assert tree(events) == {1: None, 2: 1}
    assert warnings == []


def test_without_system_calls_the_library_call_is_what_there_is(tmp_path: Path) -> None:
    """ltrace -f without -S."""
    events, warnings = library(
        tmp_path,
        "10 fork( <unfinished ...>",
        "11 <... fork resumed> ) = 0",
        "10 <... fork resumed> ) = 11",
        "10 fork() = -1",
        "10 vfork(0, 1, 0, 1) = -1",
        "10 pthread_create(0x7f, 0, 0x55, 0) = 11",
    )
    (create,) = only(events, Create)
    assert (create.nr, create.args, create.tid, create.library) == (None, (), 11, "fork")
    failed = [(e.nr, e.library, e.errno) for e in only(events, Fail)]
    assert failed == [(None, "fork", None), (None, "vfork", None), (None, "pthread_create", 11)]
    assert warnings == []


def test_who_made_what_without_system_calls() -> None:
    """system, popen, pthread_create and posix_spawn return no pid: by what was called when a task came up."""
    trace = open_any(DATA / "ltrace-library.log")
    events = events_of(trace)
    made = {e.tid: (e.task, e.library) for e in only(events, Create)}
    assert made == {
        5140: (1, "fork"),
        5141: (2, "fork"),
        5142: (1, "vfork"),
        5143: (1, "system"),
        5144: (1, "popen"),
        5145: (1, "pthread_create"),
        5146: (1, "pthread_create"),
        5147: (8, "fork"),
        5148: (1, "posix_spawn"),
        5149: (1, "posix_spawnp"),
    }
    assert {e.task for e in only(events, Exec)} == {4, 5, 6, 10}
    failed = [(e.library, e.errno) for e in only(events, Fail)]
    assert failed == [("fork", None), ("vfork", None), ("pthread_create", 11), ("system", None)]
    assert trace.warnings == []
    assert [blind.what for blind in trace.header.blind][-2:] == ["system calls", "creators"]
    tasks = build(trace.header, events).tasks.values()
    assert [task.kind for task in tasks] == ["process"] * 6 + ["thread"] * 2 + ["process"] * 3


@pytest.mark.parametrize(
    ("lines", "made"),
    [
        # The second thread comes up when both calls have returned; both are the same task's.
        (
            ["10 pthread_create(1) = 0", "10 pthread_create(2) = 0", "11 usleep(1) = 0", "12 usleep(1) = 0"],
            {2: 1, 3: 1},
        ),
        # Two tasks call system at once, and nothing tells the shells apart.
        (
            [
                "10 fork() = 11",
                "10 system(1 <unfinished ...>",
                "11 system(1 <unfinished ...>",
                "12 --- Called exec() ---",
                "10 <... system resumed> ) = 0",
                "11 <... system resumed> ) = 0",
            ],
            {2: 1, 3: None},
        ),
        # The first line tells a forked child from a thread.
        (
            [
                "10 pthread_create(1) = 0",
                "10 daemon(1, 1 <unfinished ...>",
                "12 <... daemon resumed> ) = 0",
                "11 usleep(1) = 0",
            ],
            {2: 1, 3: 1},
        ),
        # What failed made the task that came up in the meantime, and no later one.
        (
            [
                "10 posix_spawnp(1 <no return ...>",
                "11 +++ exited (status 127) +++",
                "10 <... posix_spawnp resumed> ) = 2",
                "12 getpid() = 12",
            ],
            {2: 1, 3: None},
        ),
        # By number, with words that the kernel got.
        (["10 syscall(56, 17, 0, 0) = 11", "11 <... syscall resumed> ) = 0"], {2: 1}),
        # In a function that the library calls back, shifted by -n.
        (["10 qsort(1, 2, 3, 4 <unfinished ...>", "10   fork() = 11", "11   <... fork resumed> ) = 0"], {2: 1}),
    ],
)
def test_children_of_calls_that_return_no_pid(lines: list[str], made: dict[int, int | None], tmp_path: Path) -> None:
    events, _ = library(tmp_path, *lines)
    assert tree(events) == {1: None, **made}


def test_who_executes_without_system_calls(tmp_path: Path) -> None:
    """The library's call tells it: a thread's that comes back under its process's pid, too."""
    events, warnings = library(
        tmp_path,
        "10 fork() = 11",
        '11 execl("/bin/no", "no", nil <unfinished ...>',
        "11 <... execl resumed> ) = -1",
        '11 execlp("true", "true", nil <no return ...>',
        "11 --- Called exec() ---",
        "10 pthread_create(1) = 0",
        '12 execv("/bin/true", 0x7f <no return ...>',
        "10 --- Called exec() ---",
    )
    assert [(e.task, e.path, e.former_tid) for e in only(events, Exec)] == [
        (2, Unavailable(errno=0, why="ltrace printed no string for it"), None),
        (3, "/bin/true", 12),
    ]
    assert [(e.task, e.why) for e in only(events, Gone)] == [(1, "superseded"), (2, "ended")]
    assert warnings == []
    lines = ["10 pthread_create(1) = 0", "12 usleep(1) = 0", "10 --- Called exec() ---"]
    events, _ = library(tmp_path, *lines)
    assert [(e.what, e.task) for e in only(events, Note)] == [("exec", 1)]


def test_the_function_around_a_system_call_is_its_maker(tmp_path: Path) -> None:
    """With -S as well; what clone3 makes is a thread or a process by the function."""
    lines = "10 {}(1 <unfinished ...>\n10 SYS_435(0x7f, 88, 0x7f, 8) = {}\n10 <... {} resumed> ) = 0"
    names = ["pthread_create", "system", "timer_create"]
    log(tmp_path, *(lines.format(name, 11 + n, name) for n, name in enumerate(names)))
    trace = open_any(tmp_path / "log")
    events = events_of(trace)
    assert [(e.nr, e.library) for e in only(events, Create)] == [(435, name) for name in names]
    kinds = [task.kind for task in build(trace.header, events).tasks.values()]
    assert kinds == ["process", "thread", "process", "thread"]


def test_without_f_children_are_not_followed(tmp_path: Path) -> None:
    """No line has a pid: neither what children did, nor that they ended, nor system's shell is in the log."""
    lines = ["fork() = 11", 'system("exit 5" <no return ...>', "--- SIGCHLD (Child exited) ---"]
    lines += ["<... system resumed> ) = 1280", "posix_spawnp(1) = 2", "fork() = -1", "+++ exited (status 7) +++"]
    (tmp_path / "log").write_text("\n".join(lines))
    trace = open_any(tmp_path / "log")
    events = events_of(trace)
    assert [(e.tid, e.traced, e.library) for e in only(events, Create)] == [(11, False, "fork")]
    assert [e.library for e in only(events, Fail)] == ["fork"]
    assert [e.task for e in events if isinstance(e, Exit | Gone)] == [1]
    assert [blind.what for blind in trace.header.blind][-2:] == ["children", "system calls"]
    assert trace.warnings == []


@pytest.mark.parametrize("apart", [True, False])
def test_the_log_of_a_well_known_question(apart: bool, tmp_path: Path) -> None:
    """Without -f, its results on lines of their own or not."""
    lines = [
        "SYS_mmap(0, 4096, 3, 34, 0xffffffff) = 0x7fe3cf832000",
        "__libc_start_main(0x40054c, 1, 0x7fff47008298, 0x4005a0, 0x400590 <unfinished ...>",
        "fork( <unfinished ...>",
        "SYS_clone(0x1200011, 0, 0, 0x7fe3cf8339d0, 0) = 5967",
        "<... fork resumed> ) = 5967",
        "SYS_exit_group(13 <no return ...>",
        "+++ exited (status 13) +++",
    ]
    text = "\n".join(lines).replace(") = ", ")\n= ") if apart else "\n".join(lines)
    events, warnings = read(tmp_path / "log", text + "\n")
    (create,) = only(events, Create)
    assert (create.task, create.tid, create.args, create.library) == (1, 5967, (FORK, 0, 0, 0x7FE3CF8339D0, 0), "fork")
    assert [(e.task, e.status) for e in only(events, Exit)] == [(1, 13 << 8)]
    assert warnings == []


def test_a_child_can_act_before_its_creator_returns(tmp_path: Path) -> None:
    events, warnings = log(
        tmp_path,
        "10 SYS_vfork(0x7f6b673be080, 0, 0, 8 <unfinished ...>",
        '11 SYS_execve("/bin/a", 0x1, 0x2) = -2',
        '11 SYS_execve("/bin/"..., 0x1, 0x2 <no return ...>',
        "11 --- Called exec() ---",
        "10 <... SYS_vfork resumed> ) = 11",
        "11 +++ killed by SIGKILL +++",
    )
    assert tree(events) == {1: None, 2: 1}
    assert [(e.task, e.path, e.errno) for e in only(events, ExecFail)] == [(2, "/bin/a", 2)]
    assert [(e.task, e.path) for e in only(events, Exec)] == [(2, "/bin/")]
    assert [e.what for e in only(events, Note)] == ["path"]
    assert [e.status for e in only(events, Exit)] == [9, 0]
    assert warnings == []


def test_output_within_a_record(tmp_path: Path) -> None:
    """The program wrote between the arguments of a call and its result, and before a record."""
    events, warnings = read(
        tmp_path / "log",
        "[pid 10] SYS_brk(0) = 0x5639\n"
        "[pid 10] SYS_clone(0x1200011, 0, 0, 0x7f2bhello\nworld)  = 11\n"
        "no newline[pid 11] SYS_setsid() = 11\n"
        'SYS_clone(1, 2, 3) = 12\n[pid 10] printf("[pid 10] SYS_fork() = 4") = 5\n'
        "[pid 11] +++ exited (status 4) +++\n",
    )
    (create,) = only(events, Create)
    assert create.args == (FORK, 0, 0, None, None)
    assert only(events, Other)[0].task == create.child
    assert [e.status for e in only(events, Exit)] == [4 << 8]
    assert warnings == [f"{tmp_path / 'log'}:5: lines that name a creation and are not understood"]


def test_one_process_without_pids(tmp_path: Path) -> None:
    log = "SYS_getpid() = 4711\nSYS_unshare(0x400, 0, 0, 0) = 0\n+++ exited (status 1) +++\n"
    events, _ = read(tmp_path / "log", log)
    assert only(events, Begin)[0].tid == 4711
    assert (only(events, Other)[0].args, only(events, Exit)[0].status) == ((0x400,), 256)


def test_an_interrupted_creation_counts_once(tmp_path: Path) -> None:
    events, _ = log(tmp_path, "10 SYS_clone(17, 0, 0, 0) = -513", "10 SYS_clone(17, 0, 0, 0) = 11")
    assert (len(only(events, Create)), len(only(events, Fail))) == (1, 0)


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        (["10 <... SYS_clone resumed> ) = 11"], "creations of which the log has only the end"),
        (["10 SYS_clone(17, 0", "10 SYS_getpid() = 10"], "creations cut off in the middle of the line"),
        (["10 SYS_clone(17, 0) = 99999999"], "creations that returned no possible pid"),
        (["10 --- Called exec() ---"], "programs executed without a call of it in the log"),
        (["9999999 SYS_clone(17) = 3"], "lines that name a creation and are not understood"),
        (["11 SYS_getpid() = 11"], "a task whose creation the log does not show"),
    ],
)
def test_what_is_not_understood_is_counted(lines: list[str], warning: str, tmp_path: Path) -> None:
    _, warnings = log(tmp_path, *lines)
    assert any(f": {warning}" in text for text in warnings)
