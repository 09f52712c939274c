"""The program finds the world as forklore found it: descriptors, limits, signals, environment, process group."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tracing import ENVIRONMENT, FORKLORE, Done, Program, Trace_, bare, run

STOPS = ("seccomp", "syscalls", "events")


def world(done: Done, *, without: tuple[str, ...] = ()) -> list[str]:
    """What env_status found, without the numbers of its own process."""
    assert done.status == 0, done.err
    return [line for line in done.out.splitlines() if not line.startswith(("ids ", *without))]


def limits() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (301, 302))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 4096))
    resource.setrlimit(resource.RLIMIT_STACK, (7 << 20, 7 << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 31))


def mask() -> None:
    # All of them: 32 and 33 belong to the C library, which takes them out.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def ignored() -> None:
    # All that can be. Of these two the interpreter forgets what they were: see test_an_ignored_sigpipe_stays_ignored.
    never = {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}
    for number in signal.valid_signals() - never:
        signal.signal(number, signal.SIG_IGN)


def standing() -> None:
    os.umask(0o027)
    os.nice(3)
    os.chdir("/usr")
    os.setpgid(0, 0)


def session() -> None:
    os.setsid()


def no_streams() -> None:
    os.close(0)


PREPARED: dict[str, Callable[[], None]] = {
    f.__name__: f for f in (limits, mask, ignored, standing, session, no_streams)
}


@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize("prepare", PREPARED)
def test_the_world_is_the_same(prepare: str, stops: str, program: Program, tmp_path: Path) -> None:
    # Both runs start from the same prepared process, so that all differences are forklore's. Those of a filter are the
    # filter itself; an ordinary user's needs no_new_privs too.
    own = ("status Seccomp:", "status NoNewPrivs:") if stops == "seccomp" else ()
    path, how = program("env_status"), {"preexec_fn": PREPARED[prepare]}
    alone = bare(path, "a", "", "ü b", **how)
    traced = run("-q", "-o", tmp_path / "t", f"--stops={stops}", "--", path, "a", "", "ü b", **how)
    # In a process group or session of its own, forklore leads it and not the program: that is what ids are.
    both = own + (("relations ",) if prepare in ("standing", "session") else ())
    assert world(traced, without=both) == world(alone, without=both)


def test_open_descriptors_are_passed_on(program: Program, tmp_path: Path) -> None:
    path = program("env_status")
    ends = os.pipe()
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    how = {"pass_fds": (*ends, file), "stdin": subprocess.DEVNULL}
    alone = bare(path, **how)
    traced = run("-q", "-o", tmp_path / "t", "--stops=events", "--", path, **how)
    assert world(traced) == world(alone)
    assert len(alone.lines("descriptor")) == 6


def test_the_environment_byte_for_byte(tmp_path: Path) -> None:
    # environ(7) is an array of any strings: names twice, entries without "=", bytes that are no UTF-8. Python's own
    # start-up adds LC_CTYPE in the C locale (PEP 538), which the program must not see.
    python_path = f"PYTHONPATH={ENVIRONMENT['PYTHONPATH']}".encode()
    entries = [b"A=1", b"A=2", b"no equals sign", b"=x", b"RAW=\xff\xfe", b"LC_ALL=", b"LANG=C", b"EMPTY=", python_path]
    out = tmp_path / "environ"

    def execute(words: list[str]) -> bytes:
        libc = ctypes.CDLL(None, use_errno=True)
        pid = os.fork()
        if pid == 0:
            argv = (ctypes.c_char_p * (len(words) + 1))(*map(os.fsencode, words), None)
            libc.execve(os.fsencode(words[0]), argv, (ctypes.c_char_p * (len(entries) + 1))(*entries, None))
            os._exit(99)
        assert os.waitpid(pid, 0)[1] == 0
        return out.read_bytes()

    alone = execute([sys.executable, "-c", _COPY, str(out)])
    assert execute([*FORKLORE, "run", "-q", "--", sys.executable, "-c", _COPY, str(out)]) == alone
    assert alone == b"".join(entry + b"\0" for entry in entries)


_COPY = "import sys; open(sys.argv[1], 'wb').write(open('/proc/self/environ', 'rb').read())"


def test_the_three_streams_are_the_programs_own() -> None:
    # cat sees the end of its input and writes its own output and error; forklore writes nothing on stdout, ever.
    done = run("--", "sh", "-c", "cat; echo to stderr >&2; exit 3", input="to stdout\n")
    assert (done.status, done.out) == (3, "to stdout\n")
    assert done.err.startswith("to stderr\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed(closed: str, tmp_path: Path) -> None:
    # A closed stream leaves its number to the next descriptor that is opened: the program must not find one of ours.
    fds, script = tmp_path / "fds", tmp_path / "script"
    look = "sorted(os.listdir('/proc/self/fd'))"
    script.write_text(f"import os; open({str(fds)!r}, 'w').write(str({look})); os._exit(4)")
    alone = bare("sh", "-c", f"{sys.executable} {script} {closed}")
    expected = fds.read_text()
    traced = bare("sh", "-c", f"{' '.join(FORKLORE)} run -o {tmp_path / 't'} -- {sys.executable} {script} {closed}")
    assert (traced.status, traced.out) == (alone.status, alone.out) == (4, "")
    assert fds.read_text() == expected
    assert ("exit 4" in traced.err) == ("2>&-" not in closed)


def test_a_broken_pipe_ends_the_program_as_ever() -> None:
    # Python ignores SIGPIPE; the program must not inherit that. `yes` would else complain of EPIPE and end with 1.
    done = bare("bash", "-c", " ".join(FORKLORE) + " run -q -- yes | head -1; echo ${PIPESTATUS[0]}")
    assert done.out == f"y\n{128 + signal.SIGPIPE}\n"
    assert done.err == ""


@pytest.mark.xfail(
    strict=True, reason="the interpreter ignores SIGPIPE and SIGXFSZ before our code runs: what they were is lost"
)
def test_an_ignored_sigpipe_stays_ignored(program: Program, tmp_path: Path) -> None:
    path = program("env_status")
    how = {"preexec_fn": lambda: signal.signal(signal.SIGPIPE, signal.SIG_IGN), "restore_signals": False}
    alone = bare(path, **how)
    assert "signal number=13 disposition=ignore" in alone.out
    assert world(run("-q", "--stops=events", "--", path, **how)) == world(alone)


def test_no_descriptor_of_ours_leaks(traced: Trace_) -> None:
    listing = "import os; print(sorted(set(os.listdir('/proc/self/fd'))))"
    alone = bare(sys.executable, "-c", listing)
    assert traced(sys.executable, "-c", listing).out == alone.out


@pytest.fixture
def as_nobody() -> tuple[str, ...]:
    """Words that run a command as an ordinary user, with what is in ``open_folder``."""
    words = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
    if bare(*words, sys.executable, "-c", "import msgspec", cwd="/").status != 0:
        pytest.skip(f"{sys.executable} and its packages cannot be read by an ordinary user")
    return words


@pytest.mark.parametrize("stops", STOPS)
def test_an_ordinary_user(stops: str, as_nobody: tuple[str, ...], program: Program, open_folder: Path) -> None:
    file = open_folder / "home" / "t.jsonl"
    how = {"env": {**ENVIRONMENT, "PYTHONPATH": str(open_folder / "src")}, "cwd": "/"}
    path = program("env_status")
    alone = bare(*as_nobody, path, **how)
    done = bare(*as_nobody, *FORKLORE, "run", "-q", "-o", file, f"--stops={stops}", "--", path, **how)
    own = ("status Seccomp:", "status NoNewPrivs:")
    assert world(done, without=own) == world(alone, without=own)
    with open(file) as lines:
        header = json.loads(next(lines))
    named = [blind["what"] for blind in header.get("blind", [])]
    # seccomp(2): without CAP_SYS_ADMIN a filter needs no_new_privs. ptrace(2): set-id programs gain nothing anyway.
    no_new_privs = "status NoNewPrivs:\t" + ("1" if stops == "seccomp" else "0")
    assert no_new_privs in done.out
    assert ("no_new_privs is set" in named) == (stops == "seccomp")
    assert ("set-id programs gain no privilege" in named) == (stops != "seccomp")
    assert os.stat(file).st_mode & 0o777 == 0o600


def test_an_ordinary_users_tree(as_nobody: tuple[str, ...], program: Program, open_folder: Path) -> None:
    from tracing import assert_whole, tids

    import forklore

    file = open_folder / "home" / "t.jsonl"
    how = {"env": {**ENVIRONMENT, "PYTHONPATH": str(open_folder / "src")}, "cwd": "/"}
    done = bare(*as_nobody, *FORKLORE, "run", "-q", "-o", file, "--", program("fork_tree"), **how)
    trace = forklore.load(file)
    assert_whole(trace)
    assert tids(trace.tasks.values()) == sorted(line.number("pid") for line in done.lines("process"))
