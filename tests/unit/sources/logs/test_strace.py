"""strace logs: real ones, and each of the forms that strace's lines can take."""

from __future__ import annotations

import signal
import struct
from pathlib import Path

import pytest
from log_events import DATA, events_of, only, read, tree

from forklore.abi.arch import Arch
from forklore.abi.flags import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_CLEAR_SIGHAND,
    CLONE_FILES,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_SETTLS,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
)
from forklore.abi.units import TaskId, Unavailable
from forklore.events.records import (
    Begin,
    Create,
    End,
    Event,
    Exec,
    ExecAt,
    ExecFail,
    Exit,
    Fail,
    Gone,
    GroupStop,
    Note,
    Other,
    Resume,
    Signal,
    VforkDone,
)
from forklore.model.build import built
from forklore.sources.files import open_any

FORK = "clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f00)"
START = '10 execve("/bin/sh", ["sh", "-c", "true"], 0x7ffe /* 35 vars */) = 0\n'
END = "10 +++ exited with 0 +++\n"


def log(tmp_path: Path, *lines: str) -> tuple[list[Event], list[str]]:
    return read(tmp_path / "log", START + "\n".join(lines) + "\n" + END)


@pytest.mark.parametrize(
    ("before", "after", "said"), [("", "", True), ("10 ", "", False), ("", "[pid 11] +++ exited with 0 +++\n", False)]
)
def test_a_log_without_the_lines_of_children_is_of_strace_without_f(
    before: str, after: str, said: bool, tmp_path: Path
) -> None:
    lines = ['execve("/bin/sh", ["sh"], 0x7ffe /* 3 vars */) = 0', f"{FORK} = 11", "exit_group(0) = ?"]
    events, _ = read(tmp_path / "log", "".join(f"{before}{line}\n" for line in lines) + after)
    notes = [event.why for event in events if isinstance(event, Note)]
    assert notes == ["strace was run without -f, which follows them"] * said


def words(struct_hex: str | Unavailable | None) -> tuple[int, ...]:
    assert isinstance(struct_hex, str)
    return struct.unpack("<11Q", bytes.fromhex(struct_hex))


# Real logs


def test_a_shell_pipeline() -> None:
    """sh makes three children by fork; the second's clone line is interrupted by other lines."""
    trace = open_any(DATA / "strace-sh.log")
    events = events_of(trace)
    assert trace.header.source.tool == "strace"
    assert trace.header.command == ["sh", "-c", "ls / | head -2; true & wait"]
    assert tree(events) == {1: None, 2: 1, 3: 1, 4: 1}
    assert {e.args[0] for e in only(events, Create)} == {CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | 17}
    assert [e.path for e in only(events, Exec)] == ["/usr/bin/sh", "/usr/bin/ls", "/usr/bin/head"]
    assert [e.status for e in only(events, Exit)] == [0, 0, 0, 0]
    assert {e.t for e in events} == {None}
    assert trace.warnings == []


def test_python_with_threads_and_subprocesses() -> None:
    """A thread by clone3 makes a process by vfork; then posix_spawn's clone3 makes one."""
    events = events_of(open_any(DATA / "strace-python.log"))
    thread, child, spawned = only(events, Create)
    assert words(thread.struct)[0] & CLONE_THREAD
    assert (child.task, child.nr, child.args) == (thread.child, 58, ())
    assert (spawned.task, words(spawned.struct)[0], words(spawned.struct)[4]) == (1, CLONE_VM | CLONE_VFORK, 17)
    assert [e.child for e in only(events, VforkDone)] == [child.child, spawned.child]
    assert [e.path for e in only(events, Exec)] == ["/usr/bin/python3", "/usr/bin/true", "/bin/true"]
    times = [e.t for e in events if not isinstance(e, Create)]
    assert all(t is not None for t in times)
    assert times == sorted(times, key=lambda t: t or 0)


def test_exec_by_a_thread() -> None:
    """The thread takes the leader's tid; the leader is superseded and the thread's old tid is never seen again."""
    trace = open_any(DATA / "strace-non-leader-exec.log")
    events = events_of(trace)
    (thread,) = only(events, Create)
    assert [(e.task, e.why) for e in only(events, Gone)] == [(1, "superseded")]
    last = only(events, Exec)[-1]
    assert (last.task, last.former_tid, last.argv) == (thread.child, thread.tid, ["true"])
    assert last.began is not None
    assert last.t is not None
    assert last.began < last.t
    assert [e.task for e in only(events, Exit)] == [thread.child]
    assert trace.header.clock.wall is not None


