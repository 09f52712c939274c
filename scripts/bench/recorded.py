"""Runs forklore as the command does, and writes what that took of this process alone: recorded FILE ARGUMENTS...

wait4 counts the peak memory of a command and of all its children, which for a tracer are the programs that it runs.
"""

import json
import resource
import sys

from forklore.cli.main import main

FILE, sys.argv = sys.argv[1], ["forklore", *sys.argv[2:]]
STATUS = main()
USED = resource.getrusage(resource.RUSAGE_SELF)
with open(FILE, "w") as file:
    json.dump({"cpu_s": USED.ru_utime + USED.ru_stime, "peak_kib": USED.ru_maxrss}, file)
sys.exit(STATUS)
