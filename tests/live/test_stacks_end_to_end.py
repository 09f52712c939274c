"""Call stacks as traces have them: against gdb's, and against what programs say of their own calls.

The programs lie in ``tests/programs``; here they are compiled in many ways, and none of what a build lacks (symbols,
frame pointers, rules of its own) may be needed.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from programs import FLAGS, SOURCES, Missing, build, musl_forks
from tracing import Trace_, Traced, bare

from forklore.abi.units import TaskId, Unavailable
from forklore.events import records as ev
from forklore.model.attribution import Attribution, attribute
from forklore.model.stacks import StackFrame
from forklore.model.tasks import Task
from forklore.report.styled_lines import plain
from forklore.report.tree.edges import Edges
from forklore.report.tree.tree import Limits, tree_lines

Build = Callable[..., Path]
MACHINE: Final = os.uname().machine
OWN_CODE: Final = pytest.mark.skipif(
    MACHINE != "x86_64", reason="the program's instructions, written by hand, are those of x86_64"
)


def need(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``made("stack_shapes", "-O3 -no-pie", libc="musl", debug="none")``: that build.

    ``debug``: "kept" leaves symbols and debug information in the file, "none" strips it, "apart" puts them into a file
    beside it.
    """
    directory = tmp_path_factory.mktemp("builds")

    @functools.cache
    def compiled(name: str, flags: str, libc: str = "glibc", debug: str = "kept") -> Path:
        if libc == "musl" and MACHINE == "riscv64":
            pytest.skip("musl's code has neither call-frame rules nor frame pointers there: stacks end in it")
        try:
            build(name, libc="musl" if libc == "musl" else "glibc")
        except Missing as missing:
            pytest.skip(str(missing))
        folder = directory / f"{libc}{flags.replace(' ', '')}{debug}"
        folder.mkdir(exist_ok=True)
        target = folder / name
        driver = ("musl-gcc", "-static") if libc == "musl" else ("gcc",)
        command = [*driver, *FLAGS, *flags.split(), "-o", target, SOURCES / f"{name}.c"]
        subprocess.run(command, check=True, capture_output=True)
        objcopy, symbols = need("objcopy", "binutils"), folder / f"{name}.{'debug' if debug == 'apart' else 'symbols'}"
        if debug != "kept":
            subprocess.run([objcopy, "--only-keep-debug", target, symbols], check=True)
            subprocess.run([need("strip", "binutils"), target], check=True)
        if debug == "apart":
            subprocess.run([objcopy, f"--add-gnu-debuglink={symbols}", target], check=True)
        return target

    return compiled


def attributed(task: Task) -> Attribution:
    assert task.creation is not None
    return attribute(task.creation, task.stack, task.script, task.runs)


def frames(task: Task) -> tuple[StackFrame, ...]:
    assert task.stack is not None
    return task.stack.frames


def ours(task: Task, program: Path) -> list[str]:
    """The functions of the program itself on the stack of who made a task, the innermost first."""
    return [
        "?" if (function := frame.place.function) is None else function.decode().partition(".")[0]
        for frame in frames(task)
        if frame.place.path == bytes(program)
    ]


def until_main(names: list[str]) -> list[str]:
    assert "main" in names, names
    return names[: names.index("main") + 1]


# Against gdb

GDB: Final = """
import gdb
mapped, first = [], {}
with open(f"/proc/{gdb.selected_inferior().pid}/maps") as maps:
    for line in maps:
        fields = line.split(maxsplit=5)
        low, high = (int(word, 16) for word in fields[0].split("-"))
        path = fields[5].strip() if len(fields) == 6 else "-"
        mapped.append((low, high, path))
        first.setdefault(path, low)
frame = gdb.newest_frame()
while frame is not None:
    if frame.type() != gdb.TAILCALL_FRAME:  # what gdb adds from debug information and no stack holds
        pc, found = frame.pc(), frame.find_sal()
        path = next(path for low, high, path in mapped if low <= pc < high)
        kind = "inlined" if frame.type() == gdb.INLINE_FRAME else "frame"
        print("FRAME", kind, hex(pc), hex(first[path]), path, frame.name(), found.line if found.symtab else 0)
    frame = frame.older()
"""


Shown = tuple[str, int, str, str, int]
"""A frame that gdb shows: kind, address in the file's own numbering, path, function, line."""


