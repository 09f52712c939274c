"""``forklore attach``: every thread of running programs, which notice nothing of it (tests/programs/attach_*.c)."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest
from tracing import ENVIRONMENT, FORKLORE, TIMEOUT, Done, Line, Program, bare, said, until_event

import forklore
from forklore.abi import syscalls
from forklore.abi.units import TaskId, Tid, Unavailable
from forklore.events import jsonl
from forklore.events import records as ev
from forklore.linux.libc import function
from forklore.linux.observe import state
from forklore.linux.proc import number, status
from forklore.linux.tasks import PF_KTHREAD
from forklore.model.build import built
from forklore.model.tasks import Trace

WAYS: Final = {
    "--duration": None, "SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP,
    "SIGKILL": signal.SIGKILL,
}  # fmt: skip


SIGQUEUE: Final = function("sigqueue", ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)


class Running:
    """A program that answers to its standard input."""

    interrupted = False
    """Whether it was stopped, which interrupts some calls (signal(7))."""

    def __init__(self, *command: str | os.PathLike[str]) -> None:
        self.process = subprocess.Popen(
            [os.fspath(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            process_group=0,  # in an orphaned one SIGTSTP would stop nothing
        )  # fmt: skip
        self.pid = self.hear("ready").number("pid")

    def hear(self, word: str) -> Line:
        """The next line, which has to begin with ``word``; where ``interrupted``, a waiting call may have returned."""
        assert self.process.stdout is not None
        while True:
            (line,) = said(self.process.stdout.readline())
            if line.word == word:
                return line
            assert self.interrupted
            assert (line.word, line["errno"]) == ("waited", "EINTR")

    def tell(self, command: str) -> None:
        """Send a byte."""
        assert self.process.stdin is not None
        self.process.stdin.write(command)
        self.process.stdin.flush()

    def ask(self, command: str, word: str) -> Line:
        """Send a byte, and what is said then."""
        self.tell(command)
        return self.hear(word)

    def end(self) -> list[Line]:
        """End its input; it has to end well. What it said then."""
        out, _ = self.process.communicate(timeout=TIMEOUT)
        assert self.process.returncode == 0
        lines = said(out)
        assert lines[-1].word == "ok"
        return lines


@contextmanager
def running(*command: str | os.PathLike[str]) -> Iterator[Running]:
    """A program, until the block ends or fails."""
    program = Running(*command)
    try:
        yield program
    finally:
        assert program.process.stdout is not None
        if not program.process.stdout.closed:
            program.process.kill()
            program.process.communicate()


_STARTED: Final[list[subprocess.Popen[str]]] = []


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    """Of a test that failed."""
    yield
    while _STARTED:
        process = _STARTED.pop()
        if process.poll() is None:
            process.kill()
            process.communicate()


class Attached:
    """``forklore attach`` with all tasks attached to."""

    def __init__(self, file: Path, *arguments: object) -> None:
        self.file = file
        self.process = subprocess.Popen(
            [*FORKLORE, "attach", "-o", file, *map(str, arguments)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        )
        _STARTED.append(self.process)
        until_event(file, "begin")

    def leave(self, number: int | None = signal.SIGINT) -> Done:
        """End it by a signal (None: by itself), and how it ended."""
        if number is not None:
            self.process.send_signal(number)
        _, err = self.process.communicate(timeout=TIMEOUT)
        return Done(self.process.returncode, "", err)

    def trace(self) -> Trace:
        return forklore.load(self.file)

    def begins(self) -> list[ev.Begin]:
        return [event for event in jsonl.read(self.file) if isinstance(event, ev.Begin)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


def tracer_of(tid: int) -> int | None:
    """None: it has ended."""
    fields = status(tid)
    return None if isinstance(fields, Unavailable) else number(fields, b"TracerPid")


def threads(pid: int) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{pid}/task")}


def state_of(tid: int) -> str:
    found = state(Tid(tid))
    assert not isinstance(found, Unavailable), found.why
    return found.state


def until_state(tid: int, letters: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while state_of(tid) not in letters:
        assert time.monotonic() < deadline, f"{tid} is in state {state_of(tid)}, not in one of {letters}"
        time.sleep(0.002)


@pytest.mark.parametrize("way", WAYS)
def test_waiting_calls_go_on(way: str, program: Program, file: Path) -> None:
    """Neither coming nor going interrupts them, and what is made meanwhile is seen with all that is known of it."""
    with running(program("attach_waits")) as guest:
        before = threads(guest.pid)
        attached = Attached(file, guest.pid, *(["--duration", "5"] if way == "--duration" else []))
        assert {tracer_of(tid) for tid in before} != {0}
        made = guest.ask("c", "created")
        until_event(file, "exit", 2)  # what is not written yet is lost with a tracer that is killed
        done = attached.leave(WAYS[way])
        assert done.status == (-signal.SIGKILL if way == "SIGKILL" else 0), done.err
        assert {tracer_of(tid) for tid in threads(guest.pid)} == {0}
        unseen = guest.ask("c", "created")
        lines = guest.end()
        waited = {line["call"]: line["errno"] for line in lines if line.word == "waited"}
        assert waited == dict.fromkeys(("epoll", "semop", "futex", "sleep", "read"), "0")
    trace = attached.trace()
    assert trace.end_reason == {"--duration": "time", "SIGKILL": None}.get(way, "interrupted")
    old = {task.tid for task in trace.tasks.values() if task.how == "attached"}
    assert old == before
    new = {int(task.tid): task for task in trace.tasks.values() if task.how != "attached"}
    assert set(new) == {made.number("process"), made.number("thread")}
    assert unseen.number("process") not in new
    process, thread = new[made.number("process")], new[made.number("thread")]
    assert (process.kind, thread.kind) == ("process", "thread")
    for task in (process, thread):
        assert task.creator is not None
        assert trace.tasks[task.creator].tid == guest.pid
        assert task.creation is not None
        assert task.stack is not None
        assert isinstance(task.kcmp, tuple)
    assert process.death is not None
    assert process.death.code == 3


def test_until_the_program_ends(program: Program, file: Path) -> None:
    with running(program("attach_waits")) as guest:
        attached = Attached(file, guest.pid)
        guest.end()
        done = attached.leave(None)
    assert done.status == 0
    trace = attached.trace()
    assert trace.end_reason == "done"
    assert all(task.death is not None and task.death.code == 0 for task in trace.tasks.values())
    shown = bare(*FORKLORE, "show", file)
    printed = done.err.splitlines()
    assert printed[-1].startswith("Recorded in ")
    assert shown.out.splitlines() == printed[:-1]


def test_every_thread_of_a_program_that_keeps_making_more(program: Program, tmp_path: Path) -> None:
    for turn in range(5):
        with running(program("attach_births"), "5", "4") as guest:
            attached = Attached(tmp_path / f"{turn}.jsonl", "-q", "--no-stack", guest.pid)
            guest.ask("h", "resting")
            alive = threads(guest.pid)
            untraced = [tid for tid in alive if tracer_of(tid) == 0]
            guest.process.send_signal(signal.SIGTERM)
            guest.end()
            assert attached.leave(None).status == 0
        trace = attached.trace()
        seen = {task.tid for task in trace.tasks.values()}
        assert untraced == []
        assert alive <= seen
        assert trace.end_reason == "done"
        assert [task for task in trace.tasks.values() if task.death is None] == []
        assert [task for task in trace.tasks.values() if task.how == "adopted"] == []


_FIFTY_TIMES: Final = """if True:
    import os, signal, sys
    from forklore.abi.units import Pid
    from forklore.events import records as ev
    from forklore.sources.ptrace.attach import Attachment
    from forklore.sources.ptrace.options import Options, Stops
    from forklore.sources.source import nothing_to_do

    for turn in range(50):
        seen = []
        pids, seconds = [Pid(int(sys.argv[1]))], 0.01 * (turn % 4 + 1)
        attachment = Attachment(pids, Options(stops=Stops.EVENTS, stack_depth=0), seconds=seconds)
        reason = attachment.run(seen.append, nothing_to_do)
        assert reason == "time", reason
        assert attachment.refused == [], attachment.refused
        begun = {event.task for event in seen if isinstance(event, (ev.Begin))}
        begun |= {event.child for event in seen if isinstance(event, ev.Create)}
        over = {event.task for event in seen if isinstance(event, (ev.Exit, ev.Gone))}
        assert begun == over, (begun, over)

    # How many execs fall into such windows is the machine's business; this one is open until there was one.
    def until_an_exec(event):
        if isinstance(event, ev.Exec):
            os.kill(os.getpid(), signal.SIGINT)

    attachment = Attachment(pids, Options(stops=Stops.EVENTS, stack_depth=0), seconds=60)
    reason = attachment.run(until_an_exec, nothing_to_do)
    print(f"attached reason={reason}")
