"""Without BPF and without stops: what the kernel's own records tell, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from ordinary_user import BECOME, environment, forklore_as
from tracing import ENVIRONMENT, FORKLORE, Program, said

import forklore
from forklore.abi.flags import CLONE_THREAD
from forklore.abi.units import Unavailable
from forklore.events import jsonl
from forklore.events import records as ev
from forklore.linux.perf.tasks import TaskRecords
from forklore.sources.perf.kernel import refusal

TREE = (
    ("fork_tree",),
    ("clone_parent",),
    ("exec_nonleader", "leader-gone"),
    ("exec_nonleader", "others"),
    ("leader_exits_first",),
    ("threads_exit_group",),
    ("thread_names",),
    ("vfork_exec",),
    ("posix_spawn_one",),
    ("setsid_daemon",),
    ("untraced",),
)


@pytest.fixture(autouse=True)
def _perf() -> None:
    try:
        TaskRecords(1 << 16).close()
    except OSError as problem:
        pytest.skip(f"no perf events here: {refusal(problem)}")


def traced(file: Path, *command: str, engine: str = "perf") -> list[ev.Event]:
    done = subprocess.run(
        [*FORKLORE, "run", "--engine", engine, "--no-stack", "-q", "-o", str(file), "--", *command],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert file.exists(), done.stderr
    return list(jsonl.read(str(file)))


def shape(file: Path) -> Counter[tuple[object, ...]]:
    """The tasks of a trace, without numbers that differ from run to run: kind, how they came to be, what they ran."""
    trace = forklore.load(str(file))
    found: Counter[tuple[object, ...]] = Counter()
    for task in trace.tasks.values():
        creator = trace.tasks.get(task.creator) if task.creator is not None else None
        parent = trace.tasks.get(task.parent) if task.parent is not None else None
        flags = None if task.form is None else task.form.flags
        named = (task.name, None if creator is None else creator.name, None if parent is None else parent.name)
        images = tuple(image.path for image in task.images)
        found[task.kind, flags, task.death is not None, task.gone, images, *named] += 1
    return found


@pytest.mark.parametrize("words", TREE, ids=" ".join)
def test_with_tracepoints_the_tree_is_that_of_ptrace(
    words: tuple[str, ...], program: Program, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("flags and paths are told to root alone")
    command = [str(program(words[0])), *words[1:]]
    shapes = []
    for engine in ("perf", "ptrace"):
        file = tmp_path / f"{engine}.jsonl"
        traced(file, *command, engine=engine)
        shapes.append(shape(file))
    assert shapes[0] == shapes[1]


def test_the_header_says_what_it_does_not_see(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    traced(file, "true")
    header = json.loads(file.read_text().splitlines()[0])
    assert header["options"]["engine"] == "perf"
    assert any("what tasks share" in each["what"] for each in header["blind"])
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("option", ["--cow", "--vfork-writes", "--env", "--observe=full", "--stops=events"])
def test_what_records_do_not_have_is_refused(option: str) -> None:
    done = subprocess.run(
        [*FORKLORE, "run", "--engine", "perf", option, "--", "true"], capture_output=True, text=True, env=ENVIRONMENT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 125
    assert "--engine ptrace does" in done.stderr


def test_how_the_program_ends_is_known_and_returned(tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    done = subprocess.run(
        [*FORKLORE, "run", "--engine", "perf", "-q", "-o", str(file), "--", "sh", "-c", "kill -TERM $$"],
        env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGTERM
    (end,) = [event for event in jsonl.read(str(file)) if isinstance(event, ev.Exit)]
    assert end.status == signal.SIGTERM


def test_who_is_left_behind_is_waited_for_without_being_busy(tmp_path: Path) -> None:
    fifo, file = tmp_path / "fifo", tmp_path / "trace.jsonl"
    os.mkfifo(fifo)
    script = f"(read line < {fifo}; exit 0) & exit 5"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        [*FORKLORE, "run", "--engine", "perf", "--log", "-o", str(file), "--", "sh", "-c", script],
        env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while "exit 5" not in (line := process.stderr.readline()):
            assert line, "it ended before its child"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=2)
        fifo.write_text("\n")
        process.stderr.read()
        assert process.wait(timeout=60) == 5
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 1.5, "two seconds of waiting take no processor time"
    assert {event.task for event in jsonl.read(str(file)) if isinstance(event, ev.Exit)} == {1, 2}


def test_rings_that_are_too_small_lose_what_they_count(program: Program, tmp_path: Path) -> None:
    """Nobody reads while the program makes its threads: the rings hold a part of what is told."""
    begun, go, over, file = (tmp_path / name for name in ("begun", "go", "over", "trace.jsonl"))
    for fifo in (begun, go, over):
        os.mkfifo(fifo)
    script = f"echo > {begun}; read line < {go}; {program('many_threads')} 997 > {over}"
    with subprocess.Popen(
        [*FORKLORE, "run", "--engine", "perf", "--buffer", "8K", "-q", "-o", str(file), "--", "sh", "-c", script],
        env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    ) as tracer:  # fmt: skip
        begun.read_text()
        tracer.send_signal(signal.SIGSTOP)
        go.write_text("go\n")
        over.read_text()
        tracer.send_signal(signal.SIGCONT)
        assert tracer.stderr is not None
        errors = tracer.stderr.read()
        assert tracer.wait(timeout=60) == 0, errors
    events = list(jsonl.read(str(file)))
    lost = sum(int(note.what.split()[0]) for note in events if isinstance(note, ev.Note) and "records" in note.what)
    made = sum(isinstance(event, ev.Create) for event in events)
    assert lost > 0
    assert made < 997


@pytest.mark.parametrize("verb", ["attach", "attach --tree"])
def test_what_runs_already_is_followed_and_goes_on(verb: str, tmp_path: Path) -> None:
    go, file = tmp_path / "go", tmp_path / "trace.jsonl"
    os.mkfifo(go)
    with subprocess.Popen(["sh", "-c", f"read line < {go}; /bin/true; exit 3"]) as target, subprocess.Popen(
        [*FORKLORE, *verb.split(), str(target.pid), "--engine", "perf", "--log", "-o", str(file)],
        env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    ) as tracer:  # fmt: skip
        assert tracer.stderr is not None
        while "attached" not in (line := tracer.stderr.readline()):
            assert line, "it ended before it had begun"
        go.write_text("go\n")
        assert target.wait(timeout=60) == 3
        tracer.stderr.read()
        assert tracer.wait(timeout=60) == 0
    events = list(jsonl.read(str(file)))
    (begin,) = [event for event in events if isinstance(event, ev.Begin)]
    assert (begin.tid, begin.how) == (target.pid, "attached")
    (execs,) = [event for event in events if isinstance(event, ev.Exec)]
    assert execs.comm == "true"
    assert sum(isinstance(event, ev.Exit) for event in events) == 2


def as_nobody(folder: Path, *words: str, more: Iterable[str] = ()) -> list[ev.Event]:
    """Runs ``forklore run --engine perf`` as an ordinary user: the events."""
    file = folder / "home" / "trace.jsonl"
    done = subprocess.run(
        [*forklore_as(folder), "run", *(more or ("--engine", "perf")), "-q", "-o", str(file), "--", *words],
        capture_output=True, text=True, env=environment(folder), cwd="/", timeout=60, check=False,
    )  # fmt: skip
    if "perf_event_paranoid" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert file.exists(), done.stderr
    return list(jsonl.read(str(file)))


def test_an_ordinary_user_sees_the_tree_of_a_program_of_his(open_folder: Path, program: Program) -> None:
    shown = shutil.copy(program("fork_tree"), open_folder / "fork_tree")
    events = as_nobody(open_folder, str(shown), "3", "2")
    bare = subprocess.run(
        [shutil.which("setpriv") or "setpriv", *BECOME, str(shown), "3", "2"], capture_output=True, text=True,
        check=True, cwd="/",
    )  # fmt: skip
    made = [event for event in events if isinstance(event, ev.Create)]
    assert len(made) == sum(line.word == "child" for line in said(bare.stdout)) or len(made) >= 12
    assert {event.thread for event in made} == {False}
    assert {event.flags for event in made} == {None}
    ends = [event for event in events if isinstance(event, ev.Exit)]
    assert len(ends) == len(made) + 1
    assert [event.status for event in ends if event.status is not None] == [0]


def test_his_threads_are_told_from_processes(open_folder: Path, program: Program) -> None:
    shown = shutil.copy(program("many_threads"), open_folder / "many_threads")
    made = [event for event in as_nobody(open_folder, str(shown), "97") if isinstance(event, ev.Create)]
    assert [event.thread for event in made] == [True] * 97


def test_his_set_id_program_is_lost_from_sight_and_its_end_known(open_folder: Path) -> None:
    true = shutil.copy(shutil.which("true") or "true", open_folder / "set_id")
    os.chmod(true, 0o4755)
    if os.statvfs(open_folder).f_flag & os.ST_NOSUID:
        pytest.skip(f"{open_folder} is mounted nosuid")
    events = as_nobody(open_folder, str(true))
    (note,) = [event for event in events if isinstance(event, ev.Note)]
    assert "after its exec" in note.what
    assert [event.status for event in events if isinstance(event, ev.Exit)] == [0]


def test_for_him_auto_takes_perf_and_says_why(open_folder: Path) -> None:
    as_nobody(open_folder, "true", more=("--engine", "auto"))
    header = json.loads((open_folder / "home" / "trace.jsonl").read_text().splitlines()[0])
    assert header["options"]["engine"] == "perf"
    assert header["options"]["engine_why"].startswith("bpf: ")


def test_flags_are_those_of_the_kernel(program: Program, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("flags are told to root alone")
    events = traced(tmp_path / "trace.jsonl", str(program("many_threads")), "13")
    flags = [event.flags for event in events if isinstance(event, ev.Create)]
    assert len(flags) == 13
    assert all(each is not None and each & CLONE_THREAD for each in flags)
    assert not any(isinstance(event.path, Unavailable) for event in events if isinstance(event, ev.Exec))