def in_gdb(program: Path, word: str, script: Path) -> list[Shown]:
    """Its stack at the first creation."""
    script.write_text(GDB)
    lines = (
        "set debuginfod enabled off", "set backtrace past-main on", "handle SIGUSR1 nostop noprint pass",
        # clone3 by its number, which every arch has in common and older versions know no name of.
        *(f"catch syscall {call}" for call in ("clone", "435", "fork", "vfork")), f"run {word}", f"source {script}",
    )  # fmt: skip
    commands = [word for line in lines for word in ("-ex", line)]
    done = bare(need("gdb", "gdb"), "-batch", "-nx", *commands, program, stdin=subprocess.DEVNULL)
    if "'catch syscall' is not supported" in done.err:
        pytest.skip("this gdb cannot stop at system calls of this architecture")
    found: list[Shown] = []
    for line in done.out.splitlines():
        if line.startswith("FRAME"):
            _, kind, pc, base, path, name, number = line.split()
            bias = 0 if path == str(program) and _is_fixed(program) else int(base, 16)
            found.append((kind, int(pc, 16) - bias, path, name, int(number)))
    assert found, done.out + done.err
    return found


def _is_fixed(program: Path) -> bool:
    with program.open("rb") as file:
        return file.read(18)[16:] == b"\2\0"  # ET_EXEC


GDB_CASES: Final = (
    ("stack_shapes", "-O0", "kept", "fork"),
    ("stack_shapes", "-O3 -g -fomit-frame-pointer", "kept", "popen"),
    ("stack_shapes", "-O1 -g -fno-omit-frame-pointer -no-pie", "kept", "pthread"),
    ("stack_shapes", "-O2 -fomit-frame-pointer", "none", "spawn"),
    ("stack_shapes", "-O2 -static", "none", "vfork"),
    ("stack_shapes", "-O2 -g", "apart", "handler"),
    ("stack_inlines", "-O2 -g", "apart", ""),
    ("stack_inlines", "-O3 -g -fomit-frame-pointer -no-pie", "kept", ""),
)


@pytest.mark.parametrize(("name", "flags", "debug", "word"), GDB_CASES)
def test_a_recorded_stack_is_gdb_s(
    name: str, flags: str, debug: str, word: str, made: Build, traced: Trace_, tmp_path: Path
) -> None:
    program = made(name, flags, debug=debug)
    task = traced(program, *word.split()).created()[0]
    theirs = in_gdb(program, word, tmp_path / "stack.py")
    mine = [frame.place.address for frame in frames(task)]
    outer = [address for kind, address, *_ in theirs if kind == "frame"]
    assert mine == outer
    assert "pointer" not in [frame.how for frame in frames(task)]
    if debug != "none":
        until_main(ours(task, program))
    if "-g" in flags.split():
        lines = [
            (line.function, line.line) for frame in frames(task) if frame.place.path == bytes(program)
            for line in frame.place.lines
        ]  # fmt: skip
        shown = [(function, line) for _, _, path, function, line in theirs if path == str(program) and line]
        named = {function for function, _ in shown}
        assert [line for line in lines if line[0] in named] == shown[: len(lines)]
        assert name != "stack_inlines" or [function for function, _ in shown][:5] == [
            "innermost", "between", "holds_both", "into_main", "main",
        ]  # fmt: skip


@pytest.mark.parametrize(("flags", "word"), [("-O0", "fork"), ("-O2 -fomit-frame-pointer", "popen")])
def test_a_recorded_stack_goes_through_musl(flags: str, word: str, made: Build, traced: Trace_) -> None:
    # gdb gives up in its code, which has no rules.
    if "-fomit-frame-pointer" in flags and MACHINE != "x86_64":
        pytest.skip("other code than x86's is not followed: without a frame record of its caller, nothing leads on")
    program = made("stack_shapes", flags, "musl")
    task = traced(program, word).created()[0]
    chain = [f"by_{word}", "inner", "middle", "middle", "middle", "outer", "main"]
    names = until_main(ours(task, program))
    assert names[-len(chain) :] == chain
    assert word in names
    # Other code than x86's is not followed: there musl's frame records lead on, which are no proof.
    assert all(frame.sure for frame in frames(task)) or MACHINE != "x86_64"


# What the library is asked for

