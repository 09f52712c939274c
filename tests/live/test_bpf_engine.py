"""The bpf engine says the same as the ptrace engine, event by event, and leaves nothing in the kernel."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bpf_here import needed
from oracles.engines import differences, stack_differences
from tracing import ENVIRONMENT, FORKLORE, Program, said

from forklore.abi.arch import Arch
from forklore.events import jsonl
from forklore.events import records as ev
from forklore.linux.bpf.hooks import Hooks
from forklore.linux.proc import machine
from forklore.sources.bpf.kernel import functions

PROGRAMS = [
    tuple(line.split())
    for line in """\
clone3_sizes
clone_fn
clone_parent
container_style
deep_chain 7
die_early 23 child
exec_chain
exec_nonleader others
exec_nonleader leader-alive
exec_nonleader leader-gone
exec_nonleader leader
execveat_forms
exit_signal_usr1
exit_signal_zero
falls segv
falls abort
flag_io with set
flag_newpid with
flag_newtime with
flag_parent with
flag_sysvsem with
fork_tree
guest_image memfd
kills kill
kills pidfd
later_exec files
leader_exits_first
pidns
posix_spawn_one
set_tid
setsid_daemon
subreaper
threads_exit_group
thread_vfork
thread_names
untraced
vfork_exec
""".splitlines()
]
"""With the quirks of each kind; scripts/compare --suite --oracle engines takes all of them."""
COMMANDS = (
    ("sh", "-c", "true | cat; (exit 3); exec ls /dev/null"),
    ("git", "--version"),
    ("perl", "-e", "system('true'); exit 3"),
    (sys.executable, "-S", "-c", "import subprocess, threading; subprocess.run('true'); threading.Thread().start()"),
)


@pytest.fixture(autouse=True)
def _bpf() -> None:
    needed()


def both(folder: Path, *command: str) -> list[str]:
    traces = []
    for engine in ("ptrace", "bpf"):
        file = folder / f"{engine}.jsonl"
        done = subprocess.run(
            [*FORKLORE, "run", "--engine", engine, "--no-stack", "-q", "-o", str(file), "--", *command],
            capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert file.exists(), done.stderr
        traces.append((done.returncode, list(jsonl.read(str(file)))))
    (one, theirs), (other, ours) = traces
    assert one == other
    return list(differences(theirs, ours))


@pytest.mark.parametrize("words", PROGRAMS, ids=" ".join)
def test_a_program_is_told_alike(words: tuple[str, ...], program: Program, tmp_path: Path) -> None:
    assert both(tmp_path, str(program(words[0])), *words[1:]) == []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: Path(command[0]).name)
def test_a_command_is_told_alike(command: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} on this machine")
    assert both(tmp_path, *command) == []


def test_the_header_says_which_engine_it_was_and_what_it_does_not_see(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    subprocess.run(
        [*FORKLORE, "run", "--engine", "bpf", "-q", "-o", str(file), "--", "true"], check=True, env=ENVIRONMENT
    )
    header = json.loads(file.read_text().splitlines()[0])
    assert header["options"]["engine"] == "bpf"
    assert any("copied on write" in each["what"] for each in header["blind"])
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("option", ["--cow", "--vfork-writes", "--stops=events"])
def test_what_needs_held_tasks_is_refused_with_its_reason(option: str) -> None:
    done = subprocess.run(
        [*FORKLORE, "run", "--engine", "bpf", option, "--", "true"], capture_output=True, text=True, env=ENVIRONMENT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 125
    assert "--engine ptrace does" in done.stderr


def test_a_ring_that_is_too_small_loses_what_it_counts(tmp_path: Path, program: Program) -> None:
    file = tmp_path / "trace.jsonl"
    done = subprocess.run(
        [*FORKLORE, "run", "--engine", "bpf", "--buffer", "4K", "-q", "-o", str(file), "--",
         str(program("many_threads")), "997"],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = list(jsonl.read(str(file)))
    lost = sum(int(note.what.split()[0]) for note in events if isinstance(note, ev.Note) and "records" in note.what)
    assert lost > 0
    made = sum(isinstance(event, (ev.Create, ev.Begin)) for event in events)
    assert made <= 998
    shown = subprocess.run([*FORKLORE, "show", str(file)], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert "records of the kernel's events" in shown.stdout


def test_the_arguments_of_an_exec_are_whole_however_many_there_are(tmp_path: Path) -> None:
    many = ["/bin/true", *(f"argument {number}" for number in range(3001)), "x" * 20011]
    assert both(tmp_path, *many) == []


def test_nothing_is_left_in_the_kernel_after_a_kill(tmp_path: Path) -> None:
    bpftool = shutil.which("bpftool", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if bpftool is None:
        pytest.skip("no bpftool on this machine (package: bpftool)")

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with subprocess.Popen(
        [*FORKLORE, "run", "--engine", "bpf", "-q", "--", "sh", "-c", f"echo up > {fifo}; exec cat {fifo}"],
        env=ENVIRONMENT, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            assert fifo.read_text() == "up\n"
            before = held_by(process.pid)
            assert before
            process.kill()
            process.wait(timeout=60)
            assert left(bpftool, before) == set()
        finally:
            os.killpg(process.pid, signal.SIGKILL)


Ids = set[tuple[str, int]]
"""BPF programs and maps by the kernel's numbers."""


