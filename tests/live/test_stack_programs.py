"""Who made the children of programs in other languages, and what their threads run.

Each program makes every child in a function of a known name. Lines of sources are found by the words in them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tracing import Trace_, Traced

from forklore.events import records as ev
from forklore.model.attribution import Attribution
from forklore.model.names import function_name, whole_name
from forklore.model.stacks import CodePlace
from forklore.model.tasks import Task
from forklore.report.sites import sites
from forklore.report.tree.edges import Edges, own_name


def need(name: str, package: str, *elsewhere: str) -> str:
    path = shutil.which(name) or next((one for one in elsewhere if os.access(one, os.X_OK)), None)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


def line_of(source: str, words: str) -> int:
    """The number of the only line that has these words."""
    (number,) = (number for number, line in enumerate(source.splitlines(), 1) if words in line)
    return number


def compiled(*command: str | Path, folder: Path) -> None:
    surroundings = {**os.environ, "HOME": str(folder), "GOCACHE": str(folder / "cache"), "GOFLAGS": "-mod=mod"}
    for name in ("RUSTUP_HOME", "CARGO_HOME"):  # rustup's compilers are found by them, or in the real home
        surroundings.setdefault(name, str(Path.home() / f".{name.partition('_')[0].lower()}"))
    done = subprocess.run(command, cwd=folder, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Makers:
    """Who made what in a run."""

    def __init__(self, run: Traced) -> None:
        self._run = run
        self._edges = Edges(run.trace)

    def of(self, task: Task) -> Attribution:
        found = self._edges.attribution(task)
        assert found is not None
        return found

    def text(self, task: Task) -> str:
        edge = self._edges.of(task)
        return "" if edge is None else edge.text()

    def caller(self, task: Task) -> str | None:
        found = self.of(task)
        return None if found.caller is None else function_name(found.caller.place, found.caller_line)

    def by_caller(self, name: str) -> list[Task]:
        """What was made by the function whose name ends so, in the order of time."""
        return [task for task in self._run.created() if (self.caller(task) or "").endswith(name)]

    def routine(self, task: Task) -> str:
        """The function that it was given to run; empty where it has no name."""
        function = self._place(task).function
        return "" if function is None else whole_name(function)

    def runs_in(self, task: Task) -> bytes:
        """The name of the file that this function is in."""
        return self._place(task).path.rpartition(b"/")[2]

    def _place(self, task: Task) -> CodePlace:
        assert task.runs is not None
        number = task.runs.routine_place or task.runs.fn_place
        assert number is not None, task.runs
        return self._run.trace.code.places[number]


def executed(tasks: Sequence[Task], name: bytes) -> list[Task]:
    return [task for task in tasks if task.images and (task.images[-1].file or b"").rpartition(b"/")[2] == name]


PYTHON = """
import multiprocessing, os, subprocess, threading
def work():
    pass
def start_thread():
    thread = threading.Thread(target=work)
    thread.start()  # thread
    thread.join()
def run_program():
    with subprocess.Popen(["true"]):  # program
        pass
def make_fork():
    child = os.fork()  # fork
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
def start_process():
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()  # process
    process.join()
if __name__ == "__main__":
    start_thread()
    run_program()
    make_fork()
    start_process()