CHAINS: Final = {
    "fork": ("fork",), "vfork": ("vfork",), "system": ("system", "posix_spawn"), "popen": ("popen", "posix_spawn"),
    "posix_spawn": ("posix_spawn",), "posix_spawnp": ("posix_spawnp",), "pthread_create": ("pthread_create",),
    "thrd_create": ("thrd_create", "pthread_create"), "timer_create": ("timer_create", "pthread_create"),
    "forkpty": ("forkpty", "fork"), "daemon": ("daemon", "fork"), "wordexp": ("wordexp", "posix_spawn"),
    "aio_read": ("aio_read", "pthread_create"), "getaddrinfo_a": ("getaddrinfo_a", "pthread_create"),
}  # fmt: skip
MUSL: Final = CHAINS | {"wordexp": ("wordexp", "fork")}
ROUTINES: Final = {"calls_pthread_create": b"thread_routine", "calls_thrd_create": b"c11_routine"}


@pytest.mark.parametrize(
    ("flags", "libc", "debug"),
    [
        ("-O2 -g", "glibc", "kept"), ("-O3 -g -fomit-frame-pointer -no-pie", "glibc", "apart"),
        ("-O0 -g -static", "glibc", "kept"), ("-O2 -g", "musl", "kept"),
    ],
)  # fmt: skip
def test_every_call_that_makes_tasks_with_its_caller(
    flags: str, libc: str, debug: str, made: Build, traced: Trace_
) -> None:
    program = made("stack_calls", flags, libc, debug)
    run = traced(program)
    by_caller: dict[bytes, list[Task]] = {}
    for task in run.created():
        caller = attributed(task).caller
        if caller is not None and caller.place.path == bytes(program) and caller.place.function is not None:
            by_caller.setdefault(caller.place.function, []).append(task)
    said = run.lines("made")
    assert len(said) == len(CHAINS) + 1 - (libc == "musl")
    for line in said:
        if libc == "musl" and line["call"] == "aio_read":
            continue  # musl makes that thread in a function of its own that is called submit, as any program's may be
        tasks = by_caller[line["by"].encode()]
        assert tasks, line
        for task in tasks:
            found = attributed(task)
            assert (found.chain, found.source) == ((MUSL if libc == "musl" else CHAINS)[line["call"]], "stack"), line
            # The forms of calls that a linked library's names are confirmed by are fewer on other machines.
            apart = libc == "glibc" and "-static" not in flags
            assert found.sure or not (apart or MACHINE == "x86_64"), found.why
            assert found.caller_line is not None
            assert found.caller_line.line == line.number("line"), line
    for caller_name, routine in ROUTINES.items():
        (task,) = by_caller[caller_name.encode()]
        assert routine_of(run, task) == routine


@pytest.mark.parametrize("flags", ["-O2", "-O2 -fno-plt", "-O2 -no-pie", "-O2 -static"])
def test_a_library_function_that_jumps_on_is_told_by_the_call_of_it(flags: str, made: Build, traced: Trace_) -> None:
    if "-fno-plt" in flags and MACHINE != "x86_64":
        pytest.skip("without a linkage table the call's target comes out of a register, but on x86_64")
    program = made("stack_calls", flags)
    run = traced(program)
    called = {}
    for task in run.created():
        for frame in frames(task):
            if frame.place.path == bytes(program) and frame.called is not None:
                called[frame.place.function] = frame.called.function
    # sysdeps/posix/system.c: __libc_system() ends with a call of do_system().
    assert called[b"calls_system"] in (b"system", b"__libc_system")
    assert b"calls_popen" not in called


def routine_of(run: Traced, task: Task) -> bytes | None:
    assert task.runs is not None
    assert task.runs.routine_place is not None, task.runs
    return run.trace.code.places[task.runs.routine_place].function


def test_without_symbols_the_caller_is_a_place_in_the_file(made: Build, traced: Trace_) -> None:
    program = made("stack_calls", "-O2 -fomit-frame-pointer", debug="none")
    symbols = bare(need("nm", "binutils"), "-S", f"{program}.symbols").out.splitlines()
    table = [(int(words[0], 16), int(words[1], 16), words[3]) for line in symbols if len(words := line.split()) == 4]
    run = traced(program)
    found = set()
    for task in run.created():
        attribution = attributed(task)
        caller = attribution.caller
        if caller is not None and caller.place.path == bytes(program):
            assert (caller.place.function, attribution.sure) == (None, True)
            inside = caller.place.address - 1
            (name,) = {name for start, size, name in table if start <= inside < start + size}
            found.add((name, attribution.chain))
    assert found == {(line["by"], CHAINS[line["call"]]) for line in run.lines("made")}


# Where stacks are hard to read


