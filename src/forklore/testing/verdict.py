"""Limits that can be judged only when a test's fixtures are done fail the test itself, and not its teardown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import pytest
from _pytest.runner import runtestprotocol

BROKEN: Final = pytest.StashKey[str]()
"""What a test did beyond its limits, of one whose reports wait: empty as long as nothing is known of it."""


class Verdicts:
    """Runs the tests that have such limits: what is reported of them waits until they were judged."""

    def __init__(self, wanted: Callable[[pytest.Item], bool]) -> None:
        """``wanted``: whether a test has such limits."""
        self._wanted = wanted

    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """As pytest's own, but for when reports are told: the test's, too, when its fixtures are done.

        None, which leaves it to others, where a plugin runs tests in a way of its own, as those do that run a failed
        test again: the limits are then errors of the teardown.
        """
        if not self._wanted(item) or self._others(item):
            return None
        hooks = item.ihook
        hooks.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        item.stash[BROKEN] = ""
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        broken = item.stash[BROKEN]
        del item.stash[BROKEN]
        if broken:
            blame(reports, broken)
        for report in reports:
            hooks.pytest_runtest_logreport(report=report)
        hooks.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _others(self, item: pytest.Item) -> bool:
        found = item.ihook.pytest_runtest_protocol.get_hookimpls()
        own = (each for each in found if not (each.wrapper or each.hookwrapper) and each.plugin is not self)
        return any(getattr(each.plugin, "__name__", "") != runtestprotocol.__module__ for each in own)


def blame(reports: Sequence[pytest.TestReport], text: str) -> None:
    """Fail a test that passed; of one that failed say it, too; what was skipped or may fail fails in its teardown."""
    call = next((report for report in reports if report.when == "call"), None)
    if call is not None and call.failed:
        call.sections.append(("forklore", text))
        return
    failed = call if call is not None and call.passed and not hasattr(call, "wasxfail") else reports[-1]
    if failed.failed:
        failed.sections.append(("forklore", text))
    else:
        failed.outcome, failed.longrepr = "failed", text
