"""Files that a traced program has a hand in: what it maps, and what lies under the names in that.

One rule holds for all of them. A file is taken by O_PATH first, which opens nothing; it must be a regular file, and of
a file system that keeps files; only then it is opened, by that descriptor. It is read and never mapped, for reading a
mapping behind the end of a file that was cut short ends the reader with SIGBUS. It is not larger than :data:`LARGEST`,
and no more than :data:`_MOST` of all large ones is kept. Where a file system may let us wait for somebody (FUSE, NFS),
names are looked up and files are read by a process that can be given up (:mod:`forklore.linux.files.reader_process`).
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final, Protocol

from forklore.abi.units import Tid, Unavailable
from forklore.linux import proc
from forklore.linux.files import reader_process
from forklore.linux.files.file_calls import FileStatus, openat2, status
from forklore.linux.mappings import Mapping, MappingKind, still_mapped
from forklore.linux.ours import leaving
from forklore.linux.proc import unavailable

LARGEST: Final = 16 << 30
"""Bytes of the largest file that is looked into."""
_COPIED: Final = 8 << 20
"""Files up to this size are read as a whole: whatever becomes of them, what was read stays."""
_MOST: Final = 512 << 20
"""Bytes that are kept of all large files together."""
_BLOCK: Final = 1 << 14
_PIECE: Final = 1 << 20
_NORESERVE: Final = 0x4000  # MAP_NORESERVE on every machine that is known here
_LINKS: Final = 40
"""MAXSYMLINKS of the kernel."""
_NAMES: Final = 256

_LOCAL: Final = frozenset(
    b"bcachefs btrfs cramfs erofs exfat ext2 ext3 ext4 f2fs hfs hfsplus iso9660 jfs minix msdos nilfs2 ntfs3 ramfs"
    b" reiserfs romfs rootfs squashfs tmpfs devtmpfs ubifs udf vfat xfs zfs".split()
)
"""File systems that the kernel itself answers for. (FUSE may lie on a block device, too: fuseblk.)"""
_NO_FILES: Final = frozenset(
    b"autofs binder binfmt_misc bpf cgroup cgroup2 configfs debugfs devpts efivarfs functionfs fusectl mqueue nsfs"
    b" proc pstore resctrl rpc_pipefs securityfs selinuxfs smackfs sysfs tracefs".split()
)
"""File systems whose regular files do something when they are opened or read."""


class StrangersFile(Protocol):
    """A regular file that others may change, cut short or replace while it is read."""

    size: int
    """In bytes, when it was opened."""
    identity: tuple[tuple[int, int], int]
    """Its device and its inode."""
    written: int | None
    """When, in nanoseconds since 1970; None for one that a server answers for."""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of it, fewer where it ends now. OSError."""

    def close(self) -> None:
        """Let go of it."""


class _Opened:
    # A file that the kernel itself answers for.
    def __init__(self, descriptor: int, about: FileStatus) -> None:
        self.size = about.size
        self.identity = about.device, about.inode
        self.written: int | None = about.written
        self._descriptor = descriptor

    def read(self, offset: int, size: int) -> bytes:
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    __del__ = close


