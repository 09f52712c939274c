"""What pytest loads at every start, of which nothing is heavy: options, the marker, and the fixture.

The rest is imported with --forklore, or when a test uses the fixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from forklore.testing.ran import Forklore

_MARKER = (
    "forklore(max_processes=None, max_threads=None, no_leftovers=False, no_leaked_fds=False, no_zombies=False,"
    " no_fork_after_threads=False, forbid_exec=()): what the test may do; judged with --forklore"
)
SESSION = "forklore-session"
"""The name that the plugin of a session that is traced is registered under."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("forklore", "processes and threads of tests")
    group.addoption("--forklore", action="store_true", help="trace the running tests: what each spawns, leaves, leaks")
    group.addoption("--forklore-trace", metavar="FILE", help="keep the trace, for `forklore show`; implies --forklore")
    group.addoption(
        "--forklore-timeout",
        type=float,
        metavar="S",
        help="a test that takes longer fails, and what it waits for is told; takes SIGALRM; implies --forklore",
    )
    group.addoption(
        "--forklore-max-processes", type=int, metavar="N", help="no test makes more processes; implies --forklore"
    )
    group.addoption("--forklore-max-threads", type=int, metavar="N", help="nor more threads; implies --forklore")
    for name, text in (
        ("no-leftovers", "no process or thread of a test is there when it is over"),
        ("no-leaked-fds", "no test leaves descriptors open, or has them survive an exec"),
        ("no-zombies", "every process that ended was waited for"),
        ("no-fork-after-threads", "no test forks beside threads of its own without an exec"),
    ):
        group.addoption(f"--forklore-{name}", action="store_true", help=f"{text}; implies --forklore")
    group.addoption(
        "--forklore-forbid-exec",
        action="append",
        default=[],
        metavar="PATTERN",
        help="no test executes such a program or command line; implies --forklore",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Trace, where that is asked for and this process runs tests."""
    config.addinivalue_line("markers", _MARKER)
    if not _wanted(config):
        return
    from forklore.testing.session import Session, Summary
    from forklore.testing.verdict import Verdicts

    config.pluginmanager.register(Summary(config), "forklore-summary")
    if hasattr(config, "workerinput") or config.getoption("dist", "no") == "no":
        session = Session(config)
        config.pluginmanager.register(session, SESSION)
        config.pluginmanager.register(Verdicts(session.judges_afterwards), "forklore-verdicts")


_IMPLY = (
    "forklore", "forklore_trace", "forklore_timeout", "forklore_max_processes", "forklore_max_threads",
    "forklore_no_leftovers", "forklore_no_leaked_fds", "forklore_no_zombies", "forklore_no_fork_after_threads",
    "forklore_forbid_exec",
)  # fmt: skip


def _wanted(config: pytest.Config) -> bool:
    return any(config.getoption(name) not in (None, False, []) for name in _IMPLY)


@pytest.fixture
def forklore(request: pytest.FixtureRequest) -> Forklore:
    """Traces commands: ``trace = forklore.run(["make"])``; see docs/pytest.md."""
    from forklore.testing.ran import Forklore

    session = request.config.pluginmanager.get_plugin(SESSION)
    return Forklore(None if session is None else session.tracer)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """What a trace has to say to an assertion that failed."""
    for side in (left, right):
        explain = getattr(side, "_forklore_explained", None)
        if explain is not None:
            lines: list[str] = explain(op, left, right)
            return lines
    return None
