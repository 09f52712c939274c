"""Every test program under forklore says what it says without, and ends as it ends without.

The programs check themselves: each is written so that a lost signal, a changed register or a wrong wait status makes
it fail. Here a run of each is compared with a bare one, line by line, and its trace has to be whole.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from programs import BARE, NEEDS_ROOT
from tracing import SKIPPED, Program, Trace_, bare

EVERY = [(name, arguments) for name, lists in BARE.items() for arguments in lists]
CHANGES = re.compile(
    r"\b(pid|parent|tid|creator|child|middle|daemon|before|after|session|orphan|reaper|forker|seen_as|nspid|former"
    r"|continued_by|ticks|made|inodes|routine|function|address|argument|stack|fn|path|ppid|pgid|sid|killer|ns|cpu_us|peak_kib)=\S+"
)
"""Ids, addresses and names that are new in each run."""
TOUCHY = (
    "exec_nonleader", "exit_signal_usr1", "handler_counts", "interrupted_fork", "leader_exits_first", "pidns",
    "self_stop", "signals_exit", "thread_vfork", "unshare_setns", "untraced", "vfork_exec",
)  # fmt: skip
"""Programs that every way to see calls is tried on: restarts, vanishing threads, changed registers, stops."""


def comparable(name: str, out: str) -> list[str]:
    """Output without what differs from run to run, in an order that does not depend on the scheduler."""
    lines = [CHANGES.sub(r"\1=…", line) for line in out.splitlines()]
    if name == "env_status":  # the filter is there to be seen; test_transparency looks at the rest in detail
        lines = [line for line in lines if not line.startswith(("status Seccomp:", "status NoNewPrivs:", "ids "))]
    if name == "orphan_unannounced":  # how many children a forker gets to make before it is killed
        lines = list(dict.fromkeys(lines))
    return sorted(lines)


def assert_same(name: str, arguments: tuple[str, ...], program: Program, traced: Trace_, *options: str) -> None:
    if name in NEEDS_ROOT and os.geteuid() != 0:
        pytest.skip(f"{name} needs CAP_CHECKPOINT_RESTORE, as root has it")
    if name == "guest_interrupted" and arguments[0].endswith("-endless") and os.uname().machine != "x86_64":
        pytest.skip("the result has taken the place of the first argument: docs/transparency.md, ignored-signals")
    if name == "nproc_eagain":  # a user of its own: another worker's run counts against the same limit
        arguments = (str(61000 + os.getpid() % 4000),)
    path = program(name)
    alone = bare(path, *arguments)
    if alone.status == SKIPPED:
        pytest.skip(alone.out.removeprefix("skip reason=").strip().replace("_", " "))
    assert alone.status == 0, alone.err
    run = traced(path, *arguments, options=options)
    assert (run.status, run.err) == (alone.status, alone.err)
    assert comparable(name, run.out) == comparable(name, alone.out)


@pytest.mark.parametrize(("name", "arguments"), EVERY, ids=[" ".join((n, *a)) for n, a in EVERY])
def test_same_output_and_end(name: str, arguments: tuple[str, ...], program: Program, traced: Trace_) -> None:
    assert_same(name, arguments, program, traced)


@pytest.mark.parametrize("stops", ["syscalls", "events"])
@pytest.mark.parametrize("name", TOUCHY)
def test_same_whichever_way_calls_are_seen(name: str, stops: str, program: Program, traced: Trace_) -> None:
    for arguments in BARE[name]:
        assert_same(name, arguments, program, traced, f"--stops={stops}")


def test_every_source_has_a_row_here() -> None:
    sources = {path.stem for path in (Path(__file__).parents[1] / "programs").glob("*.c")}
    assert sources == set(BARE)