@pytest.mark.parametrize("name", ["strace-stderr-calls.log", "strace-verbose-calls.log"])
def test_failures_and_unsharing(name: str) -> None:
    """The same program, once with strace's notices amid the lines, once with -X verbose -y."""
    trace = open_any(DATA / name)
    events = events_of(trace)
    fails = only(events, Fail)
    assert [e.errno for e in fails] == [22, 22, 14, 22]
    assert words(fails[1].struct)[0] == 0x4000000000 | CLONE_VM
    assert isinstance(fails[2].struct, Unavailable)
    assert fails[2].args == (0, 88)
    assert words(fails[3].struct)[0] == CLONE_PIDFD | CLONE_PARENT_SETTID
    assert fails[3].set_tid == struct.pack("<i", 99999).hex()
    calls = only(events, Other)
    assert [(e.nr, e.args, e.result) for e in calls[:4]] == [
        (272, (CLONE_FILES | CLONE_NEWUTS,), 0),
        (272, (CLONE_THREAD,), 0),
        (308, (3, CLONE_NEWUTS), 0),
        (308, (0xFFFFFFFF, 0), -9),
    ]  # its close_range is without CLOSE_RANGE_UNSHARE: it leaves what is shared as it is
    vfork, clone = only(events, Create)
    assert (vfork.nr, clone.nr, clone.args) == (58, 56, (0x80000191, 0, None, None, None))
    assert (calls[4].task, calls[4].result) == (vfork.child, vfork.tid)
    (end,) = only(events, Signal)
    assert (end.task, end.signal, end.code, end.sender) == (vfork.child, 11, 0, vfork.tid)
    assert [e.status for e in only(events, Exit)] == [11, 0, 0]
    begin = only(events, Begin)[0]
    assert begin.tid == vfork.tid - 1
    assert trace.warnings == []


def test_the_name_of_a_namespace_is_kept() -> None:
    calls = only(events_of(open_any(DATA / "strace-verbose-calls.log")), Other)
    assert str(calls[2].target).startswith("uts:[")


def test_a_pid_namespace() -> None:
    """Inside, fork returns 2; the log's own number of that child is known from its lines."""
    events = events_of(open_any(DATA / "strace-pidns.log"))
    outer, inner = only(events, Create)[2:4]
    assert inner.task == outer.child
    assert inner.ns_tids == [inner.tid, 2]
    assert inner.tid > outer.tid
    fails = only(events, Fail)
    assert [e.errno for e in fails] == [12, 12, 12, 7, 22]
    assert bytes.fromhex(str(fails[3].struct))[88:] == struct.pack("<Q", 5)
    assert words(str(fails[2].struct)[: 2 * 88])[4] == 35
    assert isinstance(fails[4].struct, Unavailable)


# One form at a time


@pytest.mark.parametrize(
    ("printed", "args"),
    [
        (FORK, (0x1200011, 0, None, 0x7F00, None)),
        ("clone(child_stack=0x5000, flags=CLONE_VM|CLONE_VFORK|SIGCHLD)", (0x4111, 0x5000, None, None, None)),
        ("clone(child_stack=0, flags=CLONE_VM|0x400000000000|145)", (0x400000000191, 0, None, None, None)),
        ("clone(child_stack=NULL, flags=0)", (0, 0, None, None, None)),
        ("clone(stack=NULL, flags=CLONE_VM|SIGRT_3)", (0x123, 0, None, None, None)),
        (
            "clone(child_stack=0x1, flags=CLONE_VM|CLONE_SETTLS|0x100000, parent_tid=[11], tls=0x99, child_tidptr=0x7)",
            (CLONE_VM | CLONE_SETTLS | CLONE_PARENT_SETTID, 1, None, 7, 0x99),
        ),
        ("clone(child_stack=0x1, flags=SIGCHLD, parent_tidptr=0x5)", (17, 1, 5, None, None)),
        ("clone(0x1200011, 0, 0, 0x7f, 0x8)", (0x1200011, 0, 0, 0x7F, 8)),
        ("clone(child_stack=NULL, flags=0x1200000 /* CLONE_A|CLONE_B */|SIGCHLD)", (0x1200011, 0, None, None, None)),
        ("clone(child_stack=NULL, flags=CLONE_FUTURE|SIGCHLD)", (None, 0, None, None, None)),
    ],
)
def test_clone(printed: str, args: tuple[int | None, ...], tmp_path: Path) -> None:
    (create,) = only(log(tmp_path, f"10 {printed} = 11", "11 +++ exited with 3 +++")[0], Create)
    assert (create.nr, create.args, create.tid) == (56, args, 11)


