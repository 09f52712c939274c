"""What the workers of ``pytest -n`` run for scripts/callers: `pytest -p callers -n 2 workers.py`."""

import concurrent.futures
import subprocess

import callers
import pytest


@pytest.fixture
def ended() -> int:
    return subprocess.call(callers.COMMAND)


def test_that_starts_a_program() -> None:
    subprocess.run(["true"], check=True)


def test_whose_fixture_starts_one(ended: int) -> None:
    assert ended in (0, 1)


def test_that_maps() -> None:
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        assert list(pool.map(callers.work, [1])) == [1]
