"""What is followed, to where, for how long, and that what is let go runs on unharmed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, TIMEOUT, Program, Trace_, bare, run, until_event
from tree_shape import shape

import forklore


@pytest.mark.parametrize(
    ("options", "depths"),
    [
        (["--max-depth=1"], {0: 1, 1: 2}),
        (["--max-depth=2"], {0: 1, 1: 2, 2: 4}),
        (["--max-depth=9"], {0: 1, 1: 2, 2: 4, 3: 8}),
        (["--follow=none"], {0: 1}),
        (["--follow=threads"], {0: 1}),
        (["--follow=processes"], {0: 1, 1: 2, 2: 4, 3: 8}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("stops", ["events", "syscalls"])
def test_to_a_depth(options: list[str], depths: dict[int, int], stops: str, program: Program, traced: Trace_) -> None:
    # The program makes 1 + 2 + 4 + 8 processes. Those that are followed are seen to end; their children that are not
    # followed are seen to be made and let go, and do all they would have done.
    run = traced(program("fork_tree"), "3", "2", options=[*options, f"--stops={stops}"], whole=False)
    assert (run.status, run.line("ok")["processes"]) == (0, "15")
    level = {run.root.id: 0}
    for task in run.created():
        level[task.id] = level[run.creator(task).id] + 1
    followed = [task for task in run.trace.tasks.values() if task.death is not None]
    let_go = [task for task in run.trace.tasks.values() if task.death is None]
    assert {d: sum(level[t.id] == d for t in followed) for d in {level[t.id] for t in followed}} == depths
    deepest = max(depths)
    assert {level[task.id] for task in let_go} <= {deepest + 1}
    assert len(let_go) == (0 if deepest == 3 else 2 ** (deepest + 1))
    said = {line.number("pid"): line.number("parent") for line in run.lines("process")}
    assert all(run.creator(task).tid == said[task.tid] for task in run.created())
    assert all(not task.children for task in let_go)


@pytest.mark.parametrize(
    ("follow", "seen_to_end"), [("threads", {"thread"}), ("processes", {"process"}), ("none", set())]
)
def test_threads_or_processes_only(follow: str, seen_to_end: set[str], program: Program, traced: Trace_) -> None:
    # A process with two threads, one of which forks.
    run = traced(program("leader_exits_first"), options=[f"--follow={follow}"], whole=False)
    assert run.status == 0, run.err
    ended = {task.kind for task in run.created() if task.death is not None}
    assert ended == (seen_to_end if follow == "threads" else set())
    assert {task.kind for task in run.created()} == {"thread"} | ({"process"} if follow == "threads" else set())
    assert run.root.death is not None


def test_a_filter_that_would_harm_is_refused() -> None:
    # seccomp(2): without a tracer SECCOMP_RET_TRACE makes the call fail with ENOSYS, for every descendant, for good.
    done = run("--stops=seccomp", "--follow=none", "--", "true")
    assert (done.status, done.out) == (125, "")
    assert done.err.startswith("forklore: --stops seccomp cannot go with")
    assert "ENOSYS" in done.err
    assert "--stops events" in done.err


@pytest.mark.parametrize(
    "name", ["fork_tree", "clone_parent", "pthread_one", "vfork_exec", "exit_signal_zero", "exec_chain"]
)
def test_every_way_to_see_calls_sees_the_same_tree(name: str, program: Program, traced: Trace_) -> None:
    shapes = [shape(traced(program(name), options=[f"--stops={s}"]).trace) for s in ("seccomp", "syscalls", "events")]
    assert shapes[0] == shapes[1] == shapes[2]


DAEMON = "(read word; echo got $word; /bin/echo executed; (echo forked); true | cat; echo done)"
"""What a left-over process does once it is told to: it forks and executes."""


class LeftOver:
    """A run whose program ends at once and leaves a process that reads from ``tell`` and writes to ``heard``."""

    def __init__(self, file: Path, *options: str, stderr: int | None = None) -> None:
        asked, self.tell = os.pipe()
        self.heard, answered = os.pipe()
        # A shell gives its background jobs /dev/null for stdin, and dash knows descriptors of one digit only.
        command = f"exec 3<&0; {DAEMON} <&3 & exit 5"
        self.process = subprocess.Popen(
            [*FORKLORE, "run", "-q", "-o", file, *options, "--", "sh", "-c", command],
            stdin=asked, stdout=answered, env=ENVIRONMENT, stderr=stderr,
        )  # fmt: skip
        os.close(asked)
        os.close(answered)

    def answer(self) -> str:
        """All that comes until the left-over process and its children are gone."""
        text = b""
        while select.select([self.heard], [], [], TIMEOUT)[0]:
            data = os.read(self.heard, 4096)
            if not data:
                return text.decode()
            text += data
        raise AssertionError(f"stuck after {text!r}")


def test_what_is_left_is_killed(tmp_path: Path) -> None:
    left = LeftOver(tmp_path / "t", "--wait=root")
    assert left.process.wait(TIMEOUT) == 5
    assert left.answer() == ""  # it has ended: the pipe's other end is closed
    deaths = [task.death for task in forklore.load(tmp_path / "t").tasks.values()]
    assert [(death.code, death.signal) for death in deaths if death] == [(5, None), (None, 9)]


@pytest.mark.parametrize("stops", ["events", "syscalls"])
def test_what_is_left_goes_on(stops: str, tmp_path: Path) -> None:
    left = LeftOver(tmp_path / "t", "--wait=root", "--leave=detach", f"--stops={stops}")
    assert left.process.wait(TIMEOUT) == 5
    os.write(left.tell, b"on\n")
    assert left.answer() == "got on\nexecuted\nforked\ndone\n"
    trace = forklore.load(tmp_path / "t")
    assert [(task.gone, task.death is None) for task in trace.tasks.values()] == [(None, False), ("released", True)]


@pytest.mark.parametrize("blocked", [False, True], ids=["", "with every signal blocked"])
def test_a_signal_lets_go_of_what_is_left(blocked: bool, tmp_path: Path) -> None:
    # The program has ended and forklore stays for what it left, until it is asked to end.
    file = tmp_path / "t"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() if blocked else ())
    left = LeftOver(file, "--leave=detach")
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    until_event(file, "exit")
    left.process.terminate()
    assert left.process.wait(TIMEOUT) == 5
    os.write(left.tell, b"on\n")
    assert left.answer() == "got on\nexecuted\nforked\ndone\n"


def test_whom_it_stays_for_is_said_at_once(tmp_path: Path) -> None:
    left = LeftOver(tmp_path / "t", stderr=subprocess.PIPE)
    assert left.process.stderr is not None
    with left.process.stderr as said:
        line = said.readline().decode()
        os.write(left.tell, b"on\n")
        assert left.answer() == "got on\nexecuted\nforked\ndone\n"
        rest = said.read()
    assert left.process.wait(TIMEOUT) == 5
    root, waiting, *_ = forklore.load(tmp_path / "t").tasks.values()
    assert waiting.creator == root.id
    assert line == f"forklore: the program ended (exit 5); waiting for {waiting.tid} sh; Ctrl-C kills it and leaves\n"
    assert rest == b""


def test_by_default_forklore_stays_for_what_is_left(tmp_path: Path) -> None:
    left = LeftOver(tmp_path / "t")
    os.write(left.tell, b"on\n")
    assert left.answer() == "got on\nexecuted\nforked\ndone\n"
    assert left.process.wait(TIMEOUT) == 5
    trace = forklore.load(tmp_path / "t")
    assert all(task.death is not None for task in trace.tasks.values())
    assert trace.end_reason == "done"


def test_a_thread_that_stopped_before_its_creator_told_of_it_is_let_go(tmp_path: Path) -> None:
    # The root's end, with which all is let go, comes between the two: see reordered_run.py.
    script = (
        "import os, threading\n"
        "out, into = os.pipe()\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    thread = threading.Thread(target=os.read, args=(out, 1)); thread.start(); thread.join()\n"
        "    os.write(1, b'joined'); os._exit(0)\n"
        "while len(os.listdir(f'/proc/{pid}/task')) < 2: os.sched_yield()\n"
        "os.write(into, b'.'); os._exit(5)\n"
    )
    reordered = Path(__file__).with_name("reordered_run.py")
    options = ("-q", "-o", tmp_path / "t", "--wait=root", "--leave=detach")
    # The output is complete when all that were let go have ended.
    run = bare(sys.executable, reordered, "run", *options, "--", sys.executable, "-c", script)
    assert (run.status, run.out) == (5, "joined"), run.err
    trace = forklore.load(tmp_path / "t")
    assert [task.how for task in trace.tasks.values()] == ["root", "created", "adopted"]
    assert [task.gone for task in trace.tasks.values()] == [None, "released", "released"]


def test_threads_that_are_let_go_live_on(tmp_path: Path) -> None:
    # Each is let go at its own stop, in the middle of whatever it does; then all of them have to do more.
    asked, tell = os.pipe()
    heard, answered = os.pipe()
    script = (
        "import os, threading, subprocess\n"
        "if os.fork(): os._exit(5)\n"
        f"gate, out = {asked}, {answered}\n"
        "def one(n):\n"
        "    os.read(gate, 1); subprocess.run(['true'], check=True); os.write(out, b'.')\n"
        "threads = [threading.Thread(target=one, args=(n,)) for n in range(7)]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; os.write(out, b'ok')\n"
    )
    process = subprocess.Popen(
        [*FORKLORE, "run", "-q", "--wait=root", "--leave=detach", "--", sys.executable, "-c", script],
        pass_fds=(asked, answered), env=ENVIRONMENT,
    )  # fmt: skip
    os.close(asked)
    os.close(answered)
    assert process.wait(TIMEOUT) == 5
    os.write(tell, b"1234567")
    text = b""
    while select.select([heard], [], [], TIMEOUT)[0] and (data := os.read(heard, 100)):
        text += data
    assert text == b".......ok"
