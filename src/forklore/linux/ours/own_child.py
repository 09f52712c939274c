"""A child of our own on which something is tried that would change this process, or that takes another one."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Callable

from forklore.abi.units import Pid, Tid, Unavailable
from forklore.abi.wait import WaitOption
from forklore.linux.proc import unavailable
from forklore.linux.tracing import ptrace


class OwnChild:
    """A forked child that does ``work`` when it is told to, and waits until the block ends. It may be traced there."""

    pid: Pid

    def __init__(self, work: Callable[[], None] | None = None) -> None:
        self._work = work

    def __enter__(self) -> OwnChild:
        go_read, self._go = os.pipe2(os.O_CLOEXEC)
        self._done, done_write = os.pipe2(os.O_CLOEXEC)
        self.pid = Pid(os.fork())
        if self.pid == 0:
            try:
                os.close(self._go)
                if os.read(go_read, 1) and self._work is not None:
                    self._work()
                    os.write(done_write, b".")
                    os.read(go_read, 1)
            finally:
                os._exit(0)
        os.close(go_read)
        os.close(done_write)
        return self

    def act(self) -> None:
        """Let it work, and wait until it has. OSError if it failed."""
        os.write(self._go, b".")
        if not os.read(self._done, 1):
            raise OSError(errno.EIO, "the child that tried it failed", "a trial")

    def wait(self) -> int:
        """Its next wait status."""
        return os.waitpid(self.pid, WaitOption.WALL)[1]

    def __exit__(self, *_exception: object) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.close(self._go)
        os.close(self._done)
        while os.WIFSTOPPED(self.wait()):
            # A killed tracee still stops once, at PTRACE_EVENT_EXIT.
            ptrace.cont(Tid(self.pid))


def attempt(trial: Callable[[], bool]) -> bool | Unavailable:
    """What a trial answers, or the error of the call that failed."""
    try:
        return trial()
    except OSError as problem:
        return unavailable(problem, problem.filename or "it")


def in_child(trial: Callable[[], bool]) -> bool | Unavailable:
    """The same, tried in a child that ends right after."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a filter may end it as a crash does
            answer = attempt(trial)
            told = (answer.errno, answer.why) if isinstance(answer, Unavailable) else (-1, str(answer))
            os.write(write_end, f"{told[0]} {told[1]}".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answers:
        number, _, text = answers.read().decode(errors="replace").partition(" ")
    _, status = os.waitpid(pid, 0)
    if not number:
        return Unavailable(0, f"the child that tried it was ended by {_ending(status)}")
    return text == "True" if number == "-1" else Unavailable(int(number), text)


def _ending(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit {code}"