def test_the_order_of_arguments_is_the_arch_s(tmp_path: Path) -> None:
    """i386 has tls before child_tid, and numbers of its own."""
    events, _ = log(
        tmp_path,
        "[ Process PID=10 runs in 32 bit mode. ]",
        "10 clone(child_stack=0x1, flags=SIGCHLD, tls={entry_number=12}, child_tidptr=0x7) = 11",
        "11 unshare(CLONE_NEWUTS) = 0",
    )
    (create,) = only(events, Create)
    assert (create.arch, create.nr, create.args) == (Arch.I386, 120, (17, 1, None, None, 7))
    assert only(events, Other)[0].nr == 310


CLONE3 = "clone3({flags=%s, exit_signal=%s, stack=0x7f0000, stack_size=0x9000}%s, 88) = 11"


@pytest.mark.parametrize(
    ("flags", "exit_signal", "out", "expected"),
    [
        ("CLONE_VM|CLONE_VFORK|CLONE_CLEAR_SIGHAND", "SIGCHLD", "", (CLONE_CLEAR_SIGHAND | 0x4100, 17)),
        ("0x4100", "17", " => {parent_tid=[11]}", (0x4100, 17)),
        ("0x4100 /* CLONE_VM|CLONE_VFORK */", "0x11 /* SIGCHLD */", " => {parent_tid=[11]}", (0x4100, 17)),
        ("CLONE_VM|0x8000000000000000", "0", "", (CLONE_VM | 1 << 63, 0)),
    ],
)
def test_clone3(flags: str, exit_signal: str, out: str, expected: tuple[int, int], tmp_path: Path) -> None:
    (create,) = only(log(tmp_path, "10 " + CLONE3 % (flags, exit_signal, out))[0], Create)
    fields = words(create.struct)
    assert (fields[0], fields[4]) == expected
    assert fields[5:7] == (0x7F0000, 0x9000)
    assert create.args == (None, 88)


def test_a_clone3_struct_with_flags_that_nobody_knows_is_absent(tmp_path: Path) -> None:
    (create,) = only(log(tmp_path, "10 " + CLONE3 % ("CLONE_FUTURE", "0", ""))[0], Create)
    assert isinstance(create.struct, Unavailable)


def test_a_child_can_act_before_its_creator_returns(tmp_path: Path) -> None:
    """Its creation comes first all the same, and even if it has ended by then."""
    events, warnings = log(
        tmp_path,
        "10 vfork( <unfinished ...>",
        '11 execve("/nowhere", ["a"], 0x1 /* 2 vars */) = -1 ENOENT (No such file or directory)',
        "11 exit_group(127) = ?",
        "11 +++ exited with 127 +++",
        "10 <... vfork resumed>) = 11",
    )
    assert [type(e) for e in events] == [Begin, Exec, Create, ExecFail, Exit, VforkDone, Exit, End]
    (create,) = only(events, Create)
    assert (create.nr, create.args, create.tid) == (58, (), 11)
    assert only(events, VforkDone)[0].child == create.child
    assert warnings == []


