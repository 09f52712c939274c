"""`forklore why` as it is typed, and `forklore.why` in Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hanging import Hanging, hanging, made
from tracing import ENVIRONMENT, FORKLORE

import forklore


def why(*words: str, status: int | None = 0, **how: int) -> str:
    done = subprocess.run(
        [*FORKLORE, "why", *words], capture_output=True, text=True, timeout=120, env=ENVIRONMENT, check=False, **how
    )  # type: ignore[call-overload]
    assert status is None or done.returncode == status, (done.returncode, done.stdout, done.stderr)
    return str(done.stdout + done.stderr)


@contextmanager
def copied_lock() -> Iterator[Hanging]:
    with hanging([made("forked.c"), "logging_lock"]) as found:
        yield found


def test_the_first_sentence_is_the_root_cause_and_the_status_is_3() -> None:
    with copied_lock() as found:
        said = why(str(found.asked), status=3)
    first = " ".join(said.split("\n  ")[0].split())
    assert first.startswith(f"{found.asked} forked is deadlocked for certain: it waits for log_lock (forked.c:")
    assert first.endswith("fork copies a locked mutex, not the thread that would unlock it.")


def test_a_tree_tells_every_process_of_it() -> None:
    with copied_lock() as found:
        said = why("--tree", str(found.pid), status=3)
    assert said.count("deadlocked for certain") == 2


def test_by_name(tmp_path: Path) -> None:
    # A name that no other test's program has.
    own = Path(shutil.copy(made("ends.c"), tmp_path / f"own{os.getpid()}"))
    with hanging([own, "server"]) as found:
        assert f"{found.pid} {own.name} waits for connections on TCP 0.0.0.0:" in why("--name", own.name)
    assert "no process is called no-such-name" in why("--name", "no-such-name", status=1)


def test_json_has_the_chain_and_every_task() -> None:
    with copied_lock() as found:
        told = json.loads(why("--format", "json", str(found.asked), status=3))
    assert told["format"] == {"name": "forklore-why", "version": [1, 0]}
    (process,) = told["processes"]
    assert (process["pid"], process["root"], process["certainty"]) == (found.asked, "copied_lock", "certain")
    (task,) = [task for task in told["tasks"] if task["tid"] == found.asked]
    assert task["call"].startswith("futex(0x")
    assert task["restarts"] is True
    assert task["wait"]["name"].startswith("log_lock (forked.c:")
    assert task["wait"]["enders"][0]["able"] is False


def test_verbose_has_the_call_the_state_and_the_stack() -> None:
    with copied_lock() as found:
        said = why("-v", "--stack", str(found.asked), status=3)
    assert "futex(0x" in said
    assert "asleep until an event or a signal" in said
    assert "logging_lock (forked.c:" in said


def test_without_a_pid_what_a_forklore_traces(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    run = subprocess.Popen([*FORKLORE, "run", "-q", "--", "cat", str(fifo)], env=ENVIRONMENT)
    try:
        with open(fifo, "w"):  # once this is open, cat is there and has the other end
            said = why(status=None)  # there may be other programs that are traced, and one of them may hang
            assert " cat waits for data or the end of " in said
    finally:
        run.wait(60)


def test_watch_ends_when_all_have_ended() -> None:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert child.stdin is not None
    command = [*FORKLORE, "why", "--watch", "1", str(child.pid)]
    watch = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    assert watch.stdout is not None
    assert " cat waits for data or the end of pipe:[" in watch.stdout.readline()
    child.stdin.close()
    child.wait()
    watch.stdout.read()
    watch.stdout.close()
    assert watch.wait(60) in (0, 1)


def test_nothing_to_ask_about_is_said_in_words() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert f"{child.pid}: ESRCH: there is no task {child.pid}" in why(str(child.pid), status=1)


def test_a_user_is_told_what_may_not_be_read(open_folder: Path) -> None:
    with hanging([made("ends.c"), "pipe_self"]) as found:
        source = str(open_folder / "src")
        code = f"import sys; sys.path.insert(0, {source!r}); import forklore; print(forklore.why({found.pid}))"
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", code],
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
    if "No module named" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip(f"another user cannot run this Python: {done.stderr.strip().splitlines()[-1]}")
    said = " ".join(done.stdout.split())
    assert "is in something that may not be read" in said, done
    assert said.count("may not be read: it runs as another user (uid 0), and this process lacks CAP_SYS_PTRACE") == 1


def test_in_python() -> None:
    with copied_lock() as found:
        answer = forklore.why(found.asked)
        assert answer
        assert answer.certain
        assert "log_lock (forked.c:" in answer.headlines[0]
        assert str(answer).startswith(f"{found.asked} forked is deadlocked for certain")
        assert json.loads(answer.to_json())["processes"][0]["pid"] == found.asked
        assert len(forklore.why(found.pid, tree=True).conclusions) == 2


def test_seize_finds_all_of_the_stack_and_the_program_goes_on() -> None:
    with hanging([made("alike.c"), "slow_child"], stdin=subprocess.PIPE) as found:
        said = why("--seize", str(found.pid))
        assert "slow_child (alike.c:" in said
        assert "main (" in said
        assert "_start (alike)" in said
        assert found.let_go() == 0


def test_seize_leaves_alone_whose_call_would_fail() -> None:
    with hanging([made("ends.c"), "epoll_held"]) as found:
        assert "it is not held: its call would fail with EINTR" in " ".join(why("--seize", str(found.pid)).split())


def test_all_has_what_looks_wrong_by_name_and_counts_the_rest() -> None:
    with copied_lock() as found:
        said = " ".join(why("--all", status=3).split())
    assert f"{found.asked} forked is deadlocked for certain: it waits for log_lock (forked.c:" in said
    assert " look wrong" in said