class Pages:
    """What was read so far of a large file, at the same offsets in ``data``: memory of our own."""

    kept = 0
    """Bytes, by all of them."""

    def __init__(self, file: StrangersFile) -> None:
        self._kept = 0
        self.data: Final = mmap.mmap(-1, file.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
        self.cut = False
        """Whether something could not be read that was there when the file was opened: ``data`` has zeros there."""
        self._file = file
        self._known: set[int] = set()

    def need(self, offset: int, size: int) -> None:
        """Have these bytes in ``data``."""
        first, last = offset // _BLOCK, (min(offset + size, self._file.size) - 1) // _BLOCK
        if first == last and first in self._known:
            return
        run = 0
        for block in range(first, last + 1):
            if block in self._known:
                self._read(block - run, run)
                run = 0
            else:
                run += 1
                if run * _BLOCK >= _PIECE:
                    self._read(block + 1 - run, run)
                    run = 0
            if self.cut:
                return
        self._read(last + 1 - run, run)

    def _read(self, first: int, count: int) -> None:
        if not count or self.cut:
            return
        start = first * _BLOCK
        size = min(count * _BLOCK, self._file.size - start)
        try:
            got = b"" if Pages.kept + size > _MOST or leaving.overdue() else self._file.read(start, size)
        except OSError:
            got = b""
        self._kept += len(got)
        Pages.kept += len(got)
        self.data[start : start + len(got)] = got
        self.cut = len(got) < size
        self._known.update(range(first, first + count))

    def pieces(self) -> Iterator[bytes]:
        """All of the file, and none of it kept. OSError."""
        return _pieces(self._file, 0, self._file.size)

    def close(self) -> None:
        """Let go of the file and the memory."""
        self._file.close()
        self.data.close()
        self._forget()

    def _forget(self) -> None:
        Pages.kept -= self._kept
        self._kept = 0

    __del__ = _forget


def content(file: StrangersFile) -> bytes | Pages:
    """All of a small file, which is closed then; a large one to be read as it is needed. OSError."""
    if file.size > _COPIED:
        return Pages(file)
    try:
        return b"".join(_pieces(file, 0, file.size))
    finally:
        file.close()


def _pieces(file: StrangersFile, offset: int, end: int) -> Iterator[bytes]:
    while offset < end and (piece := file.read(offset, min(end - offset, _PIECE))):
        yield piece
        offset += len(piece)


class Folder:
    """A directory that names are looked up in as one finds them that has it for its root, such as /proc/PID/root."""

    def __init__(self, path: str | int, tid: Tid | None = None) -> None:
        """``path``: its name, or a descriptor of it to take over. ``tid``: whose mounts they are; by default our own.
        OSError."""
        self._tid = tid
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self.descriptor: Final = path if isinstance(path, int) else os.open(path, flags)

    def again(self) -> Folder:
        """The same, to be closed for itself. OSError."""
        return Folder(os.dup(self.descriptor), self._tid)

    def same(self, other: Folder) -> bool:
        """Whether both are one directory. OSError."""
        mine, theirs = status(self.descriptor), status(other.descriptor)
        return (mine.mount, mine.device, mine.inode) == (theirs.mount, theirs.device, theirs.inode)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

    def open(self, path: bytes) -> StrangersFile | Unavailable:
        """The regular file of that name."""
        found = self._find(path)
        return found if isinstance(found, Unavailable) else _take(found, self._tid, os.fsdecode(path))

    def _find(self, path: bytes) -> int | Unavailable:
        if b"\0" in path:
            return Unavailable(0, "its name holds a NUL")
        # What the kernel has at hand costs one call, and waits for nobody.
        found = openat2(self.descriptor, path, os.O_PATH | os.O_CLOEXEC, _IN_ROOT | _CACHED)
        if found >= 0:
            return found
        if -found in (errno.EAGAIN, errno.ENOSYS, errno.EINVAL, errno.E2BIG):
            return _walk(self.descriptor, path, self._tid)
        return Unavailable(-found, f"{os.fsdecode(path)}: {os.strerror(-found)}")


def _walk(root: int, path: bytes, tid: Tid | None) -> int | Unavailable:
    """Look a name up part by part, and from where a file system may let us wait, in the process for that."""
    names, links = _parts(path), 0
    places = [os.dup(root)]
    try:
        while names:
            name = names.pop()
            if name == b"..":
                if len(places) > 1:
                    os.close(places.pop())
                continue
            if _answers(status(places[-1]), tid) is not _Answers.KERNEL:
                return reader_process.walk(root, path)
            place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=places[-1])
            if not stat.S_ISLNK(status(place).mode):
                places.append(place)
                continue
            target = os.readlink(b"", dir_fd=place)
            os.close(place)
            links += 1
            names += _parts(target)
            if links > _LINKS or len(names) > _NAMES:
                return Unavailable(errno.ELOOP, os.strerror(errno.ELOOP))
            if target.startswith(b"/"):
                while len(places) > 1:
                    os.close(places.pop())
        return places.pop()
    except OSError as problem:
        return unavailable(problem, os.fsdecode(path))
    finally:
        for place in places:
            os.close(place)


def _parts(path: bytes) -> list[bytes]:
    # Last first. Nothing is executed: a slash at the end means no more than none.
    return [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]


_AT_FDCWD: Final = -100
_IN_ROOT, _CACHED = 0x10, 0x20  # RESOLVE_IN_ROOT, RESOLVE_CACHED: include/uapi/linux/openat2.h


