"""The process that traces a process of pytest: attaches to it, and answers what each test made.

``python -m forklore.testing.tracer PID FD [FILE]``: FD is a stream socket. Each question is a line of JSON, and so is
each answer. It is the child of the process that it traces, and was made before: nothing of it is in the trace.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from typing import Final

import msgspec
from msgspec import Struct

from forklore.abi.units import Pid, TaskId, Tid
from forklore.events import records as ev
from forklore.linux import descriptors
from forklore.linux.proc import state
from forklore.linux.tracing.wait import kill
from forklore.sources.header import TraceRefusedError
from forklore.sources.ptrace.attach import Attachment
from forklore.sources.ptrace.exec_descriptors import surviving
from forklore.sources.ptrace.options import Options, Stops
from forklore.sources.ptrace.tracee import Tracee
from forklore.sources.recording import Recording
from forklore.sources.task_table import ThreadGroup
from forklore.testing.account import Accounts, Span, is_left

_GRACE: Final = 0.2
"""Seconds that threads have to end which were joined: their join returns a little earlier."""
_STUCK: Final = 10.0
"""Seconds after which a test that was interrupted and goes on is killed, with its process."""
_LOOK: Final = 60.0
_LOST: Final = 10.0
"""Seconds after which a mark that does not show up is given up: the loop does not run any more."""


class Question(Struct, omit_defaults=True):
    """What the plugin asks. ``what``: ``account``, ``run``, ``watch``, ``hang`` or ``end``."""

    what: str
    marker: int = 0
    """The tid of a thread that was made and ended since: once its end is seen, all before it has been."""
    span: Span = (0, 0)
    """In ns of CLOCK_MONOTONIC. ``watch``: since when a test runs and when it hangs; 0 for the latter: none runs."""
    but: list[Span] = []
    leaked: list[str] = []
    argv: list[str] = []
    cwd: str = ""
    environment: dict[str, str] = {}
    """``run``: a command, with the three descriptors that come with the line."""


class Service:
    """Takes events from the loop's thread, and answers in one of its own."""

    def __init__(self, source: Attachment, plugin: socket.socket, pid: int, given: ev.Descriptors | None) -> None:
        """``given``: what the process had open when it was attached to."""
        self._source = source
        self._pid = pid
        self._plugin = plugin
        self._start = source.header.clock.start or 0
        self._events: deque[ev.Event] = deque()
        self._accounts = Accounts(source.header, given)
        self._markers: set[TaskId] = set()
        self._seen = threading.Condition()
        self._ready = False
        self._reading = threading.Lock()
        self._watched = threading.Condition()
        self._watch: Span = (0, 0)
        self._hang = ""

    def event(self, event: ev.Event) -> None:
        """Take the next event; in the loop's thread."""
        self._events.append(event)

    def idle(self, _t: int) -> float:
        """All that was seen so far has been told."""
        with self._seen:
            self._seen.notify_all()
        if not self._ready:
            self._ready = True
            self._plugin.sendall(b'{"ready":true}\n')
        return 0.0

    def serve(self) -> None:
        """Answer until the plugin goes."""
        pending = b""
        fds: list[int] = []
        while True:
            raw, more, _flags, _from = socket.recv_fds(self._plugin, 1 << 16, 3)
            fds += more
            pending += raw
            while b"\n" in pending:
                line, _, pending = pending.partition(b"\n")
                question = msgspec.json.decode(line, type=Question)
                if question.what == "end":
                    self._source.stop()
                    return
                self._plugin.sendall(self._answer(question, fds) + b"\n")
                fds = []
            if not raw:
                self._source.stop()
                return

    def _answer(self, question: Question, fds: list[int]) -> bytes:
        if question.what == "run":
            return _run(question, fds)
        if question.what == "watch":
            with self._watched:
                self._watch, self._hang = question.span, ""
                self._watched.notify()
            return b"{}"
        if question.what == "hang":
            with self._watched:
                self._watch = (0, 0)  # it was interrupted
                self._watched.notify()
            return msgspec.json.encode({"text": self._hang})
        marker = self._await(question.marker)
        if marker is not None:
            self._markers.add(marker)
        span = question.span[0] - self._start, question.span[1] - self._start
        but = [(start - self._start, end - self._start) for start, end in question.but]
        tasks = self._accounts.tasks(span, but, frozenset(self._markers))
        deadline = time.monotonic() + _GRACE
        while any(is_left(task) and task.kind == "thread" for task in tasks):
            left = deadline - time.monotonic()
            if left <= 0 or not self._wait(left):
                break
            tasks = self._accounts.tasks(span, but, frozenset(self._markers))
        account = self._accounts.account(tasks, lambda tid: state(tid) == "Z", question.leaked)
        return msgspec.json.encode(account)

    def watch(self) -> None:
        """Look at a test that hangs, and interrupt it; one that cannot be interrupted is told and killed."""
        told: Span = (0, 0)
        asked = 0
        while True:
            with self._watched:
                watch = self._watch
                due = watch[1] if watch != told else asked + int(_STUCK * 1e9)
                left = None if watch[1] == 0 else (due - time.monotonic_ns()) / 1e9
                if left is None or left > 0:
                    self._watched.wait(left)
                    continue
            if watch == told:
                sys.stderr.write(f"forklore: pytest {self._pid} does not take its SIGALRM, and is killed\n{self._hang}")
                sys.stderr.flush()
                kill(Pid(self._pid), signal.SIGKILL)
                return
            text = self._why(watch[0] - self._start)
            with self._watched:
                if self._watch == watch:
                    self._hang, told, asked = text, watch, time.monotonic_ns()
                    kill(Pid(self._pid), signal.SIGALRM)

    def _why(self, since: int) -> str:
        """What the process, and what the test made of which it is there still, wait for."""
        self._drain()
        with self._reading:
            tasks = self._accounts.tasks((since, time.monotonic_ns()), (), frozenset(self._markers))
        left = [task.tid for task in tasks if is_left(task) and task.kind == "process"]
        command = [sys.executable, "-m", "forklore", "why", "--columns", "100", *map(str, (self._pid, *left))]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_LOOK)
        return done.stdout or done.stderr

    def _await(self, tid: int) -> TaskId | None:
        """The task of a mark, once its end has been told."""
        deadline = time.monotonic() + _LOST
        while True:
            self._drain()
            found = self._accounts.by_tid(tid)
            if found is not None and not is_left(found) and found.id not in self._markers:
                return found.id
            left = deadline - time.monotonic()
            if left <= 0 or not self._wait(left):
                return None if found is None else found.id

    def _wait(self, seconds: float) -> bool:
        """Until something more was told; False where the time is over."""
        with self._seen:
            told = bool(self._events) or self._seen.wait(seconds)
        self._drain()
        return told

    def _drain(self) -> None:
        with self._reading:
            while self._events:
                self._accounts.feed(self._events.popleft())


