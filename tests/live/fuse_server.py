"""A file system whose server can be told to go silent: FUSE, spoken directly to the kernel (include/uapi/linux/fuse.h).

As a program: ``fuse_server.py MOUNTPOINT SOURCE`` serves the files of a directory, read-only, and takes words on stdin:
``unread`` (requests are not taken any more, as of a server that is stopped), ``unanswered`` (they are taken and not
answered, so that no signal ends who waits), ``empty`` (all is answered but what files hold). At the end of stdin it
unmounts and ends. ``ready`` on stdout: it is mounted.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_IN = struct.Struct("<IIQQIIII")
_OUT = struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _RELEASE, _FLUSH, _INIT = 1, 2, 3, 14, 15, 18, 25, 26
_OPENDIR, _RELEASEDIR, _INTERRUPT, _BATCH_FORGET = 27, 29, 36, 42
_LONG = 1000
"""Seconds for which the kernel may remember names and attributes."""
_ROOT = 1
_LAZILY = 2  # MNT_DETACH


class Server:
    """Serves the files of ``source`` at ``place``."""

    def __init__(self, place: str, source: Path) -> None:
        self._files = dict(enumerate(sorted(source.iterdir()), _ROOT + 1))
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"silent", os.fsencode(place), b"fuse", 0, options.encode()) == -1:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), place)

    def run(self) -> None:
        """Until stdin ends."""
        mood = ""
        while True:
            wanted = [0] if mood == "unread" else [0, self._device]
            ready, _, _ = select.select(wanted, [], [])
            if 0 in ready:
                mood = os.read(0, 64).decode().strip()
                if not mood:
                    return
                os.write(1, b"done\n")
                continue
            request = os.read(self._device, 1 << 18)
            if mood != "unanswered" and (mood != "empty" or _IN.unpack_from(request)[1] != _READ):
                self._answer(request)

    def _answer(self, request: bytes) -> None:
        _, what, unique, node, *_ = _IN.unpack_from(request)
        if what in (_FORGET, _BATCH_FORGET, _INTERRUPT):
            return
        try:
            error, answer = 0, self._done(what, node, request[_IN.size :])
        except OSError as problem:
            error, answer = -(problem.errno or errno.EIO), b""
        os.write(self._device, _OUT.pack(_OUT.size + len(answer), error, unique) + answer)

    def _done(self, what: int, node: int, given: bytes) -> bytes:
        if what == _INIT:
            return struct.pack("<IIIIHHIIHHI7I", 7, 31, 1 << 17, 0, 8, 8, 1 << 17, 1, 32, 0, 0, *[0] * 7)
        if what == _LOOKUP:
            name = os.fsdecode(given.partition(b"\0")[0])
            for number, path in self._files.items():
                if path.name == name:
                    return struct.pack("<QQQQII", number, 0, _LONG, _LONG, 0, 0) + self._about(number)
            raise OSError(errno.ENOENT, "")
        if what == _GETATTR:
            return struct.pack("<QII", _LONG, 0, 0) + self._about(node)
        if what in (_OPEN, _OPENDIR):
            return struct.pack("<QII", 0, 0, 0)
        if what == _READ:
            _, offset, size = struct.unpack_from("<QQI", given)
            with self._files[node].open("rb") as file:
                return os.pread(file.fileno(), size, offset)
        if what in (_FLUSH, _RELEASE, _RELEASEDIR):
            return b""
        raise OSError(errno.ENOSYS, "")

    def _about(self, node: int) -> bytes:
        size = 0 if node == _ROOT else self._files[node].stat().st_size
        mode = stat.S_IFDIR | 0o755 if node == _ROOT else stat.S_IFREG | 0o755
        return _ATTR.pack(node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


class Mounted:
    """A served directory; the words are the server's."""

    def __init__(self, server: subprocess.Popen[str], place: Path) -> None:
        self._server = server
        self.place = place

    def become(self, word: str) -> None:
        """Have the server go silent."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(f"{word}\n")
        self._server.stdin.flush()
        assert self._server.stdout.readline() == "done\n"


@contextmanager
def served(place: Path, source: Path) -> Iterator[Mounted]:
    """Serve ``source`` at ``place``. The test is skipped where that may not be."""
    command = [sys.executable, __file__, str(place), str(source)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        if said != "ready\n":
            pytest.skip(f"no FUSE file system can be mounted here: {said.strip()}")
        yield Mounted(server, place)


def main() -> None:
    """The program."""
    try:
        server = Server(sys.argv[1], Path(sys.argv[2]))
    except OSError as problem:
        print(problem)
        return
    print("ready", flush=True)
    try:
        server.run()
    finally:
        ctypes.CDLL(None).umount2(os.fsencode(sys.argv[1]), _LAZILY)


if __name__ == "__main__":
    main()
