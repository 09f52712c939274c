"""One run of one command, bare or traced, under a supervisor that sees to it that nothing of it stays.

The supervisor leads a session of its own, with a terminal where one is asked for, and adopts what the command leaves
behind. A placeholder leads the process group: the command is a member of it and not its leader, traced or not, and
what it sends to its own group reaches no supervisor.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pty
import shutil
import signal
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from transparent.observed import Run, Seen, witnessed

_PR_SET_CHILD_SUBREAPER: Final = 36
_GRACE: Final = 0.5
"""Seconds that what a command left behind has to end by itself before it counts as left behind."""
NOBODY: Final = 65534


class Order(msgspec.Struct, frozen=True):
    """What to run, and in which surroundings. ``uid`` 0 stays who we are."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    uid: int = 0
    terminal: bool = False
    limit: float = 120.0
    """Seconds, after which everything of the run is killed."""


class _End(msgspec.Struct):
    status: int | None
    seconds: float
    cpu: float
    left: list[str]
    terminal: str


def run(order: Order, directory: Path) -> Run:
    """Run it in ``directory``, which is made here, and is its working directory."""
    shutil.rmtree(directory, ignore_errors=True)  # of an earlier harness that was interrupted
    directory.mkdir(mode=0o777, parents=True)
    directory.chmod(0o777)
    out, err, log = (directory.with_suffix(f".{name}") for name in ("stdout", "stderr", "witness"))
    log.touch()
    log.chmod(0o666)
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _supervise(order, directory, (out, err), write)
    os.close(write)
    with open(read, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(pid, 0)
    if not raw:
        raise RuntimeError(f"the supervisor of {' '.join(order.command)} died: what it ran may have killed it")
    end = msgspec.json.decode(raw, type=_End)
    shown = {
        "status": Seen("value", _ending(end.status, order.limit)),
        "stdout": Seen("text", _text(out, directory)),
        "stderr": Seen("text", _text(err, directory)),
        "terminal": Seen("text", end.terminal.replace(str(directory), "DIRECTORY")),
        "left behind": Seen("bag", "\n".join(end.left)),
        **witnessed(log.read_text(errors="backslashreplace"), str(directory)),
    }
    return Run({name: seen for name, seen in shown.items() if seen.text}, end.seconds, end.cpu)


def _text(file: Path, directory: Path) -> str:
    if not file.exists():  # all went to the terminal
        return ""
    return file.read_bytes().decode(errors="backslashreplace").replace(str(directory), "DIRECTORY")


def _ending(status: int | None, limit: float) -> str:
    if status is None:
        return f"still there after {limit:g} s"
    if os.WIFSIGNALED(status):
        return f"killed by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit {os.WEXITSTATUS(status)}"


# The supervisor


def _supervise(order: Order, directory: Path, outputs: tuple[Path, Path], result: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        end = _watch(order, directory, outputs)
        os.write(result, msgspec.json.encode(end))
        code = 0
    finally:
        os._exit(code)


def _watch(order: Order, directory: Path, outputs: tuple[Path, Path]) -> _End:
    master, slave = pty.openpty() if order.terminal else (-1, -1)
    if order.terminal:
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    leader = os.fork()
    if leader == 0:
        os.setpgid(0, 0)
        while True:
            signal.sigwait({signal.SIGCHLD})
    os.setpgid(leader, leader)
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(order, directory, outputs, leader, slave)
    if order.terminal:
        os.tcsetpgrp(slave, leader)
        os.close(slave)
        os.set_blocking(master, False)
    status, cpu, said = _until(child, start + order.limit, master)
    seconds = time.monotonic() - start
    if status is not None:
        _settle(leader, time.monotonic() + _GRACE)
    left = [name for pid in _children() if pid != leader for name in (_comm(pid),) if name]
    _kill_all()
    return _End(status, seconds, cpu, left, said.decode(errors="backslashreplace"))


def _become(order: Order, directory: Path, outputs: tuple[Path, Path], group: int, terminal: int) -> NoReturn:
    try:
        os.setpgid(0, group)
        if terminal >= 0:
            for fd in (0, 1, 2):
                os.dup2(terminal, fd)
        else:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for fd, file in zip((1, 2), outputs, strict=True):
                os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), fd)
        os.closerange(3, 256)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(directory)
        if order.uid:
            os.setgroups([])
            os.setresgid(order.uid, order.uid, order.uid)
            os.setresuid(order.uid, order.uid, order.uid)
        os.execvpe(order.command[0], order.command, dict(order.environment))
    except OSError as failed:
        print(f"cannot run {order.command[0]}: {failed}", file=sys.stderr, flush=True)
    finally:
        os._exit(127)


def _until(child: int, deadline: float, master: int) -> tuple[int | None, float, bytes]:
    # Its wait status and processor time with that of all it waited for, and what the terminal showed.
    said = b""
    while (remaining := deadline - time.monotonic()) > 0:
        said += _read(master)
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            said += _read(master)
            return status, usage.ru_utime + usage.ru_stime, said
        signal.sigtimedwait({signal.SIGCHLD}, min(remaining, 0.1 if master >= 0 else remaining))
    return None, 0.0, said


def _read(master: int) -> bytes:
    said = b""
    while master >= 0:
        try:
            more = os.read(master, 65536)
        except OSError:  # nothing there now, or nobody has the other end open
            break
        said += more
        if not more:
            break
    return said


def _children() -> list[int]:
    return [int(word) for word in Path("/proc/thread-self/children").read_text().split()]


def _comm(pid: int) -> str:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    name, _, rest = state.partition("(")[2].rpartition(")")
    return "" if rest.split()[0] == "Z" else name


def _settle(leader: int, deadline: float) -> None:
    # Orphans come to us when their parents end: they are reaped as they end.
    while (remaining := deadline - time.monotonic()) > 0:
        while True:
            info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)
            if info is None:
                break
        if [pid for pid in _children() if pid != leader] == []:
            return
        signal.sigtimedwait({signal.SIGCHLD}, remaining)


def _kill_all() -> None:
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def readable(command: Sequence[str], uid: int) -> bool:
    """Whether that user can run ``command``, and it succeeds."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            os.chdir("/")
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (1, 2):
                os.dup2(null, fd)
            os.execvp(command[0], list(command))
        finally:
            os._exit(127)
    return os.waitpid(pid, 0)[1] == 0
