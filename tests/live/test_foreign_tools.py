"""What other tools record of a program gives the tree that forklore records, or says what it lacks.

``scripts/foreign-traces`` tries all programs of ``traces/``; here is one with refused calls and an exec by a thread.
"""

from __future__ import annotations

import shutil

import pytest
from foreign_tools import TOOLS, compared

CANNOT_TELL = {
    "strace -f": {"refusals"},
    "strace -ff -ttt": {"refusals"},
    "strace -ff": {"refusals"},
    # Now and then perf 6.1 records not one sys_exit_*, while it has all else: refusals are then unknown.
    "perf script": {"kind", "refusals", "end", "exit signal", "calls", "refused execs"},
    "perf trace": {"refusals", "end", "exit signal"},
    "tracefs": {"kind", "refusals", "end", "exit signal"},
    "bpftrace": {"kind"},
}


@pytest.mark.parametrize("tool", TOOLS)
def test_its_tree_is_the_real_one(tool: str) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on this machine")
    outcome = compared(tool, "takeover")
    if outcome.missing is not None:
        pytest.skip(f"{tool}: {outcome.missing}")
    assert outcome.comparison.wrong == []
    assert outcome.tasks == 4
    assert outcome.comparison.unknown.keys() <= CANNOT_TELL[tool]
