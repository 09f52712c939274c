"""What the figures were taken on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

_COMPUTES: Final = """
import select
while not select.select([0], [], [], 0)[0]:
    for _ in range(100_000):
        pass
"""
"""Until its standard input ends, which it does with whoever started it."""


@contextmanager
def kept_busy(programs: int) -> Iterator[None]:
    """So many programs compute all the time."""
    with ExitStack() as stack:
        for _ in range(programs):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", _COMPUTES], stdin=subprocess.PIPE))
            assert process.stdin is not None
            stack.callback(process.stdin.close)
        yield


def facts(python: str) -> dict[str, str]:
    """Kernel, processors, load and the tools' versions, as text."""
    load = os.getloadavg()
    return {
        "kernel": f"{platform.release()} {platform.machine()}",
        "processors": f"{os.cpu_count()} × {_processor()}",
        "load average": f"{load[0]:.1f} {load[1]:.1f}",
        "libc": " ".join(platform.libc_ver()),
        "python": _first_line([python, "--version"]),
        "strace": _first_line(["strace", "--version"]),
        "ltrace": _first_line(["ltrace", "--version"]),
        "perf": _first_line(["perf", "--version"]),
        "gcc": _first_line(["gcc", "--version"]),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return "unknown"
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1) if match else "unknown"


def _first_line(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return "not installed"
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (result.stdout or result.stderr).splitlines()
    return lines[0].rstrip(".") if lines else "unknown"
