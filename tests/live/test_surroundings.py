"""Where things are scarce, closed, hidden or read-only: the program runs to its own end, a loss is told in a line."""

from __future__ import annotations

import os
import pty
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, TIMEOUT, Done, Program, assert_whole, bare, until_event

import forklore

NOBODY = 65534
SCRIPT = "(exit 2); true | cat; /bin/true & wait; exit 7"
"""Makes four children, one of which executes something else than the shell does."""
MASKS = "import sys; sys.stdout.writelines(line for line in open('/proc/self/status') if line.startswith('Sig'))"


def traced(*options: str | Path, before: tuple[str, ...] = (), script: str = SCRIPT, **how: object) -> Done:
    return bare(*before, *FORKLORE, "run", *options, "--", "sh", "-c", script, **how)


def assert_good(done: Done, file: Path, tasks: int = 5) -> None:
    assert (done.status, done.err) == (7, "")
    trace = forklore.load(file)
    assert_whole(trace)
    assert len(trace.tasks) == tasks


def needs(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


def needs_namespace(*options: str) -> tuple[str, ...]:
    needs("unshare")
    command = ("unshare", *options)
    tried = bare(*command, "true")
    if tried.status != 0:
        pytest.skip(f"no such namespace here: {tried.err.strip()}")
    return command


def limited(*limits: tuple[int, int]) -> Callable[[], None]:
    def limit() -> None:
        for number, value in limits:
            resource.setrlimit(number, (value, value))

    return limit


# Where the trace goes


def test_a_disk_that_becomes_full_in_the_middle_of_a_line(tmp_path: Path) -> None:
    private = needs_namespace("--mount")
    inside = (
        f"mount -t tmpfs -o size=4k none {tmp_path} && {shlex.join(FORKLORE)} run -q -o {tmp_path}/t --"
        f" sh -c {shlex.quote(SCRIPT)}; code=$?; cat {tmp_path}/t; exit $code"
    )
    done = bare(*private, "sh", "-c", inside)
    if "mount:" in done.err:
        pytest.skip(f"no tmpfs of its own here: {done.err.strip()}")
    assert done.status == 7
    (message,) = done.err.splitlines()
    assert message.startswith(f"forklore: the trace in {tmp_path}/t is not whole: No space left on device; ")
    assert 0 < len(done.out) <= 4096  # once in a while a line ends where the disk does
    assert done.out.endswith("}\n")
    (tmp_path / "copy").write_text(done.out)
    trace = forklore.load(tmp_path / "copy")
    (warning,) = trace.warnings
    assert "cut off" in warning


def test_a_pipe_that_nobody_reads(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = traced("-q", "-o", f"/dev/fd/{writing}", pass_fds=[writing])
    os.close(writing)
    assert done.status == 7
    (message,) = done.err.splitlines()
    assert "is not whole: Broken pipe; " in message


def test_a_size_limit_for_files(tmp_path: Path) -> None:
    done = traced("-q", "-o", tmp_path / "t", preexec_fn=limited((resource.RLIMIT_FSIZE, 2048)))
    assert done.status == 7
    (message,) = done.err.splitlines()
    assert "is not whole: File too large; " in message
    assert forklore.load(tmp_path / "t").end_reason is None


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    inside = f"rmdir {gone}; exec {shlex.join(FORKLORE)} run"
    kept = bare("sh", "-c", f"{inside} -q -o {tmp_path}/t -- sh -c {shlex.quote(SCRIPT)}", cwd=gone)
    assert kept.status == 7
    assert len(forklore.load(tmp_path / "t").tasks) == 5
    gone.mkdir()
    done = bare("sh", "-c", f"{inside} -o t -- sh -c {shlex.quote(SCRIPT)}", cwd=gone)
    assert (done.status, done.err) == (125, "forklore: t: No such file or directory\n")


def test_a_read_only_file_system(tmp_path: Path) -> None:
    needs("bwrap")
    box = ("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    tried = bare(*box, "true")
    if tried.status != 0:
        pytest.skip(f"bwrap makes no sandbox here: {tried.err.strip()}")
    done = traced(before=box)
    assert done.status == 7
    assert "exit 2" in done.err
    done = traced("-o", tmp_path / "t", before=box)
    assert (done.status, done.err) == (125, f"forklore: {tmp_path}/t: Read-only file system\n")


def test_a_terminal_that_goes_away(tmp_path: Path) -> None:
    file, go = tmp_path / "t", tmp_path / "go"
    go.touch()
    ours, theirs = pty.openpty()
    script = f"trap '' HUP; (exit 2); while [ -e {go} ]; do (true); done; exit 7"
    with subprocess.Popen(
        [*FORKLORE, "run", "-q", "-o", file, "--", "setsid", "sh", "-c", script],
        stdin=theirs, stdout=theirs, stderr=theirs, env=ENVIRONMENT, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        until_event(file, "create")
        os.close(ours)
        go.unlink()
        assert process.wait(TIMEOUT) == 7
    assert_whole(forklore.load(file))


# What there is little of


@pytest.mark.parametrize("descriptors", [5, 16])
def test_few_descriptors(descriptors: int, tmp_path: Path) -> None:
    file = tmp_path / "t"
    done = traced("-q", "-o", file, preexec_fn=limited((resource.RLIMIT_NOFILE, descriptors)))
    if descriptors < 8:
        assert done.status == 125
        assert len(done.err.splitlines()) == 1
        assert "Too many open files" in done.err
        assert "ulimit -n" in done.err
    else:
        assert_good(done, file)


def test_little_address_space(tmp_path: Path) -> None:
    done = traced("-q", "-o", tmp_path / "t", preexec_fn=limited((resource.RLIMIT_AS, 64 << 20)))
    assert_good(done, tmp_path / "t")


_NO_MEMORY_FOR_STACKS = """if True:
    import sys
    import forklore.elf.cfi.unwind
    from forklore.cli.main import main
    def walk(*_arguments, **_options):
        raise MemoryError
    forklore.elf.cfi.unwind.walk = walk
    sys.exit(main(["run", *sys.argv[1:]]))
"""


def test_a_stack_that_there_is_no_memory_for_says_so(tmp_path: Path) -> None:
    command = (sys.executable, "-c", _NO_MEMORY_FOR_STACKS, "-q", "-o", tmp_path / "t", "--", "sh", "-c", SCRIPT)
    assert_good(bare(*command), tmp_path / "t")
    stacks = [task.stack for task in forklore.load(tmp_path / "t").tasks.values() if task.creator is not None]
    assert len(stacks) == 4
    assert all(stack is not None and not stack.frames and "no memory left" in stack.end for stack in stacks)


def test_no_address_space_for_a_thread(tmp_path: Path) -> None:
    # A thread's stack has the size of the limit for stacks (pthread_create(3)).
    limits = limited((resource.RLIMIT_STACK, 1 << 30), (resource.RLIMIT_AS, 512 << 20))
    marker = tmp_path / "ran"
    done = bare(*FORKLORE, "run", "--", "touch", marker, preexec_fn=limits)
    assert done.status == 125
    (message,) = done.err.splitlines()
    assert "cannot start the thread that passes signals on" in message
    assert "ulimit" in message
    assert not marker.exists()


# What is hidden or forbidden


@pytest.mark.parametrize(
    ("options", "mount"),
    [
        (("--mount",), "-t proc -o hidepid=2 proc"),
        (("--mount",), "-t tmpfs none"),
        (("--pid", "--fork", "--mount-proc"), None),
        (("--pid", "--fork"), None),
        (("--user", "--map-root-user"), None),
        (("--user",), None),
    ],
    ids=["hidepid", "no-proc", "pid-1", "pid-1-under-another-proc", "user-namespace", "user-namespace-unmapped"],
)
def test_namespaces(options: tuple[str, ...], mount: str | None, tmp_path: Path) -> None:
    before = needs_namespace(*options)
    if mount is not None:
        tried = bare(*before, "sh", "-c", f"mount {mount} /proc")
        if tried.status != 0:
            pytest.skip(f"no such /proc here: {tried.err.strip()}")
        before = (*before, "sh", "-c", f'mount {mount} /proc && exec "$@"', "sh")
    if options == ("--user",):
        tmp_path.chmod(0o777)  # whoever is nobody there
    assert_good(traced("-q", "-o", tmp_path / "t", before=before), tmp_path / "t")
    blind = [blind.what for blind in forklore.load(tmp_path / "t").header.blind]
    # What this process may do is known without /proc, too.
    assert os.geteuid() != 0 or options == ("--user",) or not any("no_new_privs" in what for what in blind)


# The tracer is executed by a process that asked for the orphans of its descendants.
_SUBREAPER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


def test_as_subreaper_it_sees_each_end_once(program: Program, tmp_path: Path) -> None:
    command = (*FORKLORE, "run", "-q", "-o", tmp_path / "t", "--", program("unwaited"))
    done = bare(sys.executable, "-c", _SUBREAPER, *command)
    assert (done.status, done.err) == (0, "")
    trace = forklore.load(tmp_path / "t")
    assert_whole(trace)
    assert sorted(task.death.code or 0 for task in trace.tasks.values() if task.death) == [0, 3, 4, 5]


def test_as_init_it_takes_in_what_the_program_leaves(tmp_path: Path) -> None:
    before = needs_namespace("--pid", "--fork", "--mount-proc")
    script = "(setsid sh -c '(true & exec true) & exit 0' &); exit 7"
    done = traced("-q", "-o", tmp_path / "t", before=before, script=script)
    assert done.status == 7
    # Whether the program's end comes before that of what it left is up to the scheduler.
    assert re.fullmatch(r"(forklore: the program ended \(exit 7\); waiting for .*\n)?", done.err)
    assert_whole(forklore.load(tmp_path / "t"))


# Runs as an ordinary user with all modules loaded, for that user may be kept from this checkout or this Python.
AS_NOBODY = f"""if True:
    import os, sys
    import forklore.cli.run, forklore.cli.tracing, forklore.events.jsonl, forklore.linux.ours.exit_as
    import forklore.sources.ptrace.session, forklore.sources.recording, forklore.sources.stacks.call_stacks, locale
    import forklore.sources.ptrace.callers
    from forklore.cli.main import main, parser_for
    from forklore.linux.libc import prctl
    parser_for("run").parse_args(["--", "true"])
    os.setgroups([])
    os.setresgid({NOBODY}, {NOBODY}, {NOBODY})
    os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
    prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as after the exec that would otherwise stand here
    sys.exit(main(["run", *sys.argv[1:]]))
"""


def test_an_ordinary_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; as an ordinary user every other test shows the same")
    with open(tmp_path / "t", "wb") as file:
        done = bare(
            sys.executable, "-c", AS_NOBODY, "-q", "-o", f"/dev/fd/{file.fileno()}", "--", "sh", "-c", SCRIPT,
            pass_fds=[file.fileno()], cwd="/",
        )  # fmt: skip
    assert_good(done, tmp_path / "t")
    assert any("no_new_privs" in blind.what for blind in forklore.load(tmp_path / "t").header.blind)


# What the caller left behind


@pytest.mark.parametrize("closed", [(0,), (0, 1, 2)])
def test_closed_streams(closed: tuple[int, ...], tmp_path: Path) -> None:
    def close() -> None:
        for number in closed:
            os.close(number)

    listing = "ls /proc/self/fd | tr '\\n' ' ' > {}; exit 7"
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    assert bare("sh", "-c", listing.format(alone), preexec_fn=close).status == 7
    done = traced("-q", "-o", tmp_path / "t", script=listing.format(beside), preexec_fn=close)
    assert done.status == 7
    assert beside.read_text() == alone.read_text()
    assert_whole(forklore.load(tmp_path / "t"))


@pytest.mark.parametrize("ignored", [(), (signal.SIGCHLD, signal.SIGALRM, signal.SIGIO)])
@pytest.mark.parametrize("blocked", [False, True])
def test_signals_ignored_or_blocked_by_the_caller(
    ignored: tuple[int, ...], blocked: bool, tmp_path: Path
) -> None:
    # Whoever ignores SIGCHLD gets no statuses of its own children (wait(2)), but a tracer does.
    def inherit() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        if blocked:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())

    alone = bare(sys.executable, "-ISc", MASKS, preexec_fn=inherit)
    done = bare(*FORKLORE, "run", "-q", "-o", tmp_path / "m", "--", sys.executable, "-ISc", MASKS, preexec_fn=inherit)
    assert (done.status, done.err) == (0, "")
    assert [line for line in done.out.splitlines() if not line.startswith("SigQ")] == [
        line for line in alone.out.splitlines() if not line.startswith("SigQ")
    ]
    # A shell that waits for what runs in the background sleeps for a SIGCHLD, which must not be blocked.
    script = "(exit 2); true | cat; exit 7"
    assert_good(traced("-q", "-o", tmp_path / "t", script=script, preexec_fn=inherit), tmp_path / "t", tasks=4)


def test_a_storm_of_the_signal_that_forklore_takes_itself(tmp_path: Path) -> None:
    file = tmp_path / "t"
    # It is held at its end: a signal that comes when the interpreter ends, and its handlers are gone, ends forklore.
    script = "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13; do (exit 2); true | cat; done; read held; exit 7"
    with subprocess.Popen(
        [*FORKLORE, "run", "-q", "-o", file, "--", "sh", "-c", script], env=ENVIRONMENT, stdin=subprocess.PIPE
    ) as process:
        until_event(file, "create")  # by then it has its own handlers
        for _ in range(2003):
            process.send_signal(signal.SIGALRM)
        process.communicate(b"\n", timeout=TIMEOUT)
    assert process.returncode == 7
    trace = forklore.load(file)
    assert_whole(trace)
    assert len(trace.tasks) == 1 + 3 * 13


@pytest.mark.parametrize("view", [["--log"], ["--stack"], ["-o", "/dev/null"]], ids=" ".join)
@pytest.mark.parametrize("where", ["full", "left"])
def test_nobody_can_read_what_is_said(view: list[str], where: str) -> None:
    # The program must not end because its tracer cannot print: it ends as it would, and so does forklore.
    if where == "full":
        said = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, said = os.pipe()
        os.close(reader)
    try:
        done = subprocess.run(
            [*FORKLORE, "run", *view, "--", "sh", "-c", "true; (exit 3); echo out; exit 7"], env=ENVIRONMENT,
            stdout=subprocess.PIPE, stderr=said, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    finally:
        os.close(said)
    assert (done.returncode, done.stdout) == (7, b"out\n")