@pytest.mark.parametrize(
    ("printed", "path", "at"),
    [
        ('3</opt>, "tool", ["tool"], NULL, AT_SYMLINK_NOFOLLOW', "/opt/tool",
         ExecAt(fd=3, directory="/opt", path="tool", flags=0x100)),
        ('3</opt/x>, "", ["tool"], 0x1 /* 2 vars */, AT_EMPTY_PATH', "/opt/x",
         ExecAt(fd=3, directory="/opt/x", path="", flags=0x1000)),
        ('3, "tool", ["tool"], NULL, 0', "tool", ExecAt(fd=3, path="tool")),
        ('-1, "tool", ["tool"], NULL, AT_SYMLINK_NOFOLLOW|0x20000', "tool", ExecAt(fd=-1, path="tool", flags=0x20100)),
        ('AT_FDCWD</home>, "tool", ["tool"], NULL, 0', "tool", ExecAt(fd=-100, path="tool")),
        ('7</opt>, "/bin/x", ["tool"], NULL, 0', "/bin/x", ExecAt(fd=7, path="/bin/x")),
    ],
)  # fmt: skip
def test_execveat(printed: str, path: str, at: ExecAt, tmp_path: Path) -> None:
    ended = "10 +++ exited with 0 +++"
    done = only(log(tmp_path, f"10 execveat({printed}) = 0", ended)[0], Exec)[-1]
    (failed,) = only(log(tmp_path, f"10 execveat({printed}) = -1 ENOENT (No such file)", ended)[0], ExecFail)
    assert (done.path, done.at) == (failed.path, failed.at) == (path, at)
    assert failed.argv == ["tool"]


def test_two_creations_at_once_are_told_apart(tmp_path: Path) -> None:
    events, _ = log(
        tmp_path,
        f"10 {FORK} = 11",
        "10 vfork( <unfinished ...>",
        "11 vfork( <unfinished ...>",
        "13 setsid() = 13",
        "12 setsid() = 12",
        "11 <... vfork resumed>) = 12",
        "10 <... vfork resumed>) = 13",
    )
    made = {e.tid: (e.task, e.child) for e in only(events, Create)}
    assert (made[11][0], made[12][0], made[13][0]) == (1, made[11][1], 1)
    assert [e.task for e in only(events, Other)] == [made[13][1], made[12][1]]


def test_a_creator_that_is_killed_in_the_call(tmp_path: Path) -> None:
    """Its call alone can have made the task that shows up."""
    events, warnings = log(
        tmp_path,
        f"10 {FORK} = 11",
        "11 clone(child_stack=NULL, flags=CLONE_VM|SIGCHLD <unfinished ...>",
        "12 setsid() = 12",
        "11 +++ killed by SIGKILL +++",
    )
    assert tree(events) == {1: None, 2: 1, 3: 2}
    assert only(events, Create)[1].args[0] == CLONE_VM | 17
    assert warnings == [f"{tmp_path / 'log'}:3: a creation whose result the log does not show"]


def test_an_interrupted_creation_counts_once(tmp_path: Path) -> None:
    events, _ = log(
        tmp_path,
        "10 clone(child_stack=NULL, flags=SIGCHLD) = ? ERESTARTNOINTR (To be restarted)",
        "10 --- SIGALRM {si_signo=SIGALRM, si_code=SI_KERNEL} ---",
        "10 clone(child_stack=NULL, flags=SIGCHLD) = 11",
        "10 restart_syscall(<... resuming interrupted read ...>) = 0",
    )
    assert len(only(events, Create)) == 1
    assert only(events, Fail) == []


def test_a_pid_that_is_used_again_is_another_task(tmp_path: Path) -> None:
    events, _ = log(
        tmp_path, *[f"10 {FORK} = 11", "11 +++ exited with 0 +++"] * 3, f"10 {FORK} = 11", f"10 {FORK} = 11"
    )
    assert [e.child for e in only(events, Create)] == [2, 3, 4, 5, 6]
    assert [(e.task, e.why) for e in only(events, Gone)] == [(5, "lost"), (6, "ended")]


def test_the_old_form_of_an_exec_by_a_thread(tmp_path: Path) -> None:
    events, _ = log(
        tmp_path,
        "10 " + CLONE3 % ("CLONE_VM|CLONE_SIGHAND|CLONE_THREAD", "0", ""),
        '11 execve("/bin/true", ["true"], [/* 35 vars */] <pid changed to 10 ...>',
        "10 <... execve resumed> ) = 0",
    )
    exec_ = only(events, Exec)[1]
    assert (exec_.task, exec_.former_tid) == (2, 11)
    assert [(e.task, e.why) for e in only(events, Gone)] == [(1, "superseded")]
    assert [e.task for e in only(events, Exit)] == [2]


