"""Opening the files that forklore writes, so that nobody else decides which file is written.

In a directory that others may write to, such as /tmp or another user's, a name can have been planted: a symbolic link,
a hard link or a FIFO where the trace is to go. There a link is followed only if this user or root has made it, and a
file that is there already is taken only if it is this user's and has no other name. Everywhere else links lead where
they lead. So ``-o`` to a link in one's own directory works, and to one that somebody left in /tmp does not.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

_PLACE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITING: Final = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY
_MODE: Final = 0o600
_LINKS: Final = 40
"""MAXSYMLINKS of the kernel."""
_RACES: Final = 8
"""How often a name may change under our hands."""


class OutputPlace:
    """Where a file is written: a directory, which stays the same if it is renamed, and a name in it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Find it; links are followed by the rule of this module. Raises OSError."""
        self._path = os.fspath(path)
        self._links = 0
        self._flags = _WRITING
        self._folder = os.open("/" if self._path.startswith("/") else ".", os.O_PATH | os.O_CLOEXEC)
        try:
            self._name = self._find(self._path)
        except OSError as problem:
            self.close()
            raise OSError(problem.errno, problem.strerror, self._path) from None

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self._folder)

    def open(self) -> int:
        """A descriptor to write the file with, empty if it is a regular one. A new file gets mode 0600. OSError."""
        for _ in range(_RACES):
            try:
                return self._create(self._name)
            except FileExistsError:
                found = self._existing()
                if found is not None:
                    return found
            except OSError as problem:
                raise OSError(problem.errno, problem.strerror, self._path) from None
        raise OSError(errno.EAGAIN, "somebody changes what has this name all the time", self._path)

    def make(self, suffix: str) -> int:
        """A descriptor to write a new file beside it: an older one of this user's is removed. OSError."""
        name, path = self._name + suffix, self._path + suffix
        try:
            about = os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        except FileNotFoundError:
            return self._create(name)
        if not stat.S_ISREG(about.st_mode) or not (_trusted(self._folder) or about.st_uid == os.geteuid()):
            raise OSError(errno.EEXIST, "it is there already, and it is not a regular file of this user's", path)
        os.unlink(name, dir_fd=self._folder)
        return self._create(name)

    def remove(self, suffix: str) -> None:
        """Remove the file beside it. OSError."""
        os.unlink(self._name + suffix, dir_fd=self._folder)

    def _create(self, name: str) -> int:
        return os.open(name, _WRITING | os.O_CREAT | os.O_EXCL, _MODE, dir_fd=self._folder)

    def _existing(self) -> int | None:
        # What has the name already; None where it had to be looked at again.
        try:
            before = os.stat(self._name, dir_fd=self._folder, follow_symlinks=False)
            if stat.S_ISLNK(before.st_mode) and self._flags & os.O_NOFOLLOW:
                self._name = self._find(self._name)
                return None
            self._refuse_planted(before)
            found = os.open(self._name, self._flags, dir_fd=self._folder)
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise OSError(problem.errno, problem.strerror, self._path) from None
        after = os.fstat(found)
        if self._flags & os.O_NOFOLLOW and (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino):
            os.close(found)
            return None
        if stat.S_ISREG(after.st_mode):
            os.ftruncate(found, 0)
        return found

    def _refuse_planted(self, about: os.stat_result) -> None:
        if not _trusted(self._folder) and not (about.st_uid == os.geteuid() and about.st_nlink == 1):
            raise OSError(
                errno.EPERM,
                "it is another user's or has a second name, and others may write to its directory; remove it, or write"
                " to another directory",
            )

    def _find(self, path: str) -> str:
        """Go to the directory of ``path``, which is in ours or absolute; the name in it, which is no link."""
        parts = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        if path.startswith("/"):
            self._go("/")
        while len(parts) > 1 or (parts and self._is_link(parts[0])):
            part = parts.pop()
            if not self._is_link(part):
                self._go(part)
                continue
            target = self._link(part)
            if target is None:  # one of /proc, which leads further than its text tells
                if not parts:
                    self._flags &= ~os.O_NOFOLLOW
                    return part
                self._go(part, os.O_PATH | os.O_CLOEXEC)
                continue
            if target.startswith("/"):
                self._go("/")
            parts += [each for each in reversed(target.split("/")) if each not in ("", ".")]
        if not parts or path.endswith("/"):
            problem = errno.EISDIR if path else errno.ENOENT
            raise OSError(problem, os.strerror(problem))
        return parts[0]

    def _go(self, part: str, flags: int = _PLACE | os.O_DIRECTORY) -> None:
        former, self._folder = self._folder, os.open(part, flags, dir_fd=self._folder)
        os.close(former)

    def _is_link(self, part: str) -> bool:
        try:
            return stat.S_ISLNK(os.stat(part, dir_fd=self._folder, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _link(self, part: str) -> str | None:
        self._links += 1
        if self._links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        about = os.stat(part, dir_fd=self._folder, follow_symlinks=False)
        if not _trusted(self._folder) and about.st_uid not in (os.geteuid(), 0):
            raise OSError(
                errno.ELOOP,
                f"{part} is a symbolic link that user {about.st_uid} has made where others may write; give the name"
                " that it leads to",
            )
        target = os.readlink(part, dir_fd=self._folder)
        return target if about.st_size == len(os.fsencode(target)) else None


def _trusted(folder: int) -> bool:
    """Whether nobody but this user and root can have made what is in a directory."""
    about = os.fstat(folder)
    return about.st_uid in (os.geteuid(), 0) and not about.st_mode & 0o022