def _given(pid: int) -> ev.Descriptors | None:
    """What a process has open; None where that cannot be read."""
    try:
        with descriptors.Reader(Tid(pid)) as reader:
            raw = [reader.raw(fd, target) for fd, target in reader.targets(reader.numbers()).items()]
    except OSError:
        return None
    tracee = Tracee(TaskId(1), Tid(pid), ThreadGroup(Pid(pid), None), 0)
    return surviving(tracee, None, 0, raw, [None] * len(raw), 0)


def _run(question: Question, fds: list[int]) -> bytes:
    """A command, outside of the trace: what is traced here cannot be traced by another."""
    stdin, stdout, stderr = fds
    try:
        done = subprocess.run(
            question.argv, check=False, stdin=stdin, stdout=stdout, stderr=stderr, cwd=question.cwd or None,
            env=question.environment or None,
        )  # fmt: skip
    finally:
        for fd in fds:
            os.close(fd)
    return msgspec.json.encode({"status": done.returncode})


def main(words: list[str]) -> int:
    """Trace until the plugin says that it is over, or is gone."""
    pid, fd = int(words[0]), int(words[1])
    with socket.socket(fileno=fd) as plugin:
        options = Options(stops=Stops.EVENTS, follow_untraced=False)
        source = Attachment([Pid(pid)], options)
        service = Service(source, plugin, pid, _given(pid))
        recording = Recording(source.header, words[2] if len(words) > 2 else None)
        # The source waits for these in this thread, and no other may take them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        threading.Thread(target=service.serve, name="service", daemon=True).start()
        threading.Thread(target=service.watch, name="watch", daemon=True).start()
        try:
            recording.record(source, service.event, service.idle)
        except TraceRefusedError as problem:
            plugin.sendall(msgspec.json.encode({"refused": str(problem)}) + b"\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
