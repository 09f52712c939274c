"""The plugin for pytest, run in a pytest of its own: what is told of each test, limits, hangs, the fixture, xdist."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from xml.etree import ElementTree

import pytest
from tracing import ENVIRONMENT, TIMEOUT

import forklore

pytest_plugins = ["pytester"]

SUITE = """
import os, subprocess, sys, threading
import pytest

@pytest.fixture(scope="module")
def server():
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        yield process

def test_nothing():
    pass

def test_two(server):
    subprocess.run(["true"])
    subprocess.run(["sh", "-c", "true; true"])

@pytest.mark.forklore(max_processes=1)
def test_too_many():
    for _ in range(3):
        subprocess.run(["true"])

@pytest.mark.forklore(no_leftovers=True)
def test_left():
    read, write = os.pipe()
    global keep
    keep = write, subprocess.Popen(["cat"], stdin=read)

@pytest.mark.forklore(no_zombies=True)
def test_zombie():
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

@pytest.mark.forklore(no_leaked_fds=True)
def test_open():
    global file
    file = open("/etc/passwd")

@pytest.mark.forklore(forbid_exec=["rm", "*shutdown*"])
def test_exec():
    subprocess.run(["rm", "-f", "/nowhere/x"])

@pytest.mark.forklore(no_fork_after_threads=True)
def test_fork():
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    gate.set()
    thread.join()

@pytest.mark.forklore(no_leftovers=True, max_threads=2, max_processes=1, no_zombies=True, no_leaked_fds=True)
def test_right():
    threads = [threading.Thread(target=os.getpid) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert subprocess.run(["true"]).returncode == 0
"""
WRONG = {
    "test_too_many": "3 processes were made, and max_processes=1: ",
    "test_left": "left behind, and no_leftovers: ",
    "test_zombie": "ended and never waited for, and no_zombies: ",
    "test_open": "leaked, and no_leaked_fds: ",
    "test_exec": "executed, and forbid_exec='rm': ",
    "test_fork": "forked beside its own threads, and no_fork_after_threads: ",
}


def ran(pytester: pytest.Pytester, *words: str, suite: str = SUITE) -> tuple[int, str]:
    """The status and the output of pytest with these words over a suite."""
    (pytester.path / "test_it.py").write_text(suite)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    environment = {name: value for name, value in ENVIRONMENT.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        command, env=environment, cwd=pytester.path, capture_output=True, text=True, timeout=4 * TIMEOUT, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("more", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_limits_are_kept_and_each_test_is_told(pytester: pytest.Pytester, more: tuple[str, ...]) -> None:
    status, told = ran(pytester, "--forklore", "-v", *more)
    assert status == 1
    for name, words in WRONG.items():
        assert f"test_it.py::{name}: {words}" in told, name
    assert "6 failed, 3 passed" in told
    assert "error" not in told[told.rindex("===== ") :]
    summary = told[told.index("= forklore =") :]
    assert re.search(r"^test_it.py::test_two: [23] processes", summary, re.M), "the server's is not among them"
    assert re.search(r"^test_it.py::test_right: 1 process; 2 threads$", summary, re.M)
    assert "test_nothing" not in summary
    left = re.search(r"^test_it.py::test_left: .*\n    left behind: \d+ cat \(test_it.py:\d+\)", summary, re.M)
    assert left is not None
    assert re.search(r"    \d+ true \(test_it.py:\d+\)  exit 0", summary), "with -v each process"


OUTCOMES = """
    import pytest, subprocess

    kept = []

    def leave():
        kept.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))

    @pytest.fixture
    def cleaned():
        yield leave
        while kept:
            with kept.pop() as process: process.stdin.close()

    @pytest.fixture
    def leaves():
        leave()
        yield
        assert False, "torn"

    pytestmark = pytest.mark.forklore(no_leftovers=True)

    def test_cleaned_up(cleaned): cleaned()
    def test_passes(): leave()
    def test_fails(): leave(); assert 1 == 2
    @pytest.mark.xfail
    def test_may_fail(): leave(); assert 1 == 2
    def test_skipped(): leave(); pytest.skip("no")
    def test_torn(leaves): pass