@pytest.mark.parametrize("word", ["handler", "altstack"])
def test_a_fork_in_a_signal_handler(word: str, made: Build, traced: Trace_) -> None:
    program = made("stack_shapes", "-O2 -g")
    (task,) = traced(program, word).created()
    assert until_main(ours(task, program)) == [
        "by_fork", "handle", "by_handler", "inner", "middle", "middle", "middle", "outer", "main",
    ]  # fmt: skip
    assert Counter(frame.how for frame in frames(task))["signal"] == 1
    assert all(frame.sure for frame in frames(task))
    found = attributed(task)
    assert found.caller is not None
    assert (found.chain, found.caller.place.function, found.sure) == (("fork",), b"by_fork", True)


def test_what_a_signal_handler_returns_to_has_its_own_name(made: Build, traced: Trace_) -> None:
    # Nothing has called it: what lies before it is another function, or none.
    (task,) = traced(made("stack_shapes", "-O2 -static"), "handler").created()
    where = [frame.how for frame in frames(task)].index("signal")
    names = (b"__restore_rt", b"__kernel_rt_sigreturn", b"__vdso_rt_sigreturn")  # glibc's for x86, Linux's for others
    assert frames(task)[where - 1].place.function in names


@OWN_CODE
@pytest.mark.parametrize("word", ["jit", "jitframe", "looped"])
def test_what_lies_beyond_code_without_rules_is_a_guess(word: str, made: Build, traced: Trace_) -> None:
    program = made("stack_shapes", "-O2")
    (task,) = traced(program, word).created()
    sure = [frame for frame in frames(task) if frame.sure]
    assert [frame.place.function for frame in sure[-2:]] == [b"by_fork", None]
    assert sure == list(frames(task)[: len(sure)])
    assert task.stack is not None
    assert word != "looped" or "leads nowhere" in task.stack.end
    found = attributed(task)
    assert found.caller is not None
    assert (found.chain, found.caller.place.function, found.sure) == (("fork",), b"by_fork", True)


@OWN_CODE
def test_a_fork_from_code_that_was_made_at_run_time(made: Build, traced: Trace_) -> None:
    program = made("stack_broken", "-O2")
    run = traced(program, "generated")
    (task,) = run.created()
    assert [frame.sure for frame in frames(task) if frame.place.path == bytes(program)][:3] == [False] * 3
    edge = Edges(run.trace).of(task)
    assert edge is not None
    # Not its address, which is another one in each run.
    assert edge.text() == "fork ← code without a file"


@OWN_CODE
@pytest.mark.parametrize(
    ("flags", "word", "names", "end"),
    [
        ("-O2 -fomit-frame-pointer", "pointer", ["make"], "the stack cannot be read at 0x…"),
        ("-O2 -fno-omit-frame-pointer", "pointer", ["make", "main"], "outermost"),
        ("-O2", "overwritten", ["wrongly"], "the return address 0x… is in no executable mapping"),
        ("-O2 -no-pie", "astray", ["wrongly"], "the return address 0x… follows no call: a corrupted stack"),
        ("-O0", "recursive", ["raw_fork", *["deeper"] * 30], "depth"),
    ],
)
def test_a_broken_stack_ends_before_its_first_wrong_frame(
    flags: str, word: str, names: list[str], end: str, made: Build, traced: Trace_
) -> None:
    program = made("stack_broken", flags)
    (task,) = traced(program, word).created()
    assert ours(task, program)[: len(names)] == names
    assert task.stack is not None
    assert task.stack.end == end
    if end != "outermost":
        assert len(ours(task, program)) == len(names)
    assert all(frame.sure for frame in frames(task))


# Options, names, and what comes later


def test_no_stack_leaves_what_the_form_of_the_call_tells(made: Build, traced: Trace_) -> None:
    run = traced(made("stack_calls", "-O2 -g"), options=["--no-stack"])
    kinds = {type(event) for event in run.events()}
    assert not kinds & {ev.Stack, ev.Place, ev.Module, ev.Lines, ev.Script}
    assert [task for task in run.created() if task.stack is not None or attributed(task).source == "stack"] == []
    thread = next(task for task in run.created() if task.kind == "thread")
    assert attributed(thread).chain == ("pthread_create",)