def held_by(pid: int) -> Ids:
    """What a process holds."""
    lines = (line for entry in Path(f"/proc/{pid}/fdinfo").iterdir() for line in entry.read_text().splitlines())
    fields = (line.partition(":") for line in lines)
    return {(name[:-3], int(value)) for name, _, value in fields if name in ("prog_id", "map_id")}


def there(bpftool: str) -> Ids:
    """All of the kernel's."""
    found: Ids = set()
    for kind in ("prog", "map"):
        listed = subprocess.run([bpftool, "-j", kind, "list"], capture_output=True, text=True, check=True)
        found |= {(kind, each["id"]) for each in json.loads(listed.stdout or "[]")}
    return found


def left(bpftool: str, ids: Ids) -> Ids:
    """Which are still there when the kernel has had time: it frees them some RCU periods after the last use."""
    until = time.monotonic() + 10
    while (still := ids & there(bpftool)) and time.monotonic() < until:
        pass
    return still


def test_a_program_that_traces_is_not_in_the_way(program: Program, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("no strace on this machine")
    file = tmp_path / "trace.jsonl"
    done = subprocess.run(
        [*FORKLORE, "run", "--engine", "bpf", "-q", "-o", str(file), "--",
         "strace", "-f", "-o", "/dev/null", str(program("fork_tree")), "3", "2"],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [line for line in said(done.stdout) if line.word == "ok"]
    made = [event for event in jsonl.read(str(file)) if isinstance(event, ev.Create)]
    assert len(made) >= 12


@pytest.mark.parametrize(
    "words", [("execfail_variants",), ("clone_failures",), ("unshare_setns",), ("later_unshare", "fs")], ids=" ".join
)
def test_refused_calls_and_unsharing_are_told_alike(words: tuple[str, ...], program: Program, tmp_path: Path) -> None:
    found = both(tmp_path, str(program(words[0])), *words[1:])
    # An argument that nobody has touched yet is in no memory that a program in the kernel could read.
    assert [
        line for line in found if not line.partition(": ")[2].startswith(("-ExecFail", "+ExecFail", "@@", "---", "+++"))
    ] == []


REFUSED = """
import ctypes, os, resource
if os.geteuid() == 0:
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
library = ctypes.CDLL(None)
for number in (57, 58):
    assert library.syscall(number) == -1
os.setsid()
try:
    os.setsid()
except PermissionError:
    pass
else:
    raise SystemExit("a leader of a group made a session")
"""
"""fork(2), vfork(2) and setsid(2) by their numbers on x86_64: C libraries fork by clone."""


def test_refused_calls_without_arguments_are_told_alike(tmp_path: Path) -> None:
    if machine() is not Arch.X86_64:
        pytest.skip("fork and vfork are calls of their own on x86_64 alone")
    assert both(tmp_path, sys.executable, "-S", "-c", REFUSED) == []


def test_the_kernel_has_each_function_by_which_refused_calls_are_seen() -> None:
    arch = machine()
    assert arch is not None
    with Hooks() as hooks:
        assert [name for _call, name in functions(arch) if hooks.function(name) is None] == []


@pytest.mark.parametrize(
    "words", [("stack_shapes", "vfork"), ("stack_shapes", "pthread"), ("stack_calls",)], ids=" ".join
)
def test_stacks_are_those_that_ptrace_reads(words: tuple[str, ...], program: Program, tmp_path: Path) -> None:
    traces = []
    for engine in ("ptrace", "bpf"):
        file = tmp_path / f"{engine}.jsonl"
        command = [
            *FORKLORE,
            "run",
            "--engine",
            engine,
            "-q",
            "-o",
            str(file),
            "--",
            str(program(words[0])),
            *words[1:],
        ]
        subprocess.run(command, env=ENVIRONMENT, check=True, timeout=60, stdout=subprocess.DEVNULL)
        traces.append(list(jsonl.read(str(file))))
    assert list(stack_differences(*traces)) == []
    assert any(isinstance(event, ev.Stack) and len(event.frames) > 3 for event in traces[1])


@pytest.mark.parametrize("verb", ["attach", "watch"])
def test_what_runs_already_is_followed_and_goes_on(verb: str, tmp_path: Path) -> None:
    go, file = tmp_path / "go", tmp_path / "trace.jsonl"
    os.mkfifo(go)
    script = f"read line < {go}; /bin/true; exit 3"
    with subprocess.Popen(["sh", "-c", script]) as target:
        who = [str(target.pid), "--engine", "bpf"] if verb == "attach" else ["--pid", str(target.pid)]
        with subprocess.Popen(
            [*FORKLORE, verb, *who, "--log", "-o", str(file)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
        ) as tracer:
            assert tracer.stderr is not None
            while "attached" not in (line := tracer.stderr.readline()):
                assert line, "it ended before it had begun"
            go.write_text("go\n")
            assert target.wait(timeout=60) == 3
            assert tracer.wait(timeout=60) == 0
    events = list(jsonl.read(str(file)))
    (begin,) = [event for event in events if isinstance(event, ev.Begin)]
    assert (begin.tid, begin.how) == (target.pid, "attached")
    assert [event.path for event in events if isinstance(event, ev.Exec)] == ["/bin/true"]
    assert {event.status for event in events if isinstance(event, ev.Exit) and event.task == begin.task} == {3 << 8}
    stacks = {event.stack: event for event in events if isinstance(event, ev.Stack)}
    (made,) = [event for event in events if isinstance(event, ev.Create)]
    assert made.stack is not None
    assert len(stacks[made.stack].frames) > 1, "who made it is told as in a run"


def test_a_filter_lets_through_whom_it_names(tmp_path: Path) -> None:
    name = f"w{os.getpid()}"
    link, file = tmp_path / name, tmp_path / "trace.jsonl"
    shell = shutil.which("sh")
    assert shell is not None
    link.symlink_to(shell)
    up, go = tmp_path / "up", tmp_path / "go"
    os.mkfifo(up)
    os.mkfifo(go)
    with subprocess.Popen([str(link), "-c", f"echo > {up}; read line < {go}; /bin/true; exit 0"]) as target:
        up.read_text()
        with subprocess.Popen(
            [*FORKLORE, "watch", "--comm", name, "--log", "-o", str(file)], env=ENVIRONMENT, stderr=subprocess.PIPE,
            text=True,
        ) as tracer:  # fmt: skip
            assert tracer.stderr is not None
            while "attached" not in (line := tracer.stderr.readline()):
                assert line, "it ended before it had begun"
            go.write_text("go\n")
            assert target.wait(timeout=60) == 0
            while "exit" not in (line := tracer.stderr.readline()):
                assert line, "it ended before the program had"
            tracer.send_signal(signal.SIGINT)
            assert tracer.wait(timeout=60) == 0
    begun = [event for event in jsonl.read(str(file)) if isinstance(event, ev.Begin)]
    assert [event.tid for event in begun] == [target.pid]


def test_auto_says_why_it_took_ptrace(tmp_path: Path) -> None:
    for options, engine in (((), "bpf"), (("--cow",), "ptrace")):
        file = tmp_path / f"{engine}.jsonl"
        command = [*FORKLORE, "run", "--engine", "auto", *options, "-q", "-o", str(file), "--", "true"]
        subprocess.run(command, check=True, env=ENVIRONMENT)
        told = json.loads(file.read_text().splitlines()[0])["options"]
        assert told["engine"] == engine
        assert ("--cow" in told.get("engine_why", "")) is (engine == "ptrace")


def test_a_debugger_runs_its_program_under_it(program: Program) -> None:
    if shutil.which("gdb") is None:
        pytest.skip("no gdb on this machine")
    done = subprocess.run(
        [*FORKLORE, "run", "--engine", "bpf", "-q", "--",
         "gdb", "-q", "-batch", "-nx", "-ex", "run", str(program("fork_tree"))],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False,
    )  # fmt: skip
    assert "exited normally" in done.stdout, done.stderr