def open_file(path: str | os.PathLike[str]) -> StrangersFile | Unavailable:
    """The regular file that a user has named."""
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as problem:
        return Unavailable(problem.errno or 0, problem.strerror or "could not be opened")
    except ValueError as problem:
        return Unavailable(0, f"no file name: {problem}")
    return _take(found, None)


def mapped_at_hand(root: Folder, tid: Tid, mapping: Mapping) -> int | None:
    """A descriptor by O_PATH of the very file that ``tid`` has mapped; None where to have it may be to wait.

    ``root``: the root directory of ``tid``.
    """
    found = openat2(root.descriptor, mapping.path, os.O_PATH | os.O_CLOEXEC, _IN_ROOT | _CACHED)
    if found >= 0:
        if status(found).inode == mapping.inode:
            return found
        os.close(found)
    return _at_mapping(tid, mapping)


def open_mapped(
    tid: Tid, mapping: Mapping, at_hand: int | None = None, root: Folder | None = None
) -> StrangersFile | Unavailable:
    """The very file that ``tid`` has mapped: by its name as ``tid`` sees it, else by the mapping.

    ``at_hand``: a descriptor by O_PATH of it, where there is one; ``root``: the root directory of ``tid``, where that
    was kept. /proc/PID/map_files needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (proc_pid_map_files(5)).
    """
    if mapping.kind is not MappingKind.FILE:
        return Unavailable(0, "no file lies behind this mapping")
    if at_hand is not None:
        return _of(mapping, _take(os.dup(at_hand), tid, os.fsdecode(mapping.path)))
    named = _of(mapping, _named(tid, mapping.path) if root is None else root.open(mapping.path))
    if not isinstance(named, Unavailable):
        return named
    mapped = _of(mapping, _by_mapping(tid, mapping))
    return named if isinstance(mapped, Unavailable) and mapped.errno else mapped


