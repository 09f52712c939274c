"""A crowd of processes that hold each other's pipes, and what `forklore why --all` takes to look at all of it.

crowd PROCESSES DESCRIPTORS: so many sleep, each with so many ends of pipes that it has from the one process that made
them all; prints times, in seconds, as JSON. One more waits for a pipe whose write end it holds itself.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time

FORKLORE = (sys.executable, "-m", "forklore")
STUCK = "import os, signal; signal.signal(2, signal.SIG_DFL); r, w = os.pipe(); os.write(1, b'.'); os.read(r, 1)"


def main(processes: int, descriptors: int) -> None:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    ends = [end for _ in range(descriptors // 2) for end in os.pipe()]
    ready, told = os.pipe()
    crowd = [_sleeper(ends[2 * (number % (descriptors // 2))], told) for number in range(processes)]
    for _ in crowd:
        os.read(ready, 1)
    stuck = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE)
    assert stuck.stdout is not None
    stuck.stdout.read(1)
    try:
        told_of = {"all": _measured("--all"), "one": _measured(str(stuck.pid))}
    finally:
        stuck.kill()
        stuck.communicate()
        for pid in crowd:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    json.dump({"processes": processes, "descriptors": descriptors, **told_of}, sys.stdout, indent=1)
    print()


def _sleeper(end: int, told: int) -> int:
    pid = os.fork()
    if pid == 0:
        os.write(told, b".")
        os.read(end, 1)
        os._exit(0)
    return pid


def _measured(what: str) -> dict[str, object]:
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*FORKLORE, "why", what], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_s": round(time.monotonic() - begun, 2),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_mb": round(after.ru_maxrss / 1024),
        "status": done.returncode,
        "first_line": done.stdout.partition("\n  ")[0].replace("\n", " ")[:160],
    }


main(int(sys.argv[1]), int(sys.argv[2]))
