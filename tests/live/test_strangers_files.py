"""Files that a program controls: nothing that it or its friends do to them holds, kills or fools forklore."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from select import select

import pytest
from fuse_server import served
from ordinary_user import interpreter
from tracing import ENVIRONMENT, FORKLORE, TIMEOUT, Program

import forklore
from forklore.abi.units import Unavailable
from forklore.events import jsonl
from forklore.events import records as ev

NOBODY = 65534
MIB = 1 << 20
SECOND = 1.0
"""Within which forklore leaves when it is asked, …"""
BUSY = 2.0
"""… and what other work on the machine may add, both as often as there are more tasks than processors, …"""
RUNS = 5
"""… or as many runs of forklore of a program that does nothing, where these take longer just then."""
TEXT = r"""
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static __attribute__((noinline)) int make(int status)
{
	pid_t child = fork();
	if (child == 0)
		_exit(status);
	waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
	char line[8];
	if (write(1, "ready\n", 6) != 6 || read(0, line, sizeof line) < 0)
		return 1;
	printf("made %d\n", make(3) + make(4));
	fflush(stdout);
	while (argc > 1 && !strcmp(argv[1], "stay"))
		pause();
	return 7;
}
"""


_UNIT = struct.Struct("<HBBI")
_ENTRIES = 64 * MIB


@pytest.fixture(scope="module")
def endless(pair: tuple[bytes, bytes], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program whose debug information takes longer to read than anybody waits: one unit for all of its code, with
    millions of entries that tell nothing."""
    folder = tmp_path_factory.mktemp("endless")
    (folder / "program.c").write_text(TEXT)
    # A unit from 0x1000 on (DW_AT_low_pc, DW_AT_high_pc), and a base type without attributes.
    (folder / "abbrev").write_bytes(bytes([1, 0x11, 1, 0x11, 0x01, 0x12, 0x07, 0, 0, 2, 0x24, 0, 0, 0, 0]))
    unit = _UNIT.pack(5, 1, 8, 0) + b"\x01" + struct.pack("<QQ", 0x1000, 1 << 20) + b"\x02" * _ENTRIES + b"\0"
    (folder / "info").write_bytes(struct.pack("<I", len(unit)) + unit)
    sections = "--update-section .debug_info=info --update-section .debug_abbrev=abbrev --remove-section .debug_aranges"
    for command in ("gcc -g -O1 -o whole program.c", f"objcopy {sections} whole program"):
        subprocess.run(command.split(), cwd=folder, check=True)
    return (folder / "program").read_bytes()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A stripped program with a link to its debug file ``program.debug``, and that file. No build-id, so that the
    CRC of the whole file has to tell."""
    for tool in ("gcc", "objcopy"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} on this machine (package: gcc, binutils)")
    folder = tmp_path_factory.mktemp("made")
    (folder / "program.c").write_text(TEXT)
    for command in (
        "gcc -g -O1 -Wl,--build-id=none -o whole program.c",
        "objcopy --only-keep-debug whole program.debug",
        "objcopy -S --add-gnu-debuglink=program.debug whole program",
    ):
        subprocess.run(command.split(), cwd=folder, check=True)
    return (folder / "program").read_bytes(), (folder / "program.debug").read_bytes()


Prefix = Sequence[str]


@pytest.fixture(params=["root", "user"])
def who(request: pytest.FixtureRequest) -> tuple[Path, Prefix]:
    """A directory of whom runs forklore, and what comes before its words."""
    if request.param == "root":
        return request.getfixturevalue("tmp_path"), FORKLORE
    folder: Path = request.getfixturevalue("open_folder")
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", "env"]
    paths = [str(folder / "src"), *(path for path in sys.path if path.endswith("site-packages"))]
    python = interpreter(become, {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(paths)})
    return folder / "home", [*become, f"PYTHONPATH={os.pathsep.join(paths)}", python, "-m", "forklore"]


@pytest.fixture
def place(who: tuple[Path, Prefix], pair: tuple[bytes, bytes]) -> Path:
    folder = who[0]
    (folder / "program").write_bytes(pair[0])
    (folder / "program").chmod(0o755)
    return folder


def in_time(began: float, more: float = 0.0) -> bool:
    """Whether no more than that has gone by, and ``more`` seconds."""
    took = time.monotonic() - began - more
    if took < (SECOND + BUSY) * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)):
        return True
    before = time.monotonic()
    subprocess.run([*FORKLORE, "run", "-q", "--", "true"], check=True, env=ENVIRONMENT)
    return took < SECOND + RUNS * (time.monotonic() - before)


class Run:
    """A traced program."""

    def __init__(self, words: Prefix, folder: Path, program: Path, *given: str, verb: Sequence[str] = ()) -> None:
        self.trace = folder / "trace.jsonl"
        self.trace.unlink(missing_ok=True)
        command = [*words, "run", "-q", *verb, "-o", str(self.trace), "--", str(program), *given]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )

    def until(self, line: str) -> None:
        """Wait for a line of the program's."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n", self.process.communicate()

    def until_a_child_waits_or_it_says_something(self) -> None:
        """Wait until a child of the program is held, or the program has written a line that is still to be read."""
        assert self.process.stdout is not None
        program = children(self.process.pid)[0]
        deadline = time.monotonic() + TIMEOUT
        while not (any(held(child) for child in children(program)) or select([self.process.stdout], [], [], 0)[0]):
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def go(self) -> None:
        """Let the program begin."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ended(self) -> tuple[int, str, str]:
        """Status and the rest of the output."""
        out, err = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, out, err


def children(pid: int) -> list[int]:
    """Those of the first thread."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def held(pid: int) -> bool:
    """Whether its tracer has it stand still; not so of one that is gone."""
    try:
        return "State:\tt" in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