"""


def test_execs_while_being_attached_to(program: Program) -> None:
    """Neither waits for the other, and what executes is not lost."""
    with running(program("attach_execs"), "16") as guest:
        done = subprocess.run(
            [sys.executable, "-c", _FIFTY_TIMES, str(guest.pid)],
            env=ENVIRONMENT, capture_output=True, text=True, timeout=2 * TIMEOUT, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        (line,) = said(done.stdout)
        assert line["reason"] == "interrupted", "no exec was seen in a minute"
        guest.end()


@contextmanager
def stopped(program: Program, file: Path) -> Iterator[tuple[Running, Attached]]:
    """A program that was stopped, then attached to and seen to be stopped."""
    with running(program("attach_waits")) as guest:
        guest.interrupted = True
        os.kill(guest.pid, signal.SIGSTOP)
        until_state(guest.pid, "T")
        attached = Attached(file, guest.pid)
        until_event(file, "stop")
        yield guest, attached


def test_a_stopped_program_stays_stopped(program: Program, file: Path) -> None:
    with stopped(program, file) as (guest, attached):
        guest.tell("c")
        assert {state_of(tid) for tid in threads(guest.pid)} <= {"T", "t"}
        assert attached.leave().status == 0
        assert {state_of(tid) for tid in threads(guest.pid)} == {"T"}
        assert {tracer_of(tid) for tid in threads(guest.pid)} == {0}
        os.kill(guest.pid, signal.SIGCONT)
        guest.hear("created")
        guest.end()


def test_a_stopped_program_is_continued(program: Program, file: Path) -> None:
    with stopped(program, file) as (guest, attached):
        os.kill(guest.pid, signal.SIGCONT)
        guest.ask("c", "created")
        os.kill(guest.pid, signal.SIGTSTP)  # and stops again, as it would without us
        until_state(guest.pid, "Tt")
        os.kill(guest.pid, signal.SIGCONT)
        guest.ask("c", "created")
        guest.end()
        assert attached.leave(None).status == 0
    leader = next(task for task in attached.trace().tasks.values() if task.tid == guest.pid)
    assert leader.death is not None


def test_pending_signals_come_once(program: Program, file: Path) -> None:
    def send(value: int) -> None:
        os.kill(guest.pid, signal.SIGUSR1)
        assert SIGQUEUE(guest.pid, signal.SIGRTMIN, value) == 0

    with running(program("attach_signals")) as guest:
        for value in (1, 10):
            send(value)
        attached = Attached(file, guest.pid)
        counts = guest.ask("x", "counts")
        assert (counts["once"], counts["queued"], counts["sum"]) == ("1", "2", "11")
        send(100)
        assert attached.leave().status == 0
        counts = guest.ask("x", "counts")
        assert (counts["once"], counts["queued"], counts["sum"]) == ("2", "3", "111")
        counts = guest.ask("x", "counts")
        assert (counts["once"], counts["queued"], counts["sum"]) == ("2", "3", "111")
        guest.end()


def test_a_signal_pending_in_a_stopped_program_comes_once(program: Program, file: Path) -> None:
    with running(program("attach_signals")) as guest:
        guest.ask("x", "counts")
        guest.interrupted = True
        os.kill(guest.pid, signal.SIGSTOP)
        until_state(guest.pid, "T")
        os.kill(guest.pid, signal.SIGUSR1)
        attached = Attached(file, guest.pid)
        until_event(file, "stop")
        os.kill(guest.pid, signal.SIGCONT)
        assert guest.ask("x", "counts")["once"] == "1"
        assert attached.leave().status == 0
        assert guest.ask("x", "counts")["once"] == "1"
        guest.end()


def test_every_call_is_seen_at_a_price(program: Program, file: Path) -> None:
    with running(program("attach_waits")) as guest:
        guest.interrupted = True
        attached = Attached(file, "--syscalls", guest.pid)
        guest.ask("f", "failed")
        guest.ask("c", "created")
        assert attached.leave().status == 0
        assert {tracer_of(tid) for tid in threads(guest.pid)} == {0}
        guest.ask("f", "failed")
        guest.process.kill()
    events = list(jsonl.read(file))
    (failed,) = [event for event in events if isinstance(event, ev.Fail)]
    assert failed.errno == 22
    (other,) = [event for event in events if isinstance(event, ev.Other)]
    assert other.nr is not None
    assert syscalls.name(other.arch, other.nr) == "unshare"
    assert [event.comm for event in events if isinstance(event, ev.Name) and event.how == "prctl"] == ["renamed"]
    assert len([event for event in events if isinstance(event, ev.Create)]) == 2


def test_what_is_out_of_sight_is_said(program: Program, file: Path) -> None:
    with running(program("attach_waits")) as guest:
        attached = Attached(file, guest.pid)
        guest.ask("f", "failed")
        guest.end()
        attached.leave(None)
    header = attached.trace().header
    assert [blind for blind in header.blind if "fail" in blind.what and "--syscalls" in blind.why]
    assert not [event for event in jsonl.read(file) if isinstance(event, (ev.Fail, ev.Other))]


def test_what_they_share_already(program: Program, file: Path) -> None:
    """The same groups as `inspect` finds."""
    with running_tree(program("sharing_partly")) as pid:
        attached = Attached(file, "--tree", pid)
        inspected = json.loads(bare(*FORKLORE, "inspect", "--format", "json", "--tree", str(pid)).out)
        assert attached.leave().status == 0
    wanted: dict[str, set[frozenset[int]]] = {}
    for name in ev.COMPARED:
        letters: dict[str, set[int]] = {}
        for process in inspected["processes"]:
            for task in process["tasks"]:
                if isinstance(task[name], str):
                    letters.setdefault(task[name], set()).add(task["tid"])
        wanted[name] = {frozenset(tids) for tids in letters.values()}
    trace = built(jsonl.read(file), sharing=True)
    begins = attached.begins()
    tid_of = {begin.task: begin.tid for begin in begins}
    assert len(begins) == sum(len(process["tasks"]) for process in inspected["processes"])
    for name in ev.COMPARED:
        groups: dict[int, set[int]] = {}
        for begin in begins:
            assert begin.together is not None
            if name in begin.together:
                groups.setdefault(begin.together[name], set()).add(begin.tid)
        assert {frozenset(tids) for tids in groups.values()} == wanted[name], name
        assert all(tid_of[first] in tids for first, tids in groups.items())
    # And so in the model, which knows each hold.
    assert trace.sharing is not None
    for begin in begins:
        hold = trace.sharing.holdings.holds(TaskId(begin.task))["mm"][0]
        assert hold.how == "kcmp"


@contextmanager
def running_tree(command: Path) -> Iterator[int]:
    process = subprocess.Popen([command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for text in process.stdout:
            (line,) = said(text)
            if line.word == "ready":
                yield line.number("pid")
                break
        process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def attach(*arguments: object) -> Done:
    return bare(*FORKLORE, "attach", "--duration", "1", *map(str, arguments))


def test_a_thread_stands_for_its_process(program: Program, file: Path) -> None:
    with running(program("attach_waits")) as guest:
        attached = Attached(file, max(threads(guest.pid)), guest.pid)
        attached.leave()
        assert {begin.tgid for begin in attached.begins()} == {guest.pid}
        assert {begin.tid for begin in attached.begins()} == threads(guest.pid)
        assert len(attached.begins()) == len(threads(guest.pid))
        guest.end()


def test_a_missing_process() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = attach(gone.pid)
    assert done.status == 125
    assert done.err.startswith("forklore: nothing to attach to: ")
    assert str(gone.pid) in done.err


def test_a_zombie() -> None:
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    done = attach(zombie.pid)
    zombie.wait()
    assert done.status == 125
    assert "ended" in done.err


def test_a_traced_process(program: Program, file: Path) -> None:
    with running(program("attach_waits")) as guest:
        attached = Attached(file, guest.pid)
        done = attach(guest.pid)
        assert done.status == 125
        assert f"{guest.pid} is traced by {tracer_of(guest.pid)} already" in done.err
        attached.leave()
        guest.end()


def test_itself() -> None:
    done = bare("sh", "-c", f"exec {' '.join(FORKLORE)} attach --duration 1 $$")
    assert done.status == 125
    assert "forklore itself" in done.err


def test_a_thread_of_the_kernel() -> None:
    for pid in psutil.pids():
        found = state(Tid(pid))
        if not isinstance(found, Unavailable) and found.flags & PF_KTHREAD:
            break
    else:
        pytest.skip("no thread of the kernel is visible in this pid namespace")
    done = attach(pid)
    assert done.status == 125
    assert "thread of the kernel" in done.err


def test_some_of_several(program: Program, file: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with running(program("attach_waits")) as guest:
        attached = Attached(file, gone.pid, guest.pid)
        done = attached.leave()
        guest.end()
    assert done.status == 0
    assert f"not attached to: ESRCH: there is no task {gone.pid}" in done.err


_PYTHON: Final = """if True:
    import os, subprocess, sys, threading, concurrent.futures
    pool = concurrent.futures.ThreadPoolExecutor(4)
    print(f"ready pid={os.getpid()}", flush=True)
    for line in iter(lambda: sys.stdin.read(1), ""):
        codes = list(pool.map(lambda code: subprocess.run(["sh", "-c", f"exit {code}"]).returncode, range(8)))
        print(f"ran codes={sum(codes)}", flush=True)
    print("ok")
