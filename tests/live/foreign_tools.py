"""Tools that record a program, each in the way that tells most, for scripts/foreign-traces and a live test."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from log_variants import Comparison, Outcome, Variant, compare, load, recorded

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PATIENCE: Final = 120
_TRACEFS: Final = Path("/sys/kernel/tracing")
_CALLS: Final = ("clone", "clone3", "vfork", "fork", "execve", "execveat", "unshare", "setns")
_POINTS: Final = ("task:task_newtask", "task:task_rename", "sched:sched_process_fork", "sched:sched_process_exec",
                  "sched:sched_process_exit")  # fmt: skip
_ENTERED: Final = (*_CALLS, "exit", "exit_group")


class CannotRecordError(Exception):
    """Why a tool cannot record here."""


@dataclass(frozen=True)
class Recording:
    """What to run, and where."""

    program: list[str]
    cwd: Path
    log: Path
    env: Mapping[str, str]

    def run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        """A tool with its options and the program; its output is nobody's."""
        return subprocess.run(
            [*command, *self.program], cwd=self.cwd, env=self.env, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=PATIENCE,
        )  # fmt: skip


def _written(recording: Recording, ran: subprocess.CompletedProcess[bytes]) -> None:
    if not recording.log.exists() or not os.stat(recording.log).st_size:
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        raise CannotRecordError(said[-1] if said else f"exit status {ran.returncode}, and no log")


def _strace(recording: Recording) -> None:
    _written(recording, recording.run("strace", "-f", "-ttt", "-T", "-y", "-s", "4096", "-o", str(recording.log)))


def _strace_ff(*options: str) -> Callable[[Recording], None]:
    def record(recording: Recording) -> None:
        recording.log.mkdir()
        _written(recording, recording.run("strace", "-ff", *options, "-s", "4096", "-o", str(recording.log / "log")))

    return record


def _perf_script(recording: Recording) -> None:
    calls = [f"syscalls:sys_{edge}_{call}" for call in _CALLS for edge in ("enter", "exit")]
    ends = ["syscalls:sys_enter_exit", "syscalls:sys_enter_exit_group"]
    data = recording.log.with_suffix(".data")
    ran = recording.run("perf", "record", "-q", "-o", str(data), "-e", ",".join([*_POINTS, *calls, *ends]), "--")
    if data.exists():
        with recording.log.open("wb") as log:
            subprocess.run(
                ["perf", "script", "--ns", "-i", str(data)], stdout=log, stderr=subprocess.DEVNULL, timeout=PATIENCE
            )
        data.unlink()
    _written(recording, ran)


def _perf_trace(recording: Recording) -> None:
    events = ",".join([*_ENTERED, *_POINTS])
    _written(recording, recording.run("perf", "trace", "--sort-events", "-e", events, "-o", str(recording.log), "--"))


