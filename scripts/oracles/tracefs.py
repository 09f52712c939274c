"""A private tracefs instance that records creations, execs and exits of a process and its descendants."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .errors import NoTracepointsError, OracleError
from .kernel import EVENTS, KernelTask, parse, tasks_of

USUAL_PLACE: Final = Path("/sys/kernel/tracing")
INIT_PID_NS: Final = 0xEFFFFFFC
"""Inode of the first pid namespace (PROC_PID_INIT_INO): tracepoints number tasks as that namespace does."""
BUFFER_KB: Final = 8192
"""For each processor. An event takes about 60 bytes, a path comes on top: room for some 100,000 events."""


def _mounted() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "tracefs":
            return Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), where))
    return None


@contextmanager
def tracefs() -> Iterator[Path]:
    """The mount point of tracefs; it is mounted, and unmounted again, where nobody has done so.

    Raises :class:`NoTracepointsError` if this user may not have it or its pids would not be ours.
    """
    if os.stat("/proc/self/ns/pid").st_ino != INIT_PID_NS:
        raise NoTracepointsError(
            "this is not the machine's first pid namespace (a container?), so the kernel's pids are "
            "not ours: run on the host, or use --oracle strace"
        )
    if (place := _mounted()) is not None:
        yield place
        return
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        raise NoTracepointsError("tracefs is not mounted and mount(8) is missing (package: mount)")
    command = [mount, "-t", "tracefs", "tracefs", str(USUAL_PLACE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoTracepointsError(
            f"tracefs is not mounted and could not be ({done.stderr.strip()}): run as root, or use --oracle strace"
        )
    try:
        yield USUAL_PLACE
    finally:
        subprocess.run([umount, USUAL_PLACE], check=False)


class Recorder:
    """An instance that follows this process and, by the ``event-fork`` option, its descendants."""

    def __init__(self, instance: Path) -> None:
        self._instance = instance

    def _write(self, name: str, value: str) -> None:
        try:
            (self._instance / name).write_text(value)
        except OSError as error:
            where = self._instance / name
            raise NoTracepointsError(f"tracefs refuses {value!r} in {where}: {error.strerror}") from error

    def start(self, clock: str = "mono") -> None:
        """Begin to record."""
        self._write("tracing_on", "0")
        self._write("trace_clock", clock)
        self._write("buffer_size_kb", str(BUFFER_KB))
        # A full buffer then drops what comes last and counts it; overwriting would lose the root.
        self._write("options/overwrite", "0")
        self._write("options/event-fork", "1")
        self._write("set_event_pid", str(os.getpid()))
        for event in EVENTS:
            self._write(f"events/{event}/enable", "1")
        self._write("trace", "")
        self._write("tracing_on", "1")

    def stop(self) -> list[KernelTask]:
        """End the recording and read it. Raises :class:`OracleError` if the kernel lost events."""
        self._write("tracing_on", "0")
        lost = sum(lost_events(stats.read_text()) for stats in self._instance.glob("per_cpu/cpu*/stats"))
        if lost:
            raise OracleError(
                f"the kernel's buffer of {BUFFER_KB} KiB a processor was too small, {lost} events are lost: "
                "compare a shorter run, or raise BUFFER_KB in scripts/oracles/tracefs.py"
            )
        return tasks_of(parse((self._instance / "trace").read_bytes()))


def lost_events(stats: str) -> int:
    """How many events a ``per_cpu/cpu*/stats`` file counts as lost, whatever the cause."""
    counters = dict(re.findall(r"^([a-z ]+): (\d+)$", stats, re.MULTILINE))
    return sum(int(counters.get(name, 0)) for name in ("overrun", "commit overrun", "dropped events"))


@contextmanager
def recorder() -> Iterator[Recorder]:
    """A recorder of its own instance, which is removed at the end, whatever happens.

    Raises :class:`NoTracepointsError` where root, tracefs or the tracepoints are missing.
    """
    with tracefs() as place:
        instance = place / "instances" / f"forklore-{os.getpid()}"
        try:
            instance.mkdir()
        except OSError as error:
            raise NoTracepointsError(
                f"no instance of tracefs can be made at {instance} ({error.strerror}): "
                "run as root, or use --oracle strace"
            ) from error
        try:
            missing = [event for event in EVENTS if not (instance / "events" / event).is_dir()]
            if missing:
                raise NoTracepointsError(f"this kernel has no tracepoint {', '.join(missing)}: use --oracle strace")
            yield Recorder(instance)
        finally:
            instance.rmdir()
