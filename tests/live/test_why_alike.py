"""Programs that look like those that hang and go on: `forklore why` never says of one that it waits for ever."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import Final

import pytest
from hanging import Hanging, hanging, made, scenarios
from programs import Missing

from forklore.features.why.conclude import Certainty, Conclusion, conclude
from forklore.features.why.graph import Graph
from forklore.features.why.observe.observe import observe

TIMED: Final = frozenset({"timed_mutex", "timed_poll", "timed_socket"})
"""These end after half a minute, by the kernel's clock; nobody waits for that here."""
NAMES: Final = (
    "posted_by_handler", "posted_by_timer", "self_pipe", "self_pipe_polled", "interrupted", "jumps_out", "owner_reads",
    "condition_signalled", "thread_writes", "table_apart", "timed_mutex", "timed_poll", "timed_socket", "shared_mutex",
    "shared_semaphore", "process_posts", "in_a_message", "in_a_ring", "slow_child", "slow_writer", "vfork_slow",
    "waits_for_tracee",
)  # fmt: skip
WORDS: Final = {
    "posted_by_handler": "SIGTERM",
    "posted_by_timer": "SIGALRM",
    "self_pipe": "SIGUSR1",
    "jumps_out": "SIGALRM",
    "timed_socket": "SO_RCVTIMEO",
    "process_posts": "another process, shares its memory",
}
"""What keeps the answer from being certain, where it is said."""


def program() -> str:
    try:
        return str(made("alike.c"))
    except Missing as missing:
        pytest.skip(str(missing))


def looked(found: Hanging) -> tuple[Graph, Conclusion]:
    graph = observe([found.asked])
    (answer,) = conclude(graph)
    return graph, answer


def test_every_one_is_asked_about() -> None:
    assert tuple(scenarios(made("alike.c"))) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_certain_of_what_ends(name: str) -> None:
    with hanging([program(), name], stdin=subprocess.PIPE) as found:
        _graph, answer = looked(found)
        for chain in (answer.chain, *answer.others):
            assert chain.certainty is not Certainty.CERTAIN, chain
        assert WORDS.get(name, "") in answer.chain.why, answer.chain.why
        if name not in TIMED:
            assert found.let_go() == 0, "it did not end well: then it is no program that only looks like it hangs"


def test_the_same_without_their_handlers_is_certain() -> None:
    # What is not certain above is so for the reasons that are given, and for no others.
    for source, name in (("locks.c", "semaphore"), ("locks.c", "relock")):
        with hanging([str(made(source)), name]) as found:
            assert looked(found)[1].chain.certainty is Certainty.CERTAIN


def test_a_task_that_ends_while_it_is_looked_at_is_told_as_such() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    graph = observe([child.pid])
    assert conclude(graph) == []
    assert [(each.tid, "there is no task" in each.why) for each in graph.gone] == [(child.pid, True)]


def test_tasks_that_come_and_go_are_never_an_edge() -> None:
    # A shell that makes children as fast as it can, looked at again and again.
    shell = subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"], start_new_session=True)
    try:
        for _ in range(20):
            graph = observe([shell.pid])
            for task in graph.tasks.values():
                for ender in task.wait.enders:
                    assert ender.tid is None or ender.tid in graph.tasks or not task.steady
            for answer in conclude(graph):
                assert answer.chain.certainty is Certainty.OPEN, answer
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, 9)
        shell.wait()
