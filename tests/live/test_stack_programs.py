"""Who made the children of programs in other languages, and what their threads run.

Each program makes every child in a function of a known name. Lines of sources are found by the words in them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tracing import Trace_, Traced

from forklore.events import records as ev
from forklore.model.attribution import Attribution
from forklore.model.names import function_name, whole_name
from forklore.model.stacks import Place
from forklore.model.tasks import Task
from forklore.report.edges import Edges, own_name


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

    def _place(self, task: Task) -> Place:
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
        found[name] = task.kind, made.script_call, made.script_frame.line
    assert found == {name: (kind, call, line_of(PYTHON, words)) for name, (kind, call, words) in expected.items()}
    last = {frame_name(makers, task): makers.of(task).chain[-1] for task in run.created()}
    assert last["make_fork"] == "fork"
    assert last["start_thread"] == "pthread_create"


def frame_name(makers: Makers, task: Task) -> str:
    frame = makers.of(task).script_frame
    assert frame is not None
    return ev.raw_bytes(frame.function).decode().rpartition(".")[2]


CPP = """
#include <future>
#include <thread>
static void work() {}
static int answer() { return 42; }
__attribute__((noinline)) void start_thread() {
	std::thread thread(work);
	thread.join();
}
__attribute__((noinline)) int start_async() {
	auto result = std::async(std::launch::async, answer);
	return result.get();
}
int main() {
	start_thread();
	return start_async() == 42 ? 0 : 1;
}
"""


def test_cpp(tmp_path: Path, traced: Trace_) -> None:
    (tmp_path / "makes.cpp").write_text(CPP)
    compiled(need("g++", "g++"), "-O1", "-g", "-pthread", "-o", "makes", "makes.cpp", folder=tmp_path)
    run = traced(tmp_path / "makes")
    assert run.status == 0
    makers = Makers(run)
    for caller, call, words in (
        ("start_thread", "std::thread", "std::thread thread(work)"),
        ("start_async", "std::async", "std::async(std::launch"),
    ):
        (task,) = makers.by_caller(caller)
        found = makers.of(task)
        assert (found.chain, found.sure) == ((call, "pthread_create"), True), found.why
        assert found.caller_line is not None
        assert found.caller_line.line == line_of(CPP, words)
        # What the library gave to pthread_create is a function of its own, which is not taken for the program's.
        assert makers.runs_in(task).startswith(b"libstdc++.so")
        assert makers.text(task).startswith(f"{call} → pthread_create ← {caller}")


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
fn run_program() {
    Command::new("/bin/true").status().unwrap(); // program
}
fn main() {
    start_named();
    start_thread();
    run_program();
}
"""


def test_rust(tmp_path: Path, traced: Trace_) -> None:
    (tmp_path / "makes.rs").write_text(RUST)
    compiled(need("rustc", "rustc"), "-O", "-g", "makes.rs", folder=tmp_path)
    run = traced(tmp_path / "makes")
    assert run.status == 0, run.err
    makers = Makers(run)
    for caller, call, last, words in (
        ("start_named", "std::thread::spawn", "pthread_create", "// named"),
        ("start_thread", "std::thread::spawn", "pthread_create", "// thread"),
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
    assert found.chain[-1] == "syscall.forkExec"
    assert found.chain[0].startswith("os/exec.(*Cmd).")
    assert makers.caller(program) == "main.runProgram"
    assert found.caller_line is not None
    assert found.caller_line.line == line_of(GO, "// program")
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
    own = [task for task in run.created() if own_name(task) == "VM Thread"]
    assert len(own) == 1
    assert makers.of(own[0]).chain == ("os::create_thread", "pthread_create")