def test_signals_that_end_a_task(tmp_path: Path) -> None:
    events, _ = log(
        tmp_path,
        f"10 {FORK} = 11",
        f"10 {FORK} = 12",
        "11 --- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR, si_addr=0x10} ---",
        "11 +++ killed by SIGSEGV (core dumped) +++",
        "12 --- SIGUSR1 {si_signo=SIGUSR1, si_code=SI_USER, si_pid=10, si_uid=0} ---",
        "12 +++ killed by SIGKILL +++",
    )
    (segv,) = only(events, Signal)
    assert (segv.signal, segv.code, segv.address, segv.sender) == (11, 1, 0x10, None)
    assert [e.status for e in only(events, Exit)] == [11 | 0x80, signal.SIGKILL, 0]


def test_job_control(tmp_path: Path) -> None:
    events, _ = log(
        tmp_path,
        "10 --- stopped by SIGTSTP ---",
        "10 --- SIGCONT {si_signo=SIGCONT, si_code=SI_USER, si_pid=1, si_uid=0} ---",
        "10 --- stopped by SIGSTOP ---",
        "10 getppid() = 1",
    )
    kinds = [type(e) for e in events if isinstance(e, GroupStop | Resume)]
    assert kinds == [GroupStop, Resume, GroupStop, Resume]


def test_an_exit_without_its_line_is_known_from_the_call(tmp_path: Path) -> None:
    """strace -qqq leaves the +++ lines away."""
    events, _ = read(tmp_path / "log", START + f"10 {FORK} = 11\n11 exit_group(3) = ?\n10 exit_group(4) = ?\n")
    assert {(e.task, e.status) for e in only(events, Exit)} == {(1, 4 << 8), (2, 3 << 8)}


def test_what_the_log_cut_is_noted(tmp_path: Path) -> None:
    events, _ = log(tmp_path, '10 execve("/bin/a", ["a", "long"..., "\\n\\"\\33\\x41"], 0x1 /* 1 var */) = 0')
    assert only(events, Exec)[1].argv == ["a", "long", '\n"\x1bA']
    assert [e.what for e in only(events, Note)] == ["arguments"]


def test_one_process_without_pids(tmp_path: Path) -> None:
    events, warnings = read(
        tmp_path / "log",
        'execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0\nunshare(CLONE_NEWPID) = 0\n+++ exited with 2 +++\n',
    )
    assert [type(e) for e in events] == [Begin, Exec, Other, Exit, End]
    assert only(events, Begin)[0].tid == 0
    assert only(events, Other)[0].args == (CLONE_NEWPID,)
    assert warnings == []


STAMPS = {
    "-t": ("23:59:59", "00:00:01", 2_000_000_000),
    "-tt": ("23:59:59.000001", "00:00:00.000002", 1_000_001_000),
    "-ttt": ("1795392752.901591", "1795392753.000001", 98_410_000),
    "ns": ("1795392752.901591001", "1795392752.901591003", 2),
    "-r": ("     0.000000", "     0.000123", 123_000),
    "-tt -r": ("01:00:00.000000 (+     0.000000)", "01:00:00.000123 (+     0.000123)", 123_000),
    "-n": ("1795392752.901591 [  59]", "1795392752.901592 [  56]", 1000),
    "-i": ("1795392752.901591 [00007f9302cc1b42]", "1795392752.901592 [????????????????]", 1000),
}


@pytest.mark.parametrize(("first", "second", "t"), STAMPS.values(), ids=STAMPS)
@pytest.mark.parametrize("prefix", ["10 ", "10<sh> ", "[pid    10] ", ""])
def test_time_stamps(prefix: str, first: str, second: str, t: int, tmp_path: Path) -> None:
    """-r gives the first line the time since strace began, and a day ends at midnight."""
    lines = f'{prefix}{first} execve("/a", ["a"], 0x1) = 0\n{prefix}{second} {FORK} = 11 <0.000100>\n'
    events, _ = read(tmp_path / "log", lines)
    assert (only(events, Exec)[0].t, only(events, Create)[0].t) == (0, t)