AS_ALONE = 7, "ready\nmade 7\n", ""


def assert_as_alone(words: Prefix, folder: Path, program: Path) -> None:
    """The program ends as it does alone, and the trace is whole."""
    run = Run(words, folder, program)
    run.go()
    assert run.ended() == AS_ALONE
    trace = forklore.load(run.trace)
    assert trace.end_reason == "done"
    assert len(trace.tasks) == 3


def sparse(size: int) -> Callable[[Path, bytes], None]:
    """A debug file with nothing but holes behind its end."""

    def make(path: Path, debug: bytes) -> None:
        path.write_bytes(debug)
        os.truncate(path, size)

    return make


def link(target: str) -> Callable[[Path, bytes], object]:
    return lambda path, _debug: path.symlink_to(target)


KINDS: dict[str, Callable[[Path, bytes], object]] = {
    "a file of a terabyte": sparse(1 << 40),
    "one of 20 GB": sparse(20 << 30),
    "one of a gigabyte": sparse(1 << 30),
    "a device without an end": link("/dev/zero"),
    "a terminal": link("/dev/tty"),
    "a file of /proc that is read once": link("/proc/kmsg"),
    "a file of /proc that waits": link("/proc/self/mountinfo"),
    "a link to itself": link("program.debug"),
    "a pipe": lambda path, _debug: os.mkfifo(path),
    "a directory": lambda path, _debug: path.mkdir(),
    "nothing": lambda path, _debug: path.touch(),
    "the true one": lambda path, debug: path.write_bytes(debug),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_under_the_name_of_a_debug_file(
    kind: str, place: Path, pair: tuple[bytes, bytes], who: tuple[Path, Prefix]
) -> None:
    KINDS[kind](place / "program.debug", pair[1])
    began = time.monotonic()
    assert_as_alone(who[1], place, place / "program")
    assert in_time(began)
    events = list(jsonl.read(place / "trace.jsonl"))
    assert named(events) is (kind == "the true one")
    notes = [event.why for event in events if isinstance(event, ev.Note)]
    assert len(notes) == (kind != "the true one")
    assert any("is not checked" in why for why in notes) is (kind == "one of a gigabyte")


def named(events: Iterable[ev.Event]) -> bool:
    """Whether the caller of fork() has its name, which is in the debug file alone."""
    return any(isinstance(event, ev.Place) and event.function == "make" for event in events)


def files(
    tmp_path: Path, verb: list[str], command: list[str], status: int, **environment: str
) -> tuple[set[str], set[str], Path]:
    """The files that were opened while somebody was held, those that were when nobody was, and the trace."""
    log, trace = tmp_path / "log", tmp_path / "t.jsonl"
    script = Path(__file__).with_name("files_while_held_run.py")
    words = [sys.executable, str(script), str(log), "run", *verb, "-o", str(trace), "--", *command]
    env = {**ENVIRONMENT, **environment}
    done = subprocess.run(words, input=b"\n", capture_output=True, env=env, timeout=TIMEOUT, check=False)
    assert done.returncode == status
    lines = [line.split(" ", 1) for line in log.read_text().splitlines()]
    held, free = ({what for when, what in lines if when == which} for which in ("held", "free"))
    return held, free, trace


@pytest.mark.parametrize("verb", [["-q"], ["--log"]], ids=["lines at the end", "lines at once"])
def test_no_file_is_looked_into_while_somebody_is_held(
    verb: list[str], place: Path, pair: tuple[bytes, bytes], tmp_path: Path
) -> None:
    (place / "program.debug").write_bytes(pair[1])
    held, free, trace = files(tmp_path, verb, [str(place / "program")], 7)
    assert named(jsonl.read(trace))
    assert {str(place / "program"), str(place / "program.debug"), "lines"} <= free
    assert held == set()


BELOW = {
    1: ["make", "in_handler", "raise", "on_alternate", "main"], 2: ["make", "on_alternate", "main"],
    3: ["make", "in_coroutine"], 4: ["make", "on_deep", "main"], 5: ["make", "through_made_code", "main"],
}  # fmt: skip
"""Functions on the stacks of stack_kinds, by the exit status of the child."""


@pytest.mark.parametrize("libc", ["glibc", "musl"])
def test_nor_for_stacks_without_bounds_or_files(libc: str, program: Program, tmp_path: Path) -> None:
    built = str(program("stack_kinds", more=("-O1",), libc=libc))
    held, free, file = files(tmp_path, ["-q"], [built], 0)
    found = {}
    for task in forklore.load(file).tasks.values():
        if task.stack is not None and task.death is not None and task.death.code:
            found[task.death.code] = [frame.place.function for frame in task.stack.frames]
    lacking = {3: libc == "musl", 5: platform.machine() != "x86_64"}
    assert found.keys() == {status for status in BELOW if not lacking.get(status)}
    for status, stack in found.items():
        left = iter(stack)
        assert all(name.encode() in left for name in BELOW[status]), (status, stack)
    assert built in free
    assert held == set()


def test_nor_where_more_waits_than_may(program: Program, tmp_path: Path) -> None:
    built = str(program("stack_kinds", more=("-O1",)))
    held, _, file = files(tmp_path, ["-q", "--log"], [built], 0, FILES_WHILE_HELD_MOST="0")
    assert held == set()
    trace = forklore.load(file)
    made = [task for task in trace.tasks.values() if task.creator is not None]
    assert len(made) == len([status for status in BELOW if status != 5 or platform.machine() == "x86_64"])
    ends = {task.stack.end for task in made if task.stack is not None and not task.stack.frames}
    assert ends == {
        "so many stacks waited to be looked into, with tasks held all the time, that this one was given up"
    }  # fmt: skip


PYTHON = """
import os, threading
def work():
    pass
thread = threading.Thread(target=work, name="worker")
thread.start()
thread.join()
if os.fork() == 0:
    os._exit(0)
os.wait()
"""


def test_nor_for_the_frames_of_python(tmp_path: Path) -> None:
    held, free, file = files(tmp_path, ["-q"], [sys.executable, "-S", "-c", PYTHON], 0)
    trace = forklore.load(file)
    assert [task.script is not None for task in trace.tasks.values()] == [False, True, True]
    assert [task.runs.name for task in trace.tasks.values() if task.runs is not None] == ["worker"]
    assert [what for what in free if "libc.so" in what]
    assert held == set()


def test_nor_for_what_threads_run(program: Program, tmp_path: Path) -> None:
    held, free, trace = files(tmp_path, ["-q"], [str(program("runs_threads"))], 0)
    made = [event.runs for event in jsonl.read(trace) if isinstance(event, ev.Create)]
    assert any(runs is not None and runs.routine_place is not None for runs in made)
    assert [what for what in free if "libc.so" in what]
    assert held == set()


def test_nor_for_the_variables_that_a_vfork_child_wrote(program: Program, tmp_path: Path) -> None:
    built = str(program("vfork_names", more=("-O2", "-g")))
    held, free, trace = files(tmp_path, ["-q", "--vfork-writes"], [built], 0)
    (borrowed,) = (event for event in jsonl.read(trace) if isinstance(event, ev.Borrowed))
    assert not isinstance(borrowed.changes, Unavailable)
    assert any(variable.name == "total" for change in borrowed.changes for variable in change.variables)
    assert built in free
    assert held == set()


ADVERSARY = """
import itertools, os, sys
name, true, mood = sys.argv[1:]
whole = open(true, "rb").read()
def renamed(make):
    make(name + "~")
    os.rename(name + "~", name)
def written(size):
    def make(path):
        with open(path, "wb") as file:
            file.write(whole)
            file.truncate(size)
    return make
moods = {
    "truncates": [lambda: os.truncate(name, 100), lambda: written(20 << 20)(name)],
    "replaces": [
        lambda: renamed(written(len(whole))), lambda: renamed(os.mkfifo), lambda: renamed(written(20 << 20)),
        lambda: renamed(lambda path: os.symlink("/dev/zero", path)), lambda: renamed(written(1 << 40)),
    ],
}
written(len(whole))(name)
os.write(1, b"ready\\n")
for one in itertools.cycle(moods[mood]):
    one()
"""


@contextmanager
def adversary(path: Path, true: Path, mood: str) -> Iterator[None]:
    """Somebody who changes a file without end."""
    with subprocess.Popen([sys.executable, "-c", ADVERSARY, path, true, mood], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


@pytest.mark.parametrize("mood", ["truncates", "replaces"])
def test_a_debug_file_that_changes_while_it_is_read(
    mood: str, place: Path, pair: tuple[bytes, bytes], who: tuple[Path, Prefix], tmp_path: Path
) -> None:
    (tmp_path / "true").write_bytes(pair[1])
    with adversary(place / "program.debug", tmp_path / "true", mood):
        for _ in range(3):
            assert_as_alone(who[1], place, place / "program")


SILENCES = ["unread", "unanswered"]


@pytest.mark.parametrize("silence", SILENCES)
def test_a_debug_file_on_a_file_system_that_does_not_answer(
    silence: str, place: Path, who: tuple[Path, Prefix], tmp_path: Path
) -> None:
    (place / ".debug").mkdir()
    (tmp_path / "served").mkdir()
    with served(place / ".debug", tmp_path / "served") as mounted:
        mounted.become(silence)
        began = time.monotonic()
        assert_as_alone(who[1], place, place / "program")
        assert in_time(began)
        for number in (signal.SIGINT, signal.SIGTERM):
            assert_leaves(Run(who[1], place, place / "program", "stay"), number)


def assert_leaves(run: Run, number: int, *, lines: bool = False) -> None:
    """Ended by a signal that the program and forklore get while forklore looks into files: at once.

    ``lines``: forklore prints them as it goes. It looks into files from the first child on; that child waits at its
    end for it, or the program has come to its own.
    """
    run.until("ready")
    run.go()
    if lines:
        run.until_a_child_waits_or_it_says_something()
    else:
        run.until("made 7")
    began = time.monotonic()
    run.process.send_signal(number)
    status, _, err = run.ended()
    assert status == -number
    assert lines or not err
    assert in_time(began)


@pytest.mark.parametrize("silence", [*SILENCES, ""])
def test_a_program_on_a_file_system_that_does_not_answer_any_more(
    silence: str, place: Path, pair: tuple[bytes, bytes], who: tuple[Path, Prefix], tmp_path: Path
) -> None:
    (tmp_path / "served").mkdir()
    (place / "mount").mkdir()
    for name, content in zip(("program", "program.debug"), pair, strict=True):
        (tmp_path / "served" / name).write_bytes(content)
    with served(place / "mount", tmp_path / "served") as mounted:
        run = Run(who[1], place, mounted.place / "program")
        run.until("ready")
        if silence:
            mounted.become(silence)
        run.go()
        assert run.ended() == (7, "made 7\n", "")
    assert named(jsonl.read(run.trace)) is not bool(silence)


@pytest.mark.parametrize("silence", SILENCES)
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "--duration"])
def test_attach_leaves_a_program_whose_files_do_not_answer(
    how: str, silence: str, place: Path, pair: tuple[bytes, bytes], who: tuple[Path, Prefix], tmp_path: Path
) -> None:
    (tmp_path / "served").mkdir()
    (place / "mount").mkdir()
    (tmp_path / "served/program").write_bytes(pair[0])
    with (
        served(place / "mount", tmp_path / "served") as mounted,
        guest(who, mounted.place / "program") as (process, go),
    ):
        words = [*who[1], "attach", "-q", "-o", str(place / "attached.jsonl"), str(process.pid)]
        if how == "--duration":
            words[-1:-1] = ["--duration", "1"]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as attached:
            until_status(process.pid, lacks="TracerPid:\t0\n")
            mounted.become(silence)
            go()
            began = time.monotonic()
            if how != "--duration":
                attached.send_signal(getattr(signal, how))
            assert attached.communicate(timeout=TIMEOUT)[1] == ""
            assert attached.returncode == 0
            assert in_time(began)


