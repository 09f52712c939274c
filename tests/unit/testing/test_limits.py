"""Limits on tests: what a marker may say, and what is said where one was not kept."""

from __future__ import annotations

from typing import Any

import pytest

from forklore.testing.account import Account, Found, Made
from forklore.testing.limits import LimitError, Limits, broken

SHELL = Made(7, "process", "sh", "sh -c 'rm x'", ["/bin/sh", "/bin/dash"], "test_a.py:3")
THREAD = Made(8, "thread", "worker")


@pytest.mark.parametrize(
    ("limits", "account", "words"),
    [
        ({"max_processes": 0}, Account([SHELL]), "1 processes were made, and max_processes=0: 7 sh -c 'rm x' (test_a"),
        ({"max_threads": 0}, Account(threads=[THREAD]), "1 threads were made, and max_threads=0: thread 8 worker"),
        ({"no_leftovers": True}, Account(left=[THREAD]), "left behind, and no_leftovers: thread 8 worker"),
        ({"no_zombies": True}, Account(zombies=[SHELL]), "ended and never waited for, and no_zombies: 7 sh"),
        ({"no_leaked_fds": True}, Account(leaked=["3 /x"]), "leaked, and no_leaked_fds: 3 /x"),
        (
            {"no_leaked_fds": True},
            Account(findings=[Found("descriptor-survived-exec", "note", "file /x survived")]),
            "leaked, and no_leaked_fds: file /x survived",
        ),
        (
            {"no_fork_after_threads": True},
            Account(findings=[Found("fork-with-threads", "warning", "7 was forked")]),
            "forked beside its own threads, and no_fork_after_threads: 7 was forked",
        ),
        ({"forbid_exec": "sh"}, Account([SHELL]), "executed, and forbid_exec='sh': 7 sh -c 'rm x'"),
        ({"forbid_exec": ["/bin/*"]}, Account([SHELL]), "forbid_exec='/bin/*'"),
        ({"forbid_exec": ("* -c 'rm *",)}, Account([SHELL]), "executed"),
    ],
)
def test_a_limit_that_is_not_kept(limits: dict[str, Any], account: Account, words: str) -> None:
    (told, *_more) = broken(Limits().with_(limits), account)
    assert words in told
    assert broken(Limits(), account) == []


def test_limits_that_are_kept() -> None:
    limits = Limits(2, 2, True, True, True, True, ("curl",))
    assert broken(limits, Account([SHELL, SHELL], [THREAD])) == []


def test_a_long_list_is_cut() -> None:
    (told,) = broken(Limits(max_processes=1), Account([SHELL] * 30))
    assert told.startswith("30 processes")
    assert told.endswith("and 22 more")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_procs": 1}, "the marker forklore has no max_procs; there are forbid_exec, max_processes"),
        ({"max_processes": -1}, "max_processes is a number from 0, not -1"),
        ({"max_threads": True}, "max_threads is a number from 0, not True"),
        ({"no_zombies": "yes"}, "no_zombies is True or False, not 'yes'"),
        ({"forbid_exec": [1]}, "forbid_exec is a pattern or a list of them"),
    ],
)
def test_what_no_limit_is(given: dict[str, Any], words: str) -> None:
    with pytest.raises(LimitError, match=words):
        Limits().with_(given)


def test_a_marker_changes_what_it_names_alone() -> None:
    limits = Limits(max_processes=3, no_zombies=True).with_({"max_processes": None})
    assert limits == Limits(no_zombies=True)
    assert limits.counted() == Limits()
    assert limits.afterwards() == limits