def test_output_of_the_program_before_a_record(tmp_path: Path) -> None:
    events, _ = read(
        tmp_path / "log",
        'execve("/bin/sh", ["sh"], 0x1 /* 2 vars */) = 0\n'
        "vfork(strace: Process 11 attached\n <unfinished ...>\n"
        "hello [pid    11] setsid() = 11\n[pid    11] +++ exited with 0 +++\n<... vfork resumed>) = 11\n",
    )
    assert tree(events) == {1: None, 2: 1}
    assert only(events, Other)[0].task == 2


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("10 clone(child_stack=NULL, flags=CLO", "lines with clone that are cut off"),
        ("10 <... clone resumed>, child_tidptr=0x7f) = 11", "creations of which the log has only the end"),
        ("10 clone(child_stack=NULL, flags=SIGCHLD) = 99999999999", "creations that returned no possible pid"),
        ("9999999 clone(child_stack=NULL, flags=SIGCHLD) = 4", "lines that name a creation and are not understood"),
        ("?? fork( ??", "lines that name a creation and are not understood"),
        (
            "10 clone(child_stack=NULL, flags=SIGCHLD) = -1 EWHAT (?)",
            "creations that failed with an error of unknown name",
        ),
        ("12 setsid() = 12", "a task whose creation the log does not show"),
    ],
)
def test_what_is_not_understood_is_counted(line: str, warning: str, tmp_path: Path) -> None:
    _, warnings = log(tmp_path, line, line)
    assert any(text.startswith(f"{tmp_path / 'log'}:2: {warning}") for text in warnings)


def test_creations_that_never_return_do_not_hold_the_rest_back(tmp_path: Path) -> None:
    lines = ["10 vfork( <unfinished ...>", *[f"11 unshare({i}) = 0" for i in range(20_011)]]
    path = tmp_path / "log"
    path.write_text(START + "\n".join(lines) + "\n")
    trace = open_any(path)
    assert any(isinstance(event, Other) for event in trace)
    trace.close()
    events, _ = log(tmp_path, *lines)
    assert len(only(events, Other)) == 20_011
    assert tree(events) == {1: None, 2: 1}


@pytest.mark.parametrize(
    "mark", [" (INJECTED)", " (INJECTED) (DELAYED)", " (INJECTED: args, retval)", " (INJECTED) <0.1>"]
)
def test_what_strace_injected_is_no_answer_of_the_kernel(mark: str, tmp_path: Path) -> None:
    """strace --inject=CALL:error= and :retval=: no task is made, no image runs, nothing is unshared."""
    failed = " = -1 EAGAIN (Resource temporarily unavailable)" + mark
    events, _ = log(
        tmp_path,
        f"10 {FORK}{failed}",
        '10 execve("/bin/a", ["a"], 0x1 /* 1 var */)' + failed,
        f"10 unshare(CLONE_NEWPID){failed}",
        f"10 vfork() = 44{mark}",
        f"10 {FORK} = 0{mark}",
        '10 execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0' + mark,
        f"10 unshare(CLONE_NEWPID) = 0{mark}",
        f"10 exit_group(5) = 0{mark}",
        f"10 {FORK} = 11",
        f"10 {FORK} = -1 EAGAIN (Resource temporarily unavailable)",
    )
    assert [(e.errno, e.injected) for e in only(events, Fail)] == [(11, True), (11, False)]
    assert [(e.errno, e.injected) for e in only(events, ExecFail)] == [(11, True)]
    assert [(e.result, e.injected) for e in only(events, Other)] == [(-11, True), (0, True)]
    assert [(e.tid, e.ns_tids) for e in only(events, Create)] == [(11, None)]
    assert len(only(events, Exec)) == 1
    assert [e.what for e in only(events, Note)] == [
        f"what {call} by 10 would have done" for call in ("vfork", "clone", "execve")
    ]
    built_trace = built(open_any(tmp_path / "log"))
    refused, real = built_trace.failures
    assert [reason.rule for reason in refused.reasons] == ["injected"]
    assert "injected" not in [reason.rule for reason in real.reasons]
    assert built_trace.tasks[TaskId(1)].calls[1].injected


@pytest.mark.parametrize(
    ("mark", "warning"),
    [("(DELAYED)", "calls that strace delayed"), ("(INJECTED: args)", "calls whose arguments in memory strace")],
)
def test_what_else_strace_did_to_a_call_is_said(mark: str, warning: str, tmp_path: Path) -> None:
    events, warnings = log(tmp_path, f"10 {FORK} = 11 {mark}", f"10 {FORK} = -1 EAGAIN (x) {mark}")
    assert [e.tid for e in only(events, Create)] == [11]
    assert [e.injected for e in only(events, Fail)] == [False]
    assert any(text.startswith(f"{tmp_path / 'log'}:2: {warning}") for text in warnings)