"""


def test_what_is_judged_after_the_fixtures_fails_the_test_once(pytester: pytest.Pytester) -> None:
    status, told = ran(pytester, "--forklore", "--junit-xml=x.xml", "-rA", suite=_plain(OUTCOMES))
    assert status == 1
    line = told.splitlines()[-1]
    assert "3 failed, 1 passed, 1 skipped, 1 xfailed, 3 errors" in line, told
    assert "FAILED test_it.py::test_passes" in told
    assert "ERROR test_it.py::test_may_fail" in told, "what may fail does so by itself"
    failed = told[told.index("_ test_fails _") : told.index("_ test_torn _", told.index("_ test_fails _"))]
    assert failed.index("assert 1 == 2") < failed.index("- forklore -") < failed.index("no_leftovers: ")
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "x.xml").iter("testcase")}
    (wrong,) = (each for each in cases["test_passes"] if each.tag in ("failure", "error"))
    assert (wrong.tag, "left behind, and no_leftovers" in (wrong.get("message") or "")) == ("failure", True)
    assert not [each.tag for each in cases["test_cleaned_up"] if each.tag in ("failure", "error")]


def test_a_plugin_that_runs_tests_in_its_own_way_is_let(pytester: pytest.Pytester) -> None:
    (pytester.path / "conftest.py").write_text(_plain("""
        from _pytest.runner import runtestprotocol
        def pytest_runtest_protocol(item, nextitem):
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            runtestprotocol(item, nextitem=nextitem)
            return True
    """))
    status, told = ran(pytester, "--forklore", "-k", "left or right")
    assert status == 1
    assert "2 passed, 7 deselected, 1 error" in told
    assert "test_it.py::test_left: left behind, and no_leftovers: " in told


def test_without_the_option_markers_say_nothing_and_nothing_is_loaded(pytester: pytest.Pytester) -> None:
    status, told = ran(pytester, "-q")
    assert status == 0
    assert "forklore" not in told
    code = "import sys, pytest; pytest.main(['-q', '--co']); print(*(m for m in sys.modules if 'forklore' in m))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, cwd=pytester.path, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.splitlines()[-1].split()) <= {
        "forklore", "forklore.version", "forklore.testing", "forklore.testing.plugin",
    }  # fmt: skip


def test_limits_for_all_tests(pytester: pytest.Pytester) -> None:
    suite = """
        import pytest, subprocess
        def test_one(): subprocess.run(["true"])
        def test_two(): [subprocess.run(["true"]) for _ in range(2)]
        @pytest.mark.forklore(max_processes=None)
        def test_three(): [subprocess.run(["true"]) for _ in range(3)]
    """
    status, told = ran(pytester, "--forklore-max-processes", "1", suite=_plain(suite))
    assert (status, "1 failed, 2 passed" in told) == (1, True)
    status, told = ran(pytester, "--forklore-forbid-exec", "tr?e", "--forklore-no-zombies", suite=_plain(suite))
    assert (status, "3 failed" in told) == (1, True)
    status, told = ran(pytester, "--forklore-max-processes", "-1", suite=_plain(suite))
    assert status == 4
    assert "max_processes is a number from 0, not -1" in told


def test_a_marker_that_there_is_not(pytester: pytest.Pytester) -> None:
    suite = """
        import pytest
        @pytest.mark.forklore(max_procs=1)
        def test_one(): pass
        @pytest.mark.forklore(1)
        def test_two(): pass
    """
    status, told = ran(pytester, "--forklore", suite=_plain(suite))
    assert status == 1
    assert "the marker forklore has no max_procs; there are forbid_exec" in told
    assert "limits are given by name, as max_processes=2" in told


FIXTURE = """
    def test_command(forklore, capfd):
        trace = forklore.run(["sh", "-c", "true; echo said; exit 3"])
        assert (trace.status, capfd.readouterr().out) == (3, "said\\n")
        assert trace.programs == ["sh"] and len(trace.processes) == 1 and trace.threads == []
        assert trace.findings() == []

    def test_wrong(forklore):
        trace = forklore.run(["sh", "-c", "/bin/true; /bin/true; exit 0"])
        assert trace.programs == ["sh", "cat"]

    def test_not_in(forklore):
        assert "/bin/true" not in forklore.run(["sh", "-c", "/bin/true; exit 0"]).commands