"""


def test_python(tmp_path: Path, traced: Trace_) -> None:
    script = tmp_path / "makes.py"
    script.write_text(PYTHON)
    run = traced(sys.executable, "-ISu", script)
    assert run.status == 0, run.err
    makers = Makers(run)
    expected = {
        "start_thread": ("thread", "threading.Thread.start", "thread.start()"),
        "run_program": ("process", "subprocess.Popen", "# program"),
        "make_fork": ("process", "", "# fork"),
        "start_process": ("process", "multiprocessing.Process.start", "process.start()"),
    }
    found: dict[str, tuple[str | None, str, int | None]] = {}
    for task in run.created():
        made = makers.of(task)
        assert made.script_frame is not None
        assert ev.raw_bytes(made.script_frame.file) == bytes(script)
        name = ev.raw_bytes(made.script_frame.function).decode().rpartition(".")[2]
        found[name] = task.kind, " → ".join(made.chain[: made.script_calls]), made.script_frame.line
    assert found == {name: (kind, call, line_of(PYTHON, words)) for name, (kind, call, words) in expected.items()}
    last = {frame_name(makers, task): makers.of(task).chain[-1] for task in run.created()}
    assert last["make_fork"] == "fork"
    assert last["start_thread"] == "pthread_create"


def frame_name(makers: Makers, task: Task) -> str:
    frame = makers.of(task).script_frame
    assert frame is not None
    return ev.raw_bytes(frame.function).decode().rpartition(".")[2]


CPP = """
#include <functional>
#include <future>
#include <thread>
static void work() {}
static void work_on(int, const char *, double) {}
static int answer() { return 42; }
struct Crew { void pull() {} };
__attribute__((noinline)) void start_thread() {
	std::thread thread(work);
	thread.join();
}
__attribute__((noinline)) void start_with_arguments() {
	std::thread(work_on, 3, "x", 0.5).join();
}
__attribute__((noinline)) void start_closure(int n) {
	std::thread([n] { work_on(n, "", 0); }).join();
}
__attribute__((noinline)) void start_method() {
	Crew crew;
	std::thread(&Crew::pull, &crew).join();
}
__attribute__((noinline)) int start_async() {
	auto result = std::async(std::launch::async, answer);
	return result.get();
}
int main() {
	start_thread();
	start_with_arguments();
	start_closure(3);
	start_method();
	return start_async() == 42 ? 0 : 1;
}
"""
CPP_THREADS = {
    "start_thread": ("std::thread", "work"),
    "start_with_arguments": ("std::thread", "work_on"),
    "start_closure": ("std::thread", "start_closure(int)::{lambda()#1}"),
    "start_method": ("std::thread", "void (Crew::*)()"),
    "start_async": ("std::async", "int (*)()"),
}
"""By who starts them: the call, and what they run. Of a method, and of what std::async was given, the type alone."""


def test_cpp(tmp_path: Path, traced: Trace_) -> None:
    (tmp_path / "makes.cpp").write_text(CPP)
    compiled(need("g++", "g++"), "-O2", "-g", "-pthread", "-o", "makes", "makes.cpp", folder=tmp_path)
    run = traced(tmp_path / "makes")
    assert run.status == 0
    makers = Makers(run)
    for caller, (call, runs) in CPP_THREADS.items():
        (task,) = makers.by_caller(caller)
        found = makers.of(task)
        assert (found.chain, found.sure) == ((call, "pthread_create"), True), found.why
        assert makers.runs_in(task) == b"makes"
        assert makers.text(task).startswith(f"{call} → pthread_create({runs}) ← {caller}")
    for caller, words in (("start_thread", "std::thread thread(work)"), ("start_async", "std::async(std::launch")):
        (task,) = makers.by_caller(caller)
        line = makers.of(task).caller_line
        assert line is not None
        assert line.line == line_of(CPP, words)

    compiled("strip", "makes", folder=tmp_path)
    run = traced(tmp_path / "makes")
    makers = Makers(run)
    assert len(run.created()) == len(CPP_THREADS)
    for task in run.created():
        # What the library gave to pthread_create is a function of its own, which is not taken for the program's.
        assert makers.runs_in(task).startswith(b"libstdc++.so")
        assert makers.text(task).startswith("std::thread → pthread_create ← makes+0x")


RUST = """
use std::process::Command;
use std::thread;
fn work() {}
#[inline(never)]
fn start_named() {
    let builder = thread::Builder::new().name("crew".into());
    builder.spawn(work).unwrap().join().unwrap(); // named
}
#[inline(never)]
fn start_thread() {
    thread::spawn(work).join().unwrap(); // thread
}
#[inline(never)]
fn start_closure(words: Vec<String>) {
    thread::spawn(move || words.len()).join().unwrap(); // closure
}
#[inline(never)]
fn run_program() {
    Command::new("/bin/true").status().unwrap(); // program
}
fn main() {
    start_named();
    start_thread();
    start_closure(std::env::args().collect());
    run_program();
}
"""


RUST_THREADS = {"start_named": "makes::work", "start_thread": "makes::work",
                "start_closure": "makes::start_closure::{closure#0}"}  # fmt: skip
OLDER_RUST_THREADS = {**RUST_THREADS, "start_named": "fn()", "start_thread": "fn()"}
"""In the older mangling only debug information tells what a closure is, and of a function no more than its type."""


@pytest.mark.parametrize("names", ["v0", "default"])
def test_rust(names: str, tmp_path: Path, traced: Trace_) -> None:
    (tmp_path / "makes.rs").write_text(RUST)
    options = ["-C", "symbol-mangling-version=v0"] if names == "v0" else []
    compiled(need("rustc", "rustc"), "-O", "-g", *options, "makes.rs", folder=tmp_path)
    older = b"_ZN5makes" in (tmp_path / "makes").read_bytes()
    run = traced(tmp_path / "makes")
    assert run.status == 0, run.err
    makers = Makers(run)
    for caller, call, last, words in (
        ("start_named", "std::thread::spawn", "pthread_create", "// named"),
        ("start_thread", "std::thread::spawn", "pthread_create", "// thread"),
        ("start_closure", "std::thread::spawn", "pthread_create", "// closure"),
        ("run_program", "std::process::Command", "", "// program"),
    ):
        (task,) = makers.by_caller(caller)
        found = makers.of(task)
        assert (found.chain[0], found.sure) == (call, True), found.why
        assert last in ("", found.chain[-1])
        assert found.caller_line is not None
        assert found.caller_line.line == line_of(RUST, words)
        assert own_name(task) == ("crew" if caller == "start_named" else "")
    assert executed(makers.by_caller("run_program"), b"true")
    assert rust_threads(makers) == (OLDER_RUST_THREADS if older else RUST_THREADS)

    compiled("strip", "--strip-debug", "makes", folder=tmp_path)
    makers = Makers(traced(tmp_path / "makes"))
    assert rust_threads(makers) == (dict.fromkeys(RUST_THREADS, "{{closure}}") if older else RUST_THREADS)


def rust_threads(makers: Makers) -> dict[str, str]:
    """By who started them, what threads run."""
    found = {}
    for caller in RUST_THREADS:
        (task,) = makers.by_caller(caller)
        call, _, rest = makers.text(task).partition("(")
        runs, _, who = rest.partition(") ← ")
        assert (call, who.partition(",")[0]) == ("std::thread::spawn → pthread_create", f"makes::{caller}")
        found[caller] = runs
    return found


GO = """package main

