"""Roles against the libraries themselves: the arguments that the installed ones pass."""

from __future__ import annotations

import multiprocessing.forkserver
import multiprocessing.spawn
import os
from collections.abc import Sequence

import pytest

from forklore.model.roles import role, role_by_maker


def raw(words: Sequence[str | bytes]) -> list[bytes]:
    return [os.fsencode(word) for word in words]


def test_a_worker_of_multiprocessing() -> None:
    assert role(raw(multiprocessing.spawn.get_command_line(tracker_fd=5, pipe_handle=7))) == "multiprocessing worker"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from multiprocessing.resource_tracker import main;main(5)", "multiprocessing tracker"),
        ("from multiprocessing.semaphore_tracker import main;main(5)", "multiprocessing tracker"),
        ("from multiprocessing.forkserver import main; main(4, 5, ['__main__'], **{})", "multiprocessing forkserver"),
        ("import sys;exec(eval(sys.stdin.readline()))", "execnet worker, as of pytest -n"),
        ("print('from multiprocessing.spawn import spawn_main')", None),
        ("", None),
    ],
)
def test_by_the_code_that_is_run(code: str, name: str | None) -> None:
    assert role(raw(["python3", "-s", "-u", "-c", code])) == name


@pytest.mark.parametrize("words", [[], ["python3"], ["python3", "-c"], ["sh", "x.py"]])
def test_of_others_nothing_is_known(words: list[str]) -> None:
    assert role(raw(words)) is None


def test_a_worker_that_the_forkserver_forked() -> None:
    forks = multiprocessing.forkserver.main
    assert role_by_maker(forks.__code__.co_filename, forks.__name__) == "multiprocessing worker"
    assert role_by_maker("/home/me/forkserver.py", "main") == role_by_maker("main.py", "main") == ""
