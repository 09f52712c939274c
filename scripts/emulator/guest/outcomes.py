"""A pytest plugin: a line about each test as soon as it is over, for whoever looks on from the host.

A JSON object a line in ``$FORKLORE_OUTCOMES``: ``test``, ``outcome``, ``seconds``, and for what did not pass ``text``.
"""

from __future__ import annotations

import json
import os

import pytest

_worker = False


def pytest_configure(config: pytest.Config) -> None:
    """A worker of xdist has its reports sent to the process that started it, which has this plugin as well."""
    global _worker
    _worker = hasattr(config, "workerinput")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The call of a test, and whatever of its setup and teardown did not pass."""
    if _worker or (report.when != "call" and report.passed):
        return
    text = "" if report.passed else report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longreprtext
    said = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 1), "text": text}
    with open(os.environ["FORKLORE_OUTCOMES"], "a") as file:
        file.write(json.dumps(said) + "\n")