def test_a_stack_has_no_more_frames_than_asked_for(made: Build, traced: Trace_) -> None:
    program = made("stack_shapes", "-O2 -g")
    whole, cut = traced(program, "popen"), traced(program, "popen", options=["--stack-depth", "3"])
    (deep,), (flat,) = whole.created()[:1], cut.created()[:1]
    assert [frame.place.address for frame in frames(flat)] == [frame.place.address for frame in frames(deep)][:3]
    assert flat.stack is not None
    assert flat.stack.end == "depth"
    assert attributed(flat).caller is None
    assert "depth" in attributed(flat).why


def test_names_that_threads_take(made: Build, traced: Trace_) -> None:
    run = traced(made("thread_names", "-O2"))
    told = {
        run.trace.tasks[TaskId(event.task)].tid: (event.comm, event.how) for event in run.events()
        if isinstance(event, ev.Name)
    }  # fmt: skip
    names = {line.number("tid"): line["name"].replace("_", " ") for line in run.lines("named")}
    assert told == {
        tid: (name, "found" if name == "by creator" else "prctl") for tid, name in names.items() if name
    }


DLOPEN: Final = """
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	if (argc != 2 || fork() == 0)
		_exit(0);
	wait(NULL);
	void *library = dlopen(argv[1], RTLD_NOW);
	if (library == NULL)
		_exit(1);
	void (*make)(void) = (void (*)(void))dlsym(library, "make_in_library");
	make();
	return 0;
}
"""
LIBRARY: Final = """
#include <sys/wait.h>
#include <unistd.h>
void make_in_library(void)
{
	if (fork() == 0)
		_exit(0);
	wait(0);
}
"""


def test_code_that_was_mapped_after_the_first_creation(tmp_path: Path, traced: Trace_) -> None:
    compiler = need("gcc", "gcc libc6-dev")
    for name, source, flags in (("main", DLOPEN, ["-ldl"]), ("library.so", LIBRARY, ["-shared", "-fPIC"])):
        file = tmp_path / f"{name}.c"
        file.write_text(source)
        subprocess.run([compiler, "-O2", "-g", "-o", tmp_path / name, file, *flags], check=True)
    run = traced(tmp_path / "main", tmp_path / "library.so")
    assert run.status == 0
    first, second = map(attributed, run.created())
    assert first.caller is not None
    assert second.caller is not None
    assert (first.caller.place.function, second.caller.place.function) == (b"main", b"make_in_library")
    assert second.caller.place.path == bytes(tmp_path / "library.so")
    assert second.caller_line is not None
    assert (second.chain, second.sure, second.caller_line.line) == (("fork",), True, 6)
    assert ours(run.created()[1], tmp_path / "main")[0] == "main"


def variables(run: Traced) -> dict[tuple[ev.Text | None, ev.Text], tuple[str | None, str | None]]:
    (borrowed,) = (event for event in run.events() if isinstance(event, ev.Borrowed))
    assert not isinstance(borrowed.changes, Unavailable)
    return {(v.function, v.name): (v.old, v.new) for change in borrowed.changes for v in change.variables}


@pytest.mark.parametrize(
    ("flags", "libc", "debug"), [("-O0 -g", "glibc", "kept"), ("-O2 -g", "glibc", "apart"), ("-O1 -g", "musl", "kept")]
)
def test_what_a_vfork_child_wrote_has_names(flags: str, libc: str, debug: str, made: Build, traced: Trace_) -> None:
    if libc == "musl" and (why := musl_forks()):
        pytest.skip(why)
    run = traced(made("vfork_names", flags, libc, debug), options=["--vfork-writes"])
    expected = {("main", "a"): ("5", "10"), (None, "total"): ("0", "42"), (None, "state.n"): ("1", "9")}
    found = variables(run)
    assert {name: values for name, values in found.items() if name in expected} == expected
    assert (None, "state.m") not in found
    text = "\n".join(plain(line) for line in tree_lines(run.trace, Limits(columns=200)))
    assert "main: a 5 → 10" in text, text


def test_without_debug_information_it_has_none(made: Build, traced: Trace_) -> None:
    program = made("vfork_names", "-O2 -g", debug="none")
    run = traced(program, options=["--vfork-writes"])
    # The dynamic linker's own, where its debug information is installed, may have names.
    assert {name for _, name in variables(run)}.isdisjoint({"a", "total", "state.n"})
    (borrowed,) = (event for event in run.events() if isinstance(event, ev.Borrowed))
    assert not isinstance(borrowed.changes, Unavailable)
    assert {"09", "0a", "2a"} <= {change.new for change in borrowed.changes}
