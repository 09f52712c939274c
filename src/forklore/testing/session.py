"""A session of pytest that is traced: what each test made is told, and limits on it are kept."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import nullcontext
from types import FrameType
from typing import Any, Final

import pytest

from forklore.abi.text import printable
from forklore.linux.ours.this_process import own_descriptors
from forklore.report.words import words
from forklore.testing.account import Account, from_json, to_json
from forklore.testing.client import Tracer, TracerError, now
from forklore.testing.limits import LimitError, Limits, broken, several
from forklore.testing.verdict import BROKEN

_PROPERTY: Final = "forklore"
_ACCOUNT: Final = pytest.StashKey[Account]()
_SHOWN: Final = 20
"""Tests that the summary names, without -v."""
_OPTIONS: Final = (
    "max_processes", "max_threads", "no_leftovers", "no_leaked_fds", "no_zombies", "no_fork_after_threads",
    "forbid_exec",
)  # fmt: skip


class Session:
    """In the process that runs the tests."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.tracer: Tracer | None = None
        given = {name: config.getoption(f"forklore_{name}") for name in _OPTIONS}
        try:
            self._limits = Limits().with_({name: value for name, value in given.items() if value is not None})
        except LimitError as problem:
            raise pytest.UsageError(f"--forklore: {problem}") from None
        self._timeout: float | None = config.getoption("forklore_timeout")
        self._since = 0
        self._before: dict[int, str] = {}
        self._shared: list[tuple[int, int]] = []
        """When fixtures of more than one test were set up."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Attach before the first test, and leave after the last."""
        output = self._config.getoption("forklore_trace")
        worker = getattr(self._config, "workerinput", {}).get("workerid")
        if output is not None:
            name = output if worker is None else f"{output}.{worker}"
            output = os.path.join(self._config.invocation_params.dir, name)
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        try:
            # Its stderr is the terminal, and not what is kept of a test's.
            with nullcontext() if capture is None else capture.global_and_fixture_disabled():
                self.tracer = Tracer(output)
        except TracerError as problem:
            raise pytest.UsageError(f"{problem}\n(see: forklore doctor)") from None
        if self._timeout is not None:
            signal.signal(signal.SIGALRM, self._interrupted)
        try:
            return (yield)
        finally:
            tracer, self.tracer = self.tracer, None
            tracer.close()
            if self._timeout is not None:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if self.tracer is None or self.tracer.busy or self._timeout is None:
            return  # the test is over, and what it made is asked for
        told = self.tracer.hang()
        if told:
            since = now()
            self.tracer.watch(since, since + int(self._timeout * 1e9))  # its fixtures may hang as well
            pytest.fail(f"still not over after {self._timeout:g} s (--forklore-timeout)\n{told}", pytrace=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Have a test watched that may hang."""
        if self._timeout is None or self.tracer is None:
            return (yield)
        since = now()
        self.tracer.watch(since, since + int(self._timeout * 1e9))
        try:
            return (yield)
        finally:
            self.tracer.watch(0)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """From here on what is made is the test's."""
        self._shared = []
        self._before = own_descriptors()
        self._since = now()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:  # noqa: ANN401 - pytest's own
        """What a fixture of several tests makes is none of one test's."""
        since = now()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self._shared.append((since, now()))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Judge what can be judged without waiting for fixtures."""
        result = yield
        self._judge(item, self._limits_of(item).counted())
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Take stock when the test and its fixtures are done."""
        try:
            result = yield
        except BaseException as problem:
            told = self._beyond_limits(item)
            if told and BROKEN not in item.stash:
                problem.add_note(told)
            raise
        told = self._beyond_limits(item)
        if told and BROKEN not in item.stash:
            pytest.fail(told, pytrace=False)
        return result

    def _beyond_limits(self, item: pytest.Item) -> str:
        item.stash[_ACCOUNT] = account = self._account(leaked=self._leaked())
        told = _failure(item, broken(self._limits_of(item).afterwards(), account))
        if BROKEN in item.stash:
            item.stash[BROKEN] = told
        return told

    def judges_afterwards(self, item: pytest.Item) -> bool:
        """Whether a test has limits that can be judged only then."""
        try:
            return self._given_limits(item).afterwards() != Limits()
        except LimitError:
            return False  # it fails by that

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
        """Hand what the test made to who reports: from an xdist worker too."""
        report = yield
        account = item.stash.get(_ACCOUNT, None)
        if call.when == "teardown" and account is not None and not account.is_empty():
            report.user_properties.append((_PROPERTY, to_json(account)))
        return report

    def _judge(self, item: pytest.Item, limits: Limits) -> None:
        if limits == Limits():
            return
        told = broken(limits, self._account())
        if told:
            pytest.fail(_failure(item, told), pytrace=False)

    def _account(self, leaked: list[str] | None = None) -> Account:
        if self.tracer is None:
            return Account()
        return self.tracer.account((self._since, now()), self._shared, leaked or [])

    def _limits_of(self, item: pytest.Item) -> Limits:
        try:
            return self._given_limits(item)
        except LimitError as problem:
            pytest.fail(f"{item.nodeid}: {problem}", pytrace=False)

    def _given_limits(self, item: pytest.Item) -> Limits:
        limits = self._limits
        for marker in reversed(list(item.iter_markers("forklore"))):
            if marker.args:
                raise LimitError("limits are given by name, as max_processes=2")
            limits = limits.with_(marker.kwargs)
        return limits

    def _leaked(self) -> list[str]:
        if not self._before:
            return []
        after = own_descriptors()
        return [f"{fd} {printable(what)}" for fd, what in sorted(after.items()) if self._before.get(fd) != what]


def _failure(item: pytest.Item, told: list[str]) -> str:
    return "\n".join(f"{item.nodeid}: {each}" for each in told)


class Summary:
    """In the process that reports: what the tests made, test by test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._accounts: list[tuple[str, Account]] = []
        self._ran = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test made."""
        if report.when != "teardown":
            return
        self._ran = True
        for name, value in report.user_properties:
            if name == _PROPERTY:
                self._accounts.append((report.nodeid, from_json(str(value))))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say it: what was left and leaked first."""
        write = terminalreporter.write_line
        if hasattr(self._config, "workerinput") or not self._ran:
            return
        terminalreporter.section("forklore")
        if not self._accounts:
            write("no test made a process or thread")
            return
        verbose = self._config.get_verbosity() > 0
        accounts = sorted(self._accounts, key=lambda each: not _is_bad(each[1]))
        shown = accounts if verbose else accounts[:_SHOWN]
        for nodeid, account in shown:
            write(f"{nodeid}: {_in_short(account)}")
            for line in _details(account, verbose=verbose):
                write(f"    {line}")
        if len(accounts) > len(shown):
            write(f"and {len(accounts) - len(shown)} more tests that made processes or threads (-v)")


def _is_bad(account: Account) -> bool:
    return bool(account.left or account.zombies or account.leaked or account.findings)


def _in_short(account: Account) -> str:
    told = []
    if account.processes:
        told.append(words.count(len(account.processes), "process", "processes"))
        if len(account.processes) > 1 and account.at_once:
            told[-1] += f", {account.at_once} at once at most"
    if account.threads:
        told.append(words.count(len(account.threads), "thread"))
    return "; ".join(told) or "no process or thread"


def _details(account: Account, *, verbose: bool) -> list[str]:
    told = []
    if account.left:
        told.append(f"left behind: {several(account.left)}")
    if account.zombies:
        told.append(f"never waited for: {several(account.zombies)}")
    if account.leaked:
        told.append(f"left open: {', '.join(account.leaked)}")
    told += [f"{found.severity} {found.rule}: {found.text}" for found in account.findings]
    if verbose:
        told += [f"{made.text()}  {made.end or 'still there'}" for made in account.processes]
    return told
