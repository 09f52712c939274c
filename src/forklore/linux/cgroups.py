"""Control groups of the unified hierarchy (cgroups(7)), by path and by the number that the kernel has for each."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from forklore.abi.units import Unavailable
from forklore.linux.proc import read_file

_SHORTEST: Final = 12
"""What is shown of a container's id."""


def unified() -> Path | None:
    """Where the unified hierarchy is mounted; None where it is not."""
    text = read_file("/proc/self/mounts")
    lines = [] if isinstance(text, Unavailable) else text.decode(errors="replace").splitlines()
    fields = (line.split(" ") for line in lines)
    return next((Path(each[1]) for each in fields if len(each) > 2 and each[2] == "cgroup2"), None)


def number(path: str) -> int:
    """The kernel's number of a cgroup: the inode of its directory, given as it is, or below the hierarchy's root.

    Raises OSError.
    """
    root = unified()
    if root is None:
        raise OSError(errno.ENOENT, "no unified cgroup hierarchy is mounted here", path)
    absolute = Path(path)
    below = absolute.is_absolute() and absolute.is_relative_to(root)
    return os.stat(absolute if below else root / path.lstrip("/")).st_ino


def of_container(name: str) -> str:
    """The cgroup of a container by its id, or the first 12 characters of it: docker, podman, containerd, LXC.

    Raises OSError where none or several have it in their name.
    """
    root = unified()
    found = [] if root is None else [str(path.relative_to(root)) for path in _named(root, name)]
    outermost = [path for path in found if not any(path != other and path.startswith(other + "/") for other in found)]
    if len(outermost) == 1:
        return "/" + outermost[0]
    if not outermost:
        raise OSError(errno.ENOENT, "no cgroup here has this container's id or name", name)
    raise OSError(errno.EEXIST, f"{len(outermost)} cgroups have this in their name; give more of the id", name)


def _named(root: Path, name: str) -> Iterator[Path]:
    for folder, names, _files in os.walk(root):
        for each in names:
            if each == name or (len(name) >= _SHORTEST and name in each):
                yield Path(folder) / each
