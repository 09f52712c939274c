"""The plugin's side of the tracer: started before the tests, asked after each of them."""

from __future__ import annotations

import _thread
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

import forklore
from forklore.linux.ours.this_process import let_trace
from forklore.testing.account import Account, Span, from_json

_START: Final = 30.0
"""Seconds that the tracer has to attach to this process."""


class TracerError(Exception):
    """The tracer could not attach, or is gone; the text says why."""


class Tracer:
    """A tracer of this process."""

    def __init__(self, output: str | None = None) -> None:
        """``output``: a file for the whole trace. Raises TracerError."""
        ours, theirs = socket.socketpair()
        source = str(Path(forklore.__file__).parent.parent)
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
        words = [sys.executable, "-m", "forklore.testing.tracer", str(os.getpid()), str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(
                [*words, *([] if output is None else [output])],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
            )
        let_trace(self._process.pid)
        self._socket = ours
        self._pending = b""
        self.busy = False
        """A question is asked: no other can be, as a handler of a signal might."""
        ours.settimeout(_START)
        try:
            said = msgspec.json.decode(self._line())
        except (TimeoutError, TracerError) as problem:
            self._process.kill()
            self._process.wait()
            raise TracerError(f"forklore could not attach to pytest: {problem}") from None
        ours.settimeout(None)
        if "refused" in said:
            self._process.wait()
            raise TracerError(f"forklore could not attach to pytest: {said['refused']}")

    @property
    def pid(self) -> int:
        """Its pid."""
        return self._process.pid

    def fileno(self) -> int:
        """The descriptor that it is asked by."""
        return self._socket.fileno()

    def account(self, span: Span, but: Sequence[Span] = (), leaked: Sequence[str] = ()) -> Account:
        """What was made in a span, in ns of CLOCK_MONOTONIC, up to now."""
        question = {"what": "account", "marker": _mark(), "span": span, "but": but, "leaked": leaked}
        return from_json(self._answer(question))

    def run(self, argv: Sequence[str], cwd: str | None, environment: Mapping[str, str]) -> int:
        """Run a command with this process's 0, 1 and 2, outside of what is traced; its exit status, as subprocess."""
        question = {"what": "run", "argv": argv, "cwd": cwd or os.getcwd(), "environment": dict(environment)}
        return int(msgspec.json.decode(self._answer(question, [0, 1, 2]))["status"])

    def watch(self, since: int, until: int = 0) -> None:
        """A test runs, which began then and is to end before; without ``until`` none does. One that does not is looked
        at, and this process gets SIGALRM."""
        self._answer({"what": "watch", "span": (since, until)})

    def hang(self) -> str:
        """What that look found; empty where no test was too long."""
        return str(msgspec.json.decode(self._answer({"what": "hang"}))["text"])

    def _answer(self, question: dict[str, Any], fds: Sequence[int] = ()) -> bytes:
        raw = msgspec.json.encode(question) + b"\n"
        self.busy = True
        try:
            # The descriptors go with the first byte.
            sent = socket.send_fds(self._socket, [raw], fds) if fds else 0
            self._socket.sendall(raw[sent:])
            return self._line()
        finally:
            self.busy = False

    def close(self) -> None:
        """Leave this process, which goes on."""
        try:
            self._socket.sendall(msgspec.json.encode({"what": "end"}) + b"\n")
        except OSError:
            self._process.terminate()  # it is gone, or going
        self._socket.close()
        self._process.wait()

    def _line(self) -> bytes:
        while b"\n" not in self._pending:
            raw = self._socket.recv(1 << 16)
            if not raw:
                raise TracerError(f"the tracer has ended with {self._process.wait()}")
            self._pending += raw
        line, _, self._pending = self._pending.partition(b"\n")
        return line


def _mark() -> int:
    """Make a thread that ends at once, and give its tid: whatever was made before is in the trace before its end."""
    told: list[int] = []
    done = _thread.allocate_lock()
    done.acquire()

    def mark() -> None:
        told.append(_thread.get_native_id())
        done.release()

    _thread.start_new_thread(mark, ())
    done.acquire()
    return told[0]


def now() -> int:
    """CLOCK_MONOTONIC, which traces count by, in ns."""
    return time.monotonic_ns()