def until_status(pid: int, has: str = "", *, lacks: str = "\0") -> None:
    deadline = time.monotonic() + TIMEOUT
    while has not in (text := Path(f"/proc/{pid}/status").read_text()) or lacks in text:
        assert time.monotonic() < deadline
        time.sleep(0.002)


@contextmanager
def guest(who: tuple[Path, Prefix], program: Path) -> Iterator[tuple[subprocess.Popen[str], Callable[[], None]]]:
    """A program of that user's that runs on its own, and what lets it begin. It goes on to its end and stays there."""
    prefix = list(who[1][: list(who[1]).index("env")]) if "env" in who[1] else []
    command = [*prefix, str(program), "stay"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        def go() -> None:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

        yield process, go
        assert process.stdout.readline() == "made 7\n"
        until_status(process.pid, "State:\tS")
        process.kill()


@pytest.mark.parametrize("how", ["SIGINT", "--duration"])
def test_attach_leaves_an_execve_that_waits_for_its_file(how: str, pair: tuple[bytes, bytes], tmp_path: Path) -> None:
    """To seize such a task is to wait for its execve, and no signal ends that."""
    (tmp_path / "served").mkdir()
    (tmp_path / "mount").mkdir()
    (tmp_path / "served/program").write_bytes(pair[0])
    with served(tmp_path / "mount", tmp_path / "served") as mounted:
        mounted.become("empty")
        executes = subprocess.Popen(["sh", "-c", f"exec {mounted.place}/program"], stderr=subprocess.DEVNULL)
        try:
            _until_in_kernel(executes.pid, "fuse")
            more = ["--duration", "1"] if how == "--duration" else []
            words = [*FORKLORE, "attach", "-o", str(tmp_path / "t.jsonl"), "-q", *more, str(executes.pid)]
            with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as attached:
                _until_in_kernel(attached.pid, "ptrace_attach")
                began = time.monotonic()
                if how == "SIGINT":
                    attached.send_signal(signal.SIGINT)
                assert attached.communicate(timeout=TIMEOUT)[1] == ""
                assert attached.returncode == 0
                assert in_time(began, len(more) / 2)
        finally:
            executes.kill()
    executes.wait()  # the server is gone: nothing waits for it any more


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("lines", ["at the end", "at once"])
def test_debug_information_without_an_end(
    lines: str, number: int, place: Path, endless: bytes, who: tuple[Path, Prefix]
) -> None:
    (place / "program").write_bytes(endless)
    verb = ["--log"] if lines == "at once" else []
    assert_leaves(Run(who[1], place, place / "program", "stay", verb=verb), number, lines=bool(verb))


def test_attach_leaves_debug_information_without_an_end(place: Path, endless: bytes, who: tuple[Path, Prefix]) -> None:
    (place / "program").write_bytes(endless)
    with guest(who, place / "program") as (process, go):
        words = [*who[1], "attach", "--log", "--duration", "1", str(process.pid)]
        with subprocess.Popen(words, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT) as attached:
            until_status(process.pid, lacks="TracerPid:\t0\n")
            began = time.monotonic()
            go()
            assert attached.wait(TIMEOUT) == 0
            assert in_time(began, 1)


def test_a_command_on_a_file_system_that_does_not_answer(tmp_path: Path) -> None:
    """It cannot be looked for without waiting, and Ctrl-C ends that."""
    (tmp_path / "mount").mkdir()
    (tmp_path / "served").mkdir()
    with served(tmp_path / "mount", tmp_path / "served") as mounted:
        mounted.become("unread")
        for number in (signal.SIGINT, signal.SIGTERM):
            run = Run(FORKLORE, tmp_path, mounted.place / "program")
            _until_in_kernel(run.process.pid, "fuse")
            began = time.monotonic()
            run.process.send_signal(number)
            assert run.ended()[0] in (-number, 128 + number)
            assert in_time(began)


def _until_in_kernel(pid: int, function: str) -> None:
    # Any thread of it, in a function of the kernel with that in its name.
    deadline = time.monotonic() + TIMEOUT
    while not any(function in _kernel_stack(task) for task in Path(f"/proc/{pid}/task").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def _kernel_stack(task: Path) -> str:
    try:
        return (task / "stack").read_text()
    except ProcessLookupError:
        return ""
