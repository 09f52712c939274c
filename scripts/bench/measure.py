"""Building the C parts and running one measurement."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
SOURCE: Final = HERE.parent.parent / "src"
_FLAGS: Final = ("-O2", "-Wall", "-Wextra", "-pthread")


class CannotMeasure(Exception):  # noqa: N818 - a tool that is not here is a row of the table, not an error
    """Why a tool has no figures: not installed (with the package that brings it), failed, or too slow."""


@dataclass(frozen=True)
class Sample:
    """One run: wall time of the whole command, the workload's own time, and memory.

    ``inside_ns`` is None for a program that does not tell. ``largest_kib`` is the peak of the largest process, of the
    command and of the programs that it runs.
    """

    wall_ns: int
    inside_ns: int | None
    largest_kib: int


@dataclass(frozen=True)
class Programs:
    """The compiled C parts."""

    floor: Path
    detailed_floor: Path
    measure: Path
    workload: Path
    static_helper: Path
    dynamic_helper: Path


def build(directory: Path) -> Programs:
    """Compiles the C parts into ``directory``. Raises :class:`CannotMeasure` without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CannotMeasure("no C compiler: apt-get install gcc libc6-dev")

    def made(source: str, name: str, *extra: str) -> Path:
        target = directory / name
        command = [compiler, *_FLAGS, *extra, str(HERE / source), "-o", str(target)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise CannotMeasure(f"{' '.join(command)} failed:\n{result.stderr}")
        return target

    return Programs(
        floor=made("floor.c", "floor"),
        detailed_floor=made("detailed_floor.c", "detailed_floor"),
        measure=made("measure.c", "measure"),
        workload=made("workload.c", "workload"),
        static_helper=made("nothing.c", "nothing", "-static"),
        dynamic_helper=made("nothing.c", "nothing-dynamic"),
    )


def environment() -> dict[str, str]:
    """The environment of every run: ours, with this checkout's forklore first, and without what would have Python
    compile all of it each time."""
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    whole = {**os.environ, "PYTHONPATH": path}
    whole.pop("PYTHONDONTWRITEBYTECODE", None)
    return whole


def run(programs: Programs, command: Sequence[str], scratch: Path, timeout: float) -> Sample:
    """Runs a command once, from ``scratch``, its standard error thrown away.

    Raises :class:`CannotMeasure` if it fails or takes longer than ``timeout`` seconds.
    """
    result_file = scratch / "measured"
    result_file.unlink(missing_ok=True)
    with (scratch / "stdout").open("w+b") as out, (scratch / "stderr").open("w+b") as err:
        process = subprocess.Popen(
            [str(programs.measure), str(result_file), *command],
            stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=scratch, env=environment(),
            start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"more than {timeout:g} s") from None
        finally:
            _end(process)
        out.seek(0)
        err.seek(0)
        printed, complaint = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    measured: Mapping[str, int] = {"status": -1}
    if result_file.exists():
        measured = json.loads(result_file.read_text())
    if process.returncode != 0 or measured["status"] != 0:
        last = (complaint.strip() or printed.strip() or "no message").splitlines()[-1]
        raise CannotMeasure(f"failed: {last[:160]}")
    inside = re.search(r"inside_ns=(\d+)", printed)
    return Sample(measured["wall_ns"], int(inside.group(1)) if inside else None, measured["largest_kib"])


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
