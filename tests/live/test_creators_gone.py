"""Descriptors of a process whose creator ended before it executed: compared with another thread that has the table."""

from __future__ import annotations

import pytest
from tracing import Program, Trace_

from forklore.abi.units import Unavailable


@pytest.mark.parametrize("who", ["thread", "leader"])
def test_another_thread_of_the_creators_process_stands_for_it(who: str, program: Program, traced: Trace_) -> None:
    run = traced(program("fds_thread_gone"), who)
    assert run.status == 0, run.err
    made = run.line("made")
    child, witness = run.task(made.number("child")), run.task(made.number("tid"))
    assert run.creator(child).tid == made.number("creator") != witness.tid
    (record,) = child.descriptors
    assert record.creator == witness.id, "the creator has ended: its table is that of the thread that lives"
    assert not isinstance(record.table, Unavailable)
    (held,) = (held for held in record.table if held.fd == made.number("fd"))
    assert (held.same, held.creators_cloexec) == (0, False)