def _bpftrace(recording: Recording) -> None:
    # It starts the program itself, from words that it takes apart at blanks, and looks for no file in PATH.
    program = [shutil.which(recording.program[0], path=recording.env["PATH"]) or recording.program[0]]
    script = ROOT / "scripts/bpftrace/tasks.bt"
    command = ["bpftrace", "-o", str(recording.log), str(script), "-c", " ".join([*program, *recording.program[1:]])]
    ran = subprocess.run(
        command, cwd=recording.cwd, env={**recording.env, "BPFTRACE_STRLEN": "200"}, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    _written(recording, ran)
    if b": sys_" not in recording.log.read_bytes():
        raise CannotRecordError(ran.stderr.decode(errors="replace").strip().splitlines()[0])


def _tracefs(recording: Recording) -> None:
    mounted = os.path.ismount(_TRACEFS)
    if not mounted:
        done = subprocess.run(["mount", "-t", "tracefs", "nodev", str(_TRACEFS)], capture_output=True)
        if done.returncode:
            raise CannotRecordError(f"tracefs cannot be mounted: {done.stderr.decode(errors='replace').strip()}")
    try:
        _record_instance(_TRACEFS / "instances" / f"forklore-foreign-{os.getpid()}", recording)
    finally:
        if not mounted:
            subprocess.run(["umount", str(_TRACEFS)], capture_output=True)


def _record_instance(instance: Path, recording: Recording) -> None:
    instance.mkdir()
    try:
        _put(instance / "tracing_on", "0")
        _put(instance / "trace_clock", "mono")
        _put(instance / "buffer_size_kb", "8192")
        _put(instance / "options/event-fork", "1")
        calls = [f"syscalls/sys_{edge}_{call}" for call in _CALLS for edge in ("enter", "exit")]
        ends = ["syscalls/sys_enter_exit", "syscalls/sys_enter_exit_group"]
        for point in [*(each.replace(":", "/") for each in _POINTS), *calls, *ends]:
            if (instance / "events" / point).is_dir():
                _put(instance / "events" / point / "enable", "1")
        # The shell writes its own pid: it becomes the program, and what that makes is followed.
        start = f'echo $$ > {instance}/set_event_pid; echo 1 > {instance}/tracing_on; exec "$@"'
        recording.run("sh", "-c", start, "sh")
        _put(instance / "tracing_on", "0")
        recording.log.write_bytes((instance / "trace").read_bytes())
    finally:
        instance.rmdir()


def _put(file: Path, value: str) -> None:
    try:
        file.write_text(value)
    except OSError as error:
        raise CannotRecordError(f"{file}: {error.strerror}") from error


TOOLS: Final[dict[str, tuple[str, Callable[[Recording], None]]]] = {
    "strace -f": ("strace", _strace),
    "strace -ff -ttt": ("strace", _strace_ff("-ttt")),
    "strace -ff": ("strace", _strace_ff()),
    "perf script": ("perf", _perf_script),
    "perf trace": ("perf", _perf_trace),
    "tracefs": ("mount", _tracefs),
    "bpftrace": ("bpftrace", _bpftrace),
}
"""By name, the program that it takes, and how it records."""
PACKAGES: Final = {"perf": "linux-perf"}


def path_under(tool: str, path: str) -> str:
    """The PATH that the program has: perf puts its own directory first, where what is looked for is not found."""
    if TOOLS[tool][0] != "perf":
        return path
    own = subprocess.run(["perf", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip()
    return f"{own}:{path}"


def record(tool: str, recording: Recording) -> None:
    """Record. Raises CannotRecordError with the reason where the tool cannot."""
    needs, how = TOOLS[tool]
    if shutil.which(needs) is None:
        raise CannotRecordError(f"no {needs} on this machine (Debian: {PACKAGES.get(needs, needs)})")
    if needs in ("perf", "mount", "bpftrace") and os.geteuid():
        raise CannotRecordError("takes root")
    how(recording)


PROGRAMS: Final = {
    "pipeline": ["sh", "-c", "sort words.txt | uniq -c | head -n 3"],
    "python": ["python3", "-I", "-S", "work.py"],
    "make": ["make", "-C", "make", "-B"],
    "takeover": ["./takeover"],
}
"""As scripts/record-traces has them; make with one job, for the order of what is made must be one."""
_PATH: Final = "/usr/bin:/bin"


def compared(tool: str, program: str, keep: Path | None = None) -> Outcome:
    """Record a program of traces/ with the tool, and set its tree against the one that forklore records."""
    variant = Variant(("", tool))
    with tempfile.TemporaryDirectory(prefix="forklore-foreign-") as name:
        folder, work = Path(name), Path(name) / "work"
        shutil.copytree(ROOT / "traces" / "programs", work)
        subprocess.run(["gcc", "-pthread", "-o", "takeover", "takeover.c"], cwd=work, check=True)
        words = PROGRAMS[program]
        if any(" " in word for word in words):  # bpftrace cannot be given such words
            (work / program).write_text(f"exec {shlex.join(words)}\n")
            words = ["sh", program]
        log = folder / tool.replace(" ", "")
        try:
            record(tool, Recording(words, work, log, {"PATH": _PATH}))
        except CannotRecordError as why:
            return Outcome(variant, Comparison(), missing=str(why))
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            kept = keep / f"{program}-{log.name}"
            shutil.copytree(log, kept, dirs_exist_ok=True) if log.is_dir() else shutil.copy(log, kept)
        told = load(log)
        real = recorded(words, folder, cwd=work, env={"PATH": path_under(tool, _PATH)})
        return Outcome(variant, compare(real, told), len(told.tasks))
