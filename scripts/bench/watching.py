"""``forklore watch`` on a whole machine: what it loses, and what it takes, at how many processes a second."""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.measure import HERE, CannotMeasure, environment

_TICK: Final = os.sysconf("SC_CLK_TCK")
_FLAGS: Final = ("-O2", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True)
class Watched:
    """What came of one run."""

    made: int
    seconds: float
    told: int
    lost: int
    """Creations, the spawners' and others', as the trace says it."""
    cpu: float
    """Seconds of processor time of forklore, from when it followed to its end."""
    first_kib: int
    last_kib: int
    """Its own memory (RssAnon) after a tenth of the time, and at the end of it."""
    trace_mib: float

    def row(self) -> str:
        """A line of the table."""
        return (
            f"| {self.made / self.seconds:,.0f} | {self.made:,} | {self.told:,} | {self.lost:,} | {self.cpu:.1f} | "
            f"{100 * self.cpu / self.seconds:.0f} % | {self.first_kib / 1024:.0f}, {self.last_kib / 1024:.0f} | "
            f"{self.trace_mib:.0f} |"
        )


HEAD: Final = """\
| made a second | made | told | said to be lost | CPU, s | of one processor | memory, MiB | trace, MiB |
|---:|---:|---:|---:|---:|---:|---:|---:|"""


def watch(
    spawner: Path, how: str, rate: int, duration: int, spawners: int, options: Sequence[str], scratch: Path
) -> Watched:
    """One run. Raises :class:`bench.measure.CannotMeasure`."""
    trace = scratch / "trace.jsonl"
    trace.unlink(missing_ok=True)
    command = [sys.executable, "-m", "forklore", "watch", "-q", "-o", str(trace), *options]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE) as forklore:
        try:
            _until_it_follows(forklore, trace)
            before = _cpu(forklore.pid)
            each = [str(spawner), how, str(rate // spawners), str(duration)]
            running = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for _ in range(spawners)]
            time.sleep(duration / 10)
            first = _memory(forklore.pid)
            said = [process.communicate(timeout=duration + 60)[0] for process in running]
            last = _memory(forklore.pid)
            forklore.send_signal(signal.SIGINT)
            _, status, usage = os.wait4(forklore.pid, 0)
            forklore.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            forklore.kill()
            raise
        cpu = usage.ru_utime + usage.ru_stime - before
    if any(process.returncode for process in running):
        raise CannotMeasure("a spawner failed")
    found = [re.fullmatch(r"made=(\d+) ns=(\d+)\s*", text) for text in said]
    made = sum(int(one[1]) for one in found if one is not None)
    took = max((int(one[2]) / 1e9 for one in found if one is not None), default=0.0)
    told, lost = _read(trace, [process.pid for process in running])
    return Watched(made, took, told, lost, cpu, first, last, trace.stat().st_size / 2**20)


def _until_it_follows(forklore: subprocess.Popen[bytes], trace: Path) -> None:
    until = time.monotonic() + 60
    while not trace.exists() or trace.read_bytes().count(b"\n") < 2:
        if forklore.poll() is not None:
            assert forklore.stderr is not None
            raise CannotMeasure(forklore.stderr.read().decode(errors="replace").strip())
        if time.monotonic() > until:
            raise CannotMeasure("forklore watch has not begun after a minute")
        time.sleep(0.05)


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _memory(pid: int) -> int:
    found = re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return 0 if found is None else int(found[1])


def _read(trace: Path, spawners: Sequence[int]) -> tuple[int, int]:
    """How many creations by the spawners the trace tells, and how many of anybody it says were lost."""
    numbers: set[bytes] = set()
    told = lost = 0
    with trace.open("rb") as lines:
        for line in lines:
            if line.startswith(b'{"event":"create"'):
                creator = re.search(rb'"task":(\d+)', line)
                child = re.search(rb'"child":(\d+),"tid":(\d+)', line)
                if child is not None and int(child[2]) in spawners:
                    numbers.add(child[1])
                told += creator is not None and creator[1] in numbers
            elif line.startswith(b'{"event":"note"'):
                found = re.search(rb'"what":"\d+ records[^"]*?(\d+) creations', line)
                lost += 0 if found is None else int(found[1])
    return told, lost


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench/watched", description="Measure forklore watch on a machine that makes many processes."
    )
    parser.add_argument("--rate", type=int, default=5000, help="processes a second; 0: as many as can be (5000)")
    parser.add_argument("--seconds", type=int, default=60, metavar="S", help="for how long (60)")
    parser.add_argument("--how", choices=("vfork", "clone"), default="vfork", help="how they are made (vfork)")
    parser.add_argument("--spawners", type=int, default=1, metavar="N", help="so many programs make them (1)")
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="options of forklore watch")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="forklore-watched-") as folder:
        scratch = Path(folder)
        spawner = scratch / "spawner"
        subprocess.run(["gcc", *_FLAGS, str(HERE / "spawner.c"), "-o", str(spawner)], check=True)
        try:
            asked = arguments.how, arguments.rate, arguments.seconds, arguments.spawners, arguments.options
            found = watch(spawner, *asked, scratch)
        except CannotMeasure as why:
            print(f"scripts/bench/watched: {why}", file=sys.stderr)
            return 2
    print(f"{HEAD}\n{found.row()}")
    print(f"load: {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return 0
