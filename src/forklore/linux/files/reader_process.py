"""A process that looks up and reads files whose file system may not answer: FUSE without a server, a network's.

It reads memory that is mapped from them as well.

Who waits for such a file system is deaf: to what Python does at a signal, and where the server has taken note of the
request, to every signal. So nobody here waits for longer than :data:`_PATIENCE`, and what all such waits take is
:data:`_IN_ALL`. The process is no child of ours (the tracer waits for any child), holds nothing but its socket, and is
ended by its own timer. None of its descriptors comes to us but by O_PATH: to close a file of FUSE asks the server, too.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
import warnings
from typing import TYPE_CHECKING, Final, NoReturn

from forklore.abi.units import Address, Pid, Tid, Unavailable
from forklore.linux.files.file_calls import openat2
from forklore.linux.ours import leaving
from forklore.linux.tracing.wait import reap

if TYPE_CHECKING:
    import socket

_PATIENCE: Final = 0.25
"""Seconds for one answer."""
_IN_ALL: Final = 0.5
"""Seconds of waiting, what is below :data:`_QUICK` not counted; after that nothing is asked."""
_QUICK: Final = 0.005
_PIECE: Final = 1 << 16
_REQUEST: Final = struct.Struct("=cQQQ")
"""What is asked; the number of an opened file, offset and size. A name follows."""
_ANSWER: Final = struct.Struct("=iQQQQ")
"""errno; number, size, device and inode of an opened file. Bytes follow."""
_WALK, _OPEN, _READ, _CLOSE, _MEMORY = b"w", b"o", b"r", b"c", b"m"
_IN_ROOT: Final = 0x10
_READING: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_SILENT: Final = Unavailable(
    errno.ETIMEDOUT, "its file system (FUSE or a network's) has not answered in time, and is not asked any more"
)


class _Ours:
    """Our end: at most one process at a time."""

    socket: socket.socket | None = None
    pid = Tid(0)
    former: frozenset[Tid] = frozenset()
    """Those that were given up or ended."""
    left = _IN_ALL


def is_ours(tid: Tid) -> bool:
    """Whether ``tid`` is such a process: it is our child where we adopt orphans."""
    return tid == _Ours.pid or tid in _Ours.former


def end() -> None:
    """End the process; the next request makes another one."""
    if _Ours.socket is not None:
        _Ours.socket.close()
        _Ours.socket = None
        _Ours.former |= {_Ours.pid}


def walk(folder: int | None, path: bytes) -> int | Unavailable:
    """An O_PATH descriptor of what ``path`` names below an open directory; without one, as this process sees it."""
    answer = _ask(_REQUEST.pack(_WALK, 0, 0, 0) + path, [] if folder is None else [folder])
    if isinstance(answer, Unavailable):
        return answer
    return answer[1][0] if answer[1] else Unavailable(errno.EIO, os.strerror(errno.EIO))


def opened(descriptor: int) -> Remote | Unavailable:
    """The regular file that an O_PATH descriptor stands for; the descriptor stays the caller's."""
    file = Remote(os.dup(descriptor))
    why = file.open()
    if why is None:
        return file
    file.close()
    return why


def memory(tid: Tid, address: int, size: int) -> bytes | Unavailable:
    """Memory of a task that is mapped from such a file: up to ``size`` bytes, fewer where unmapped memory follows.

    The process is not its tracer, so that an ordinary user's may be refused (Yama).
    """
    answer = _ask(_REQUEST.pack(_MEMORY, tid, address, min(size, _PIECE)), [])
    return answer if isinstance(answer, Unavailable) else answer[0][_ANSWER.size :]