def test_pids_that_strace_translated(tmp_path: Path) -> None:
    """strace --decode-pids=pidns adds its own number of a pid that a call returned."""
    events, _ = log(tmp_path, f"10 {FORK} = 2 /* 11 in strace's PID NS */", "11 +++ exited with 0 +++")
    (create,) = only(events, Create)
    assert (create.tid, create.ns_tids) == (11, [11, 2])


def test_the_notices_of_strace_4_5(tmp_path: Path) -> None:
    """It told of attaching, of waiting for the parent, and of wait calls that it suspended, amid the calls."""
    events, warnings = read(
        tmp_path / "log",
        """\
execve("/bin/a", ["a"], [/* 1 var */]) = 0
clone(Process 4221 attached (waiting for parent)
Process 4221 resumed (parent 4220 ready)
child_stack=0, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0xb7f) = 4221
[pid  4220] waitpid(-1, Process 4220 suspended
 <unfinished ...>
[pid  4221] _exit(1)                    = ?
Process 4220 resumed
Process 4221 detached
<... waitpid resumed> [{WIFEXITED(s) && WEXITSTATUS(s) == 1}], 0) = 4221
--- SIGCHLD (Child exited) @ 0 (0) ---
vfork(Process 4222 attached (waiting for parent)
Process 4222 resumed (parent 4220 ready)
)                                 = 4222
[pid  4222] exit_group(3)               = ?
Process 4222 detached
_exit(5)                                = ?
""",
    )
    assert tree(events) == {1: None, 2: 1, 3: 1}
    assert [e.tid for e in only(events, Begin)] == [4220]
    assert [(e.tid, e.args[:1]) for e in only(events, Create)] == [(4221, (CLONE_CHILD_CLEARTID | 17,)), (4222, ())]
    assert [(e.task, e.status) for e in only(events, Exit)] == [(2, 1 << 8), (3, 3 << 8), (1, 5 << 8)]
    assert warnings == []


def test_the_parent_ready_names_the_first_task(tmp_path: Path) -> None:
    """Where no line has a pid, the notices do."""
    events, _ = read(
        tmp_path / "log",
        'execve("/bin/a", ["a"], [/* 1 var */]) = 0\nfork(Process 21 attached\nProcess 21 resumed (parent 20 ready)\n'
        ") = 21\nProcess 20 suspended\nProcess 20 resumed\n_exit(0) = ?\n",
    )
    assert [e.tid for e in only(events, Begin)] == [20]
    assert [(e.task, e.tid) for e in only(events, Create)] == [(1, 21)]


@pytest.mark.parametrize("text", ["loading...", "loading", "1 2 3 ", "a(b) ", "?"])
def test_text_of_the_program_before_a_record_without_a_pid(text: str, tmp_path: Path) -> None:
    events, warnings = read(
        tmp_path / "log",
        f"""\
execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0
{text}clone(child_stack=NULL, flags=SIGCHLDstrace: Process 11 attached
) = 11
[pid    10] wait4(-1,  <unfinished ...>
{text}[pid    11] +++ exited with 3 +++
{text}<... wait4 resumed>[{{WIFEXITED(s) && WEXITSTATUS(s) == 3}}], 0, NULL) = 11
{text}vfork()                         = 12
{text}23:59:59.5 clone3({{flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD, stack=NULL, stack_size=0}}, 88) = 13
{text}exit_group(7) = ?
{text}+++ exited with 7 +++
""",
    )
    assert [(e.task, e.tid, e.nr) for e in only(events, Create)] == [(1, 11, 56), (1, 12, 58), (1, 13, 435)]
    assert [e.status for e in only(events, Exit)] == [3 << 8, 7 << 8]
    assert warnings == []


def test_what_a_call_was_given_is_no_record(tmp_path: Path) -> None:
    """Nor is what stands in quotes behind a name that no call has."""
    events, _ = read(
        tmp_path / "log",
        'execve("/bin/a", ["a"], 0x1 /* 1 var */) = 0\nwrite(1, "clone(child_stack=NULL, flags=SIGCHLD) = 11", 9) = 9\n'
        'recvfoo("vfork() = 12") = 1\n',
    )
    assert only(events, Create) == []