def _at_mapping(tid: Tid, mapping: Mapping) -> int | None:
    # Such a link can be followed by asking a server.
    if _answers_of(tid, b" %d:%d " % (mapping.major, mapping.minor)) is not _Answers.KERNEL:
        return None
    try:
        return os.open(f"/proc/{tid}/map_files/{mapping.start:x}-{mapping.end:x}", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None


def waits(tid: Tid, mapping: Mapping) -> bool:
    """Whether to open the file of a mapping may be to wait for somebody."""
    return _answers_of(tid, b" %d:%d " % (mapping.major, mapping.minor)) is _Answers.SERVER


Stamp = tuple[int, int, int | None]
"""What tells a file from the next: inode number, size, and when it was written. A compiler writes a new file of the
same name, and it often gets the inode number of the one before."""


def stamp(file: StrangersFile) -> Stamp:
    """Of an open file."""
    return file.identity[1], file.size, file.written


def is_mapped(tid: Tid, mapping: Mapping, known: Stamp) -> bool:
    """Whether ``tid`` has that very file mapped just there now. Waits for nobody.

    Without CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE only the mapping is asked for, and so its inode.
    """
    try:
        found = status(_AT_FDCWD, b"/proc/%d/map_files/%x-%x" % (tid, mapping.start, mapping.end))
    except FileNotFoundError:
        return False
    except OSError:
        return still_mapped(tid, mapping)
    return _is_stamped(found, known)


def stamp_of_mapped(tid: Tid, mapping: Mapping) -> Stamp | None:
    """Of what ``tid`` has mapped there. Waits for nobody. None without the right to ask (:func:`is_mapped`)."""
    try:
        found = status(_AT_FDCWD, b"/proc/%d/map_files/%x-%x" % (tid, mapping.start, mapping.end))
    except OSError:
        return None
    return found.inode, found.size, found.written


def is_file(descriptor: int, known: Stamp) -> bool:
    """Whether that is the very file. Waits for nobody. OSError."""
    return _is_stamped(status(descriptor), known)


def _is_stamped(found: FileStatus, known: Stamp) -> bool:
    return (found.inode, found.size, found.written if known[2] is not None else None) == known


def _of(mapping: Mapping, found: StrangersFile | Unavailable) -> StrangersFile | Unavailable:
    if isinstance(found, Unavailable) or found.identity[1] == mapping.inode:
        return found
    found.close()
    return Unavailable(0, "the file of this name was replaced since it was mapped")


def _named(tid: Tid, path: bytes) -> StrangersFile | Unavailable:
    try:
        with root_of(tid) as folder:
            return folder.open(path)
    except OSError as problem:
        return unavailable(problem, proc.root(tid))


@contextmanager
def root_of(tid: Tid | None) -> Iterator[Folder]:
    """The root directory of a task, or our own. OSError."""
    folder = Folder("/" if tid is None else proc.root(tid), tid)
    try:
        yield folder
    finally:
        folder.close()


def _by_mapping(tid: Tid, mapping: Mapping) -> StrangersFile | Unavailable:
    path = f"/proc/{tid}/map_files/{mapping.start:x}-{mapping.end:x}"
    if _answers_of(tid, b" %d:%d " % (mapping.major, mapping.minor)) is _Answers.KERNEL:
        try:
            found: int | Unavailable = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError as problem:
            return unavailable(problem, path)
    else:  # such a link can be followed by asking a server
        found = reader_process.walk(None, path.encode())
    return found if isinstance(found, Unavailable) else _take(found, tid, path)


def _take(descriptor: int, tid: Tid | None, path: str = "") -> StrangersFile | Unavailable:
    # Takes over an O_PATH descriptor.
    try:
        about = status(descriptor)
        if not stat.S_ISREG(about.mode):
            return Unavailable(0, "not a regular file")
        match _answers(about, tid):
            case _Answers.NOBODY:
                return Unavailable(0, "its file system keeps no files: what is read there is made up by the kernel")
            case _Answers.SERVER:
                return _bounded(reader_process.opened(descriptor))
            case _Answers.KERNEL:
                pass
        if about.size > LARGEST:
            return _too_large(about.size)
        # Without O_NONBLOCK a lease of another process would hold us (fcntl(2), F_SETLEASE).
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return _Opened(os.open(f"/proc/self/fd/{descriptor}", flags), about)
    except OSError as problem:
        said = os.strerror(problem.errno or 0)
        return Unavailable(problem.errno or 0, f"{path}: {said}" if path else said)
    finally:
        os.close(descriptor)


def _bounded(found: StrangersFile | Unavailable) -> StrangersFile | Unavailable:
    if isinstance(found, Unavailable) or found.size <= LARGEST:
        return found
    found.close()
    return _too_large(found.size)


def _too_large(size: int) -> Unavailable:
    return Unavailable(0, f"it is {size >> 30} GiB long, and at most {LARGEST >> 30} GiB are looked into")


class _Answers(Enum):
    """Who answers for a file."""

    KERNEL = auto()
    SERVER = auto()
    """Somebody who may not."""
    NOBODY = auto()


def _answers(about: FileStatus, tid: Tid | None) -> _Answers:
    # Asked again each time: mounts come and go, and their numbers are given anew.
    return _answers_of(tid, b"\n%d " % about.mount if about.mount else b" %d:%d " % about.device)


def _answers_of(tid: Tid | None, wanted: bytes) -> _Answers:
    kind = _mounted("self", wanted)
    if kind == b"overlay":
        return _Answers.KERNEL
    if not kind and tid is not None:
        # An overlay in a user's own namespace can lie above a file system of that user's own.
        kind = _mounted(str(tid), wanted)
    if kind in _NO_FILES:
        return _Answers.NOBODY
    return _Answers.KERNEL if kind in _LOCAL else _Answers.SERVER


def kind_of_device(tid: Tid, major: int, minor: int) -> bytes:
    """The name of the file system on a device, as we or ``tid`` have it mounted; empty where neither has."""
    wanted = b" %d:%d " % (major, minor)
    return _mounted("self", wanted) or _mounted(str(tid), wanted)


def is_servers(kind: bytes) -> bool:
    """Whether somebody who may not answer answers for a file system of that name."""
    return kind not in _LOCAL and kind not in _NO_FILES and kind != b"overlay"


def _mounted(who: str, wanted: bytes) -> bytes:
    """The file system in the line of mountinfo that has these bytes (proc_pid_mountinfo(5)); empty: none has."""
    found = proc.read_file(f"/proc/{who}/mountinfo")
    lines = b"" if isinstance(found, Unavailable) else b"\n" + found
    at = lines.find(wanted)
    at = -1 if at < 0 else lines.find(b" - ", at)
    return b"" if at < 0 else lines[at + 3 :].split(b" ", 1)[0]