class Remote:
    """A file that the process opens: a :class:`forklore.linux.files.strangers_file.StrangersFile`."""

    def __init__(self, place: int) -> None:
        self.size = 0
        self.identity = (0, 0), 0
        self.written: int | None = None
        self._place = place
        self._number = 0
        self._process = Tid(0)

    def open(self) -> Unavailable | None:
        """Have the process open it; why it could not."""
        answer = _ask(_REQUEST.pack(_OPEN, 0, 0, 0), [self._place])
        if isinstance(answer, Unavailable):
            return answer
        _, self._number, self.size, device, inode = _ANSWER.unpack_from(answer[0])
        self.identity = (os.major(device), os.minor(device)), inode
        self._process = _Ours.pid
        return None

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of it, fewer where it ends now. OSError where none came in time."""
        got = bytearray()
        while len(got) < size:
            if (_Ours.socket is None or self._process != _Ours.pid) and (why := self.open()) is not None:
                raise OSError(why.errno, why.why)
            request = _REQUEST.pack(_READ, self._number, offset + len(got), min(_PIECE, size - len(got)))
            answer = _ask(request, [])
            if isinstance(answer, Unavailable):
                raise OSError(answer.errno, answer.why)
            piece = answer[0][_ANSWER.size :]
            if not piece:
                break
            got += piece
        return bytes(got)

    def close(self) -> None:
        """Let go of it. Nobody waits for that."""
        if self._place < 0:
            return
        os.close(self._place)
        self._place = -1
        if _Ours.socket is not None and self._process == _Ours.pid:
            try:
                _Ours.socket.send(_REQUEST.pack(_CLOSE, self._number, 0, 0))
            except OSError:
                end()

    __del__ = close


def _ask(request: bytes, descriptors: list[int]) -> tuple[bytes, list[int]] | Unavailable:
    if _Ours.left <= 0 or leaving.overdue():
        return _SILENT
    import socket

    began = time.monotonic()
    try:
        ours = _Ours.socket or _start()
        socket.send_fds(ours, [request], descriptors)
        message, received = _received(ours)
    except TimeoutError:
        end()
        return _SILENT
    except OSError as problem:
        end()
        return Unavailable(problem.errno or 0, f"no process could be made to read it: {problem.strerror}")
    finally:
        _Ours.left -= max(0.0, time.monotonic() - began - _QUICK)
    if len(message) < _ANSWER.size:  # it has ended: out of memory, or killed
        end()
        return _SILENT
    number = _ANSWER.unpack_from(message)[0]
    return (message, received) if number == 0 else Unavailable(number, os.strerror(number))


def _received(end_: socket.socket) -> tuple[bytes, list[int]]:
    import socket

    most = _ANSWER.size + _PIECE
    message, found, _flags, _address = socket.recv_fds(end_, most, 1, socket.MSG_CMSG_CLOEXEC)
    return message, list(found)


def _start() -> socket.socket:
    import socket

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # our handlers are not its
    try:
        with warnings.catch_warnings():
            # Other threads of ours wait in the kernel and hold no lock that it needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
            if pid == 0:
                _become(theirs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    reap(Pid(pid))
    ours.settimeout(_PATIENCE)
    _Ours.socket = ours
    _Ours.pid = Tid(int(ours.recv(16) or b"0"))
    return ours


def _become(theirs: socket.socket) -> NoReturn:
    try:
        if os.fork() == 0:
            _serve(theirs)
    finally:
        os._exit(0)


def _serve(theirs: socket.socket) -> None:
    os.setsid()
    own = theirs.fileno()
    os.closerange(0, own)
    os.closerange(own + 1, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    theirs.send(b"%d" % os.getpid())
    while True:
        message, received = _received(theirs)
        if not message:
            return
        signal.setitimer(signal.ITIMER_REAL, 2 * _PATIENCE)
        what, number, offset, size = _REQUEST.unpack_from(message)
        if what == _CLOSE:
            os.close(number)
            signal.setitimer(signal.ITIMER_REAL, 0)
            continue
        try:
            answer, found = _done(what, number, offset, size, message[_REQUEST.size :], received)
        except OSError as problem:
            answer, found = _ANSWER.pack(problem.errno or errno.EIO, 0, 0, 0, 0), None
        _send(theirs, answer, found)
        for descriptor in [*received, *([] if found is None else [found])]:
            os.close(descriptor)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _done(
    what: bytes, number: int, offset: int, size: int, path: bytes, received: list[int]
) -> tuple[bytes, int | None]:
    """The answer, and a descriptor that goes with it."""
    if what == _READ:
        return _ANSWER.pack(0, 0, 0, 0, 0) + os.pread(number, size, offset), None
    if what == _MEMORY:
        return _ANSWER.pack(0, 0, 0, 0, 0) + _memory(Tid(number), offset, size), None
    if what == _WALK:
        return _ANSWER.pack(0, 0, 0, 0, 0), _walked(received[0] if received else None, path)
    descriptor = os.open(f"/proc/self/fd/{received[0]}", _READING)
    about = os.fstat(descriptor)
    return _ANSWER.pack(0, descriptor, about.st_size, about.st_dev, about.st_ino), None


def _memory(tid: Tid, address: int, size: int) -> bytes:
    from forklore.linux.memory import PAGE_SIZE, read_whatever

    got = b""
    while len(got) < size:
        piece = read_whatever(tid, Address(address + len(got)), min(size - len(got), PAGE_SIZE))
        if isinstance(piece, Unavailable):
            if not got:
                raise OSError(piece.errno, piece.why)
            break
        got += piece
    return got


def _walked(folder: int | None, path: bytes) -> int:
    if folder is None:
        return os.open(path, os.O_PATH | os.O_CLOEXEC)
    found = openat2(folder, path, os.O_PATH | os.O_CLOEXEC, _IN_ROOT)
    if found < 0:
        raise OSError(-found, os.strerror(-found))
    return found


def _send(theirs: socket.socket, answer: bytes, descriptor: int | None) -> None:
    import socket

    socket.send_fds(theirs, [answer], [] if descriptor is None else [descriptor])