"""


@pytest.mark.parametrize("option", ["-q", "--forklore"])
def test_the_fixture_traces_commands(pytester: pytest.Pytester, option: str) -> None:
    status, told = ran(pytester, option, suite=_plain(FIXTURE))
    assert status == 1
    assert "2 failed, 1 passed" in told
    assert "AssertionError: assert ['sh', 'true', 'true'] == ['sh', 'cat']" in told
    assert re.search(r"E +\d+ sh -c '/bin/true; /bin/true; exit 0' +→ exit 0", told), "the tree explains it"
    assert "'/bin/true' not in [" in told


def test_the_trace_is_kept(pytester: pytest.Pytester) -> None:
    suite = _plain("import subprocess\ndef test_one(): subprocess.run(['true'])\n")
    status, _told = ran(pytester, "--forklore-trace", "t.jsonl", suite=suite)
    assert status == 0
    trace = forklore.load(pytester.path / "t.jsonl")
    assert [task.name for task in trace.tasks.values() if task.kind == "process" and task.how == "created"] == [b"true"]
    status, _told = ran(pytester, "--forklore-trace", "x.jsonl", "-n", "2", suite=suite)
    assert status == 0
    assert sorted(path.name for path in pytester.path.glob("x.jsonl*")) == ["x.jsonl.gw0", "x.jsonl.gw1"]


HANGS = """
    import subprocess, threading

    def test_child():
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.read()

    def test_lock():
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()

    def test_after():
        pass
"""
NATIVE = """
    import ctypes

    def test_native():
        mutex = ctypes.create_string_buffer(64)
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
        ctypes.PyDLL(None).pthread_mutex_lock(mutex)
"""


def test_a_test_that_hangs_fails_with_what_it_waits_for(pytester: pytest.Pytester) -> None:
    status, told = ran(pytester, "--forklore-timeout", "1", suite=_plain(HANGS))
    assert status == 1
    assert "2 failed, 1 passed" in told
    assert told.count("still not over after 1 s (--forklore-timeout)") >= 2
    flat = re.sub(r"\n(?:E +)?", " ", told)
    assert re.search(r"Failed: still not over after 1 s \(--forklore-timeout\) \d+ \S+ .*pipe:\[\d+\]", flat)
    assert re.search(r"it waits for a lock of CPython \(in test_lock, test_it.py:11", flat)


def test_a_process_that_cannot_be_interrupted_is_told_and_killed(pytester: pytest.Pytester) -> None:
    status, told = ran(pytester, "--forklore-timeout", "1", suite=_plain(NATIVE))
    assert status == -9
    assert re.search(r"forklore: pytest \d+ does not take its SIGALRM, and is killed", told)
    assert "which it has locked" in told


def test_where_it_may_not_attach_it_says_why_and_nothing_of_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    python = (sys.executable, "-m")
    traced = pytester.run(*python, "forklore", "run", "-q", "--", *python, "pytest", "--forklore")
    assert traced.ret == pytest.ExitCode.USAGE_ERROR
    traced.stderr.fnmatch_lines(["ERROR: forklore could not attach to pytest: *", "(see: forklore doctor)"])
    traced.stdout.no_fnmatch_line("*no test made*")


def test_a_suite_goes_on_where_its_tracer_is_asked_to_end(pytester: pytest.Pytester) -> None:
    suite = """
        import os, pytest, subprocess
        def test_one():
            mine = f"PPid:\\t{os.getpid()}"
            for pid in filter(str.isdecimal, os.listdir("/proc")):
                try: status = open(f"/proc/{pid}/status").read()
                except OSError: continue
                if mine in status: os.kill(int(pid), 15)
            assert subprocess.run(["true"]).returncode == 0
    """
    _status, told = ran(pytester, "--forklore", suite=_plain(suite))
    assert "the tracer has ended" in told
    assert "Traceback" not in told


def _plain(suite: str) -> str:
    return textwrap.dedent(suite)