import (
	"os/exec"
	"runtime"
	"sync"
)

//go:noinline
func runProgram() {
	if err := exec.Command("/bin/true").Run(); err != nil { // program
		panic(err)
	}
}

//go:noinline
func lockThreads() {
	var wait sync.WaitGroup
	for i := 0; i < 3; i++ {
		wait.Add(1)
		go func() { runtime.LockOSThread(); wait.Done() }()
	}
	wait.Wait()
}

func main() {
	lockThreads()
	runProgram()
}
"""


def test_go(tmp_path: Path, traced: Trace_) -> None:
    (tmp_path / "makes.go").write_text(GO)
    go = need("go", "golang-1.19-go", "/usr/lib/go-1.19/bin/go")
    compiled(go, "build", "-o", "makes", "makes.go", folder=tmp_path)
    run = traced(tmp_path / "makes")
    assert run.status == 0, run.err
    makers = Makers(run)
    (program,) = executed(run.created(), b"true")
    found = makers.of(program)
    assert found.sure, found.why
    assert found.chain[-1] == "syscall.forkExec"
    assert found.chain[0].startswith("os/exec.(*Cmd).")
    assert makers.caller(program) == "main.runProgram"
    assert found.caller_line is not None
    assert found.caller_line.line == line_of(GO, "// program")
    # By the rules in .debug_frame, which Go's linker compresses, up to where the goroutine began.
    assert program.stack is not None
    assert program.stack.end == "outermost"
    assert [frame.place.function for frame in program.stack.frames[-3:-1]] == [b"main.main", b"runtime.main"]
    threads = [task for task in run.created() if task.kind == "thread"]
    assert threads
    for thread in threads:
        assert makers.of(thread).chain[-1] == "runtime.newm", makers.of(thread).why
        assert thread.runs is not None
        assert thread.runs.how == "go"
        assert makers.routine(thread).startswith("runtime.mstart")


NODE = """
const { spawn } = require("child_process");
const { Worker } = require("worker_threads");
function runProgram() { spawn("true"); }
new Worker("", { eval: true }).on("exit", runProgram);
"""


def test_node(tmp_path: Path, traced: Trace_) -> None:
    script = tmp_path / "makes.js"
    script.write_text(NODE)
    run = traced(need("node", "nodejs"), script)
    assert run.status == 0, run.err
    makers = Makers(run)
    (program,) = executed(run.created(), b"true")
    assert makers.of(program).chain[0] == "uv_spawn", makers.of(program).why
    workers = makers.by_caller("Worker::StartThread")
    assert len(workers) == 1, [makers.text(task) for task in run.created()]
    assert makers.of(workers[0]).chain[-1] == "pthread_create"
    assert "Worker::StartThread" in makers.routine(workers[0])


JAVA = """
public class Makes {
    static void startThread() throws Exception {
        Thread thread = new Thread(() -> {}, "crew");
        thread.start();
        thread.join();
    }
    static void runProgram() throws Exception {
        new ProcessBuilder("/bin/true").start().waitFor();
    }
    public static void main(String[] words) throws Exception {
        startThread();
        runProgram();
    }
}
"""


def test_java(tmp_path: Path, traced: Trace_) -> None:
    (tmp_path / "Makes.java").write_text(JAVA)
    package = "openjdk-17-jdk-headless"
    compiled(need("javac", package), "Makes.java", folder=tmp_path)
    options = ("-Xint", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
    run = traced(need("java", package), *options, "-cp", tmp_path, "Makes")
    assert run.status == 0, run.err
    makers = Makers(run)
    (thread,) = (task for task in run.created() if own_name(task) == "crew")
    assert makers.of(thread).chain == ("JVM_StartThread", "os::create_thread", "pthread_create")
    assert makers.runs_in(thread) == b"libjvm.so"
    assert makers.routine(thread) in ("", "thread_native_entry(Thread*)")
    (program,) = executed(run.created(), b"true")
    assert makers.of(program).chain[0] == "ProcessImpl.forkAndExec"
    # The virtual machine's own code has neither a file nor names: which method called is not known, and said so.
    for task in (thread, program):
        assert makers.text(task).endswith(" ← code without a file")
        assert task.stack is not None
        assert (task.stack.frames[-1].place.path, task.stack.frames[-1].place.function) == (b"", None)
        assert task.stack.end.startswith("no call-frame rule for code made at run time")
    own = [task for task in run.created() if own_name(task) == "VM Thread"]
    assert len(own) == 1
    assert makers.of(own[0]).chain == ("os::create_thread", "pthread_create")


POSTGRES = """
set -e
bin=$1 data=$2
cd $data
$bin/initdb -D db -N -A trust --no-instructions >initdb.log
trap '$bin/pg_ctl -D db -s -m immediate stop' EXIT
$bin/pg_ctl -D db -w -s -l server.log -o "-k $data -c listen_addresses= -c fsync=off" start
$bin/psql -h $data -d postgres -Atc 'select 40 + 2'
$bin/pg_ctl -D db -w -s -m fast stop
trap - EXIT
"""


@pytest.fixture
def postgres_folder() -> Iterator[Path]:
    """A directory that the server's user owns: the server does not start for root."""
    folder = Path(tempfile.mkdtemp(prefix="forklore-postgres-"))
    try:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder)


