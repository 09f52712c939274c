"""Reads a trace and prints what that took, in processor time: readback TRACE."""

import json
import re
import sys
from pathlib import Path
from time import process_time

from forklore.events import jsonl
from forklore.model.build import build
from forklore.report.tree.tree import tree_lines

begun = process_time()
EVENTS = sum(1 for _ in jsonl.read(sys.argv[1]))
READ = process_time() - begun
begun = process_time()
SOURCE = jsonl.read(sys.argv[1])
TRACE = build(SOURCE.header, SOURCE)
LOADED = process_time() - begun
begun = process_time()
LINES = len(tree_lines(TRACE))
(PEAK,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
json.dump(
    {
        "events": EVENTS,
        "read_s": READ,
        "load_s": LOADED,
        "tree_s": process_time() - begun,
        "lines": LINES,
        "peak_kib": int(PEAK),
    },
    sys.stdout,
)
