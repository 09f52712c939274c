"""Runs forklore as the command does, and writes what that took of this process alone: recorded FILE ARGUMENTS...

The peak memory is VmHWM: wait4 gives the largest of a command and its children, which for a tracer are the programs
that it runs, and ru_maxrss has what the process had before its exec (fs/exec.c: exec_mmap).
"""

import json
import re
import resource
import sys
from pathlib import Path

from forklore.cli.main import main

FILE, sys.argv = sys.argv[1], ["forklore", *sys.argv[2:]]
STATUS = main()
USED = resource.getrusage(resource.RUSAGE_SELF)
(PEAK,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
with open(FILE, "w") as file:
    json.dump({"cpu_s": USED.ru_utime + USED.ru_stime, "peak_kib": int(PEAK)}, file)
sys.exit(STATUS)