def test_postgres(request: pytest.FixtureRequest, traced: Trace_) -> None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("postgres is not installed: apt-get install postgresql")
    exported = subprocess.run(["nm", "-D", found[-1].with_name("postgres")], capture_output=True, text=True, check=True)
    if " T fork_process" not in exported.stdout:
        pytest.skip("this postgres makes its processes in another function than fork_process()")
    folder = request.getfixturevalue("postgres_folder")
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"] if os.geteuid() == 0 else []
    run = traced(*user, "sh", "-c", POSTGRES, "sh", found[-1].parent, folder, cwd=folder)
    assert (run.status, run.out) == (0, "42\n"), run.err
    makers = Makers(run)
    for task in run.created():
        made = makers.of(task)
        assert (made.source, made.sure) == ("stack", True), (task.tid, made.why)
        assert made.caller is not None
        assert task.stack is not None
        assert task.stack.end == "outermost"
    # initdb asks the shell, by popen() and system().
    calls = {makers.of(task).chain for task in run.created() if run.creator(task).name == b"initdb"}
    assert calls == {("popen", "posix_spawn"), ("system", "posix_spawn")}
    # All that serves: background processes and the backend that psql talked to.
    serving = makers.by_caller("fork_process")
    assert len(serving) > 5
    (server,) = {run.creator(task).id for task in serving}
    for task in serving:
        assert makers.of(task).chain == ("fork",)
        assert task.name == b"postgres"
        assert not task.images
        assert task.stack is not None
        assert b"PostmasterMain" in {frame.place.function for frame in task.stack.frames}
        assert [frame for frame in task.stack.frames if not frame.sure] == []
    # They are told apart by who called fork_process().
    edges = Edges(run.trace)
    (site,) = (site for site in sites(run.trace, edges) if set(serving) <= set(site.tasks))
    through = dict(site.through(edges))
    assert through["StartAutoVacLauncher"] == 1
    assert sum(through.values()) == len(serving)
    assert run.trace.tasks[server].images[-1].file == bytes(found[-1].with_name("postgres"))
