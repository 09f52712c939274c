"""What a trace is asked for: when tasks are let go, how calls are seen then, and what the header says of it."""

from __future__ import annotations

import itertools

import pytest

from forklore.sources.ptrace.options import Follow, Leave, Options, Stops, Until

LET_GO = [
    Options(follow=Follow.PROCESSES),
    Options(follow=Follow.THREADS),
    Options(follow=Follow.NONE),
    Options(max_depth=1),
    Options(max_depth=1000),
    Options(follow_untraced=False),
    Options(until=Until.ROOT, leave=Leave.DETACH),
    Options(leave=Leave.DETACH),  # a signal to forklore can end the trace before the tree
]
HELD = [
    Options(),
    Options(until=Until.ROOT),
    Options(until=Until.ROOT, leave=Leave.KILL),
    Options(argv=False, env=True),
]


@pytest.mark.parametrize("options", LET_GO, ids=str)
def test_a_task_that_may_run_on_alone_must_not_have_the_filter(options: Options) -> None:
    assert options.lets_go
    assert options.effective_stops() is Stops.EVENTS


@pytest.mark.parametrize("options", HELD, ids=str)
def test_all_stay_traced(options: Options) -> None:
    assert not options.lets_go
    assert options.effective_stops() is Stops.SECCOMP


def test_every_combination() -> None:
    for stops, follow, depth, untraced, until, leave in itertools.product(
        [None, *Stops], Follow, [None, 2], [True, False], Until, Leave
    ):
        options = Options(
            stops=stops, follow=follow, max_depth=depth, follow_untraced=untraced, until=until, leave=leave
        )
        if stops is Stops.SECCOMP and options.lets_go:
            with pytest.raises(ValueError, match="ENOSYS; use --stops events or syscalls"):
                options.effective_stops()
            continue
        chosen = options.effective_stops()
        assert chosen is (stops or chosen)
        assert not (chosen is Stops.SECCOMP and options.lets_go)
        assert options.record() == {
            "stops": chosen.value,
            "follow": follow.value,
            "max_depth": depth,
            "follow_untraced": untraced,
            "until": until.value,
            "leave": leave.value,
            "observe": "auto",
            "argv": True,
            "env": False,
            "stack_depth": 32,
            "cow": False,
            "vfork_writes": False,
        }
