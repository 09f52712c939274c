"""Calls that take a file's name and that Python has not: statx(2) without asking a server, openat2(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from msgspec import Struct

from forklore.abi.syscalls import number
from forklore.linux.libc import fail, syscall
from forklore.linux.proc import machine

_STATX: Final = struct.Struct("=IIQIIIHHQQQQ48xqI4xIIIIQ")
"""include/uapi/linux/stat.h: struct statx, up to stx_mnt_id."""
_MASK: Final = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x40 | 0x100 | 0x200 | 0x1000
# STATX_TYPE, _MODE, _NLINK, _UID, _GID, _MTIME, _INO, _SIZE, _MNT_ID
_AT_EMPTY_PATH: Final = 0x1000
_AT_STATX_DONT_SYNC: Final = 0x4000
_buffer: Final = ctypes.create_string_buffer(256)
_arch: Final = machine()
_NR: Final = None if _arch is None else number(_arch, "statx")
_NR_OPENAT2: Final = None if _arch is None else number(_arch, "openat2")


class FileStatus(Struct, frozen=True, gc=False):
    """What statx(2) tells of a file; sizes in bytes."""

    mode: int
    links: int
    inode: int
    size: int
    written: int
    """When, in nanoseconds since 1970."""
    special: tuple[int, int]
    """Major and minor number of the device that it is."""
    device: tuple[int, int]
    """The same of the one that it lies on."""
    mount: int
    """The number of its mount in /proc/PID/mountinfo; 0 before Linux 5.8."""
    uid: int = 0
    gid: int = 0
    """Its owners."""


def status(folder: int, path: bytes = b"") -> FileStatus:
    """Of what ``path`` names below an open directory, or of the descriptor itself. OSError.

    stat(2) would have a file system ask its server, and wait.
    """
    if _NR is None:
        raise OSError(errno.ENOSYS, "statx(2) has no number that is known on this machine")
    name = ctypes.create_string_buffer(path)
    flags = _AT_STATX_DONT_SYNC | (0 if path else _AT_EMPTY_PATH)
    if syscall(_NR, folder, ctypes.addressof(name), flags, _MASK, ctypes.addressof(_buffer), 0) == -1:
        raise fail(os.fsdecode(path) or "statx")
    found = _STATX.unpack_from(_buffer)
    (_, _, _, links, uid, gid, mode, _, inode, size, _, _, seconds, parts, *numbers, mount) = found
    special_major, special_minor, major, minor = numbers
    written, special = 1_000_000_000 * seconds + parts, (special_major, special_minor)
    return FileStatus(mode, links, inode, size, written, special, (major, minor), mount, uid, gid)


def openat2(folder: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2): a descriptor, or the error negated; -ENOSYS before Linux 5.6."""
    how = (ctypes.c_uint64 * 3)(flags, 0, resolve)
    if _NR_OPENAT2 is None:
        return -errno.ENOSYS
    name = ctypes.create_string_buffer(path)
    got: int = syscall(_NR_OPENAT2, folder, ctypes.addressof(name), ctypes.addressof(how), ctypes.sizeof(how), 0, 0)
    return got if got >= 0 else -ctypes.get_errno()
