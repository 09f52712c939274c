"""Reads a trace and prints what that took, in processor time: readback TRACE."""

import json
import resource
import sys
from time import process_time

from forklore.events import jsonl
from forklore.model.build import build
from forklore.report.tree import tree_lines

begun = process_time()
EVENTS = sum(1 for _ in jsonl.read(sys.argv[1]))
READ = process_time() - begun
begun = process_time()
SOURCE = jsonl.read(sys.argv[1])
TRACE = build(SOURCE.header, SOURCE)
LOADED = process_time() - begun
begun = process_time()
LINES = len(tree_lines(TRACE))
json.dump(
    {
        "events": EVENTS,
        "read_s": READ,
        "load_s": LOADED,
        "tree_s": process_time() - begun,
        "lines": LINES,
        "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    },
    sys.stdout,
)