"""


def test_python_with_threads_and_processes(file: Path) -> None:
    with running(sys.executable, "-c", _PYTHON) as guest:
        attached = Attached(file, guest.pid)
        assert guest.ask("x", "ran")["codes"] == str(sum(range(8)))
        assert attached.leave().status == 0
        assert guest.ask("x", "ran")["codes"] == str(sum(range(8)))
        guest.end()
    trace = attached.trace()
    codes = [task.death.code for task in trace.tasks.values() if task.kind == "process" and task.death is not None]
    assert sorted(code for code in codes if code is not None) == list(range(8))
    assert all(task.images for task in trace.tasks.values() if task.kind == "process" and task.how != "attached")


@pytest.mark.parametrize("sent", [signal.SIGTRAP, signal.SIGUSR1, signal.SIGSYS, 34])
def test_a_signal_to_the_group_of_both_ends_neither(sent: int, tmp_path: Path) -> None:
    code = f"import os, signal; signal.signal({sent}, lambda *_: 0); print('ready', flush=True); input(); "
    code += f"os.kill(0, {sent}); os._exit(7)"
    pipe, trace = subprocess.PIPE, tmp_path / "trace"
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, process_group=0) as target:
        assert target.stdout is not None
        assert target.stdout.readline() == b"ready\n"
        command = [*FORKLORE, "attach", "-q", "-o", str(trace), str(target.pid)]
        with subprocess.Popen(command, env=ENVIRONMENT, process_group=target.pid) as tracer:
            until_event(trace, "begin")
            target.communicate(b"\n", timeout=TIMEOUT)
            assert (target.returncode, tracer.wait(TIMEOUT)) == (7, 0)
    assert [event.status for event in jsonl.read(trace) if isinstance(event, ev.Exit)] == [7 << 8]
