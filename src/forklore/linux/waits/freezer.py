"""Whether a task's control group is frozen: cgroup.events of v2, freezer.state of v1 (cgroups(7))."""

from __future__ import annotations

import os
from functools import cache

from forklore.abi.units import Tid, Unavailable
from forklore.linux.observe import parse_cgroup
from forklore.linux.proc import read_file


class Freezers:
    """Looks each control group up once."""

    def __init__(self) -> None:
        self._frozen: dict[bytes, str | None] = {}

    def frozen(self, tid: Tid) -> str | None:
        """The frozen control group that a task is in, as a path; None: none is, as far as can be read."""
        raw = read_file(f"/proc/{tid}/cgroup")
        if isinstance(raw, Unavailable):
            return None
        if raw not in self._frozen:
            self._frozen[raw] = next(filter(None, map(_frozen, _folders(raw))), None)
        return self._frozen[raw]


def _folders(raw: bytes) -> list[tuple[str, str]]:
    # Where a task's groups are, each with the mount that they lie in.
    found = []
    for place in parse_cgroup(raw):
        controllers = place.controllers.split(b",")
        if place.hierarchy == 0 or b"freezer" in controllers:
            mount = _mounts().get("" if place.hierarchy == 0 else "freezer")
            if mount is not None:
                found.append((mount, mount + os.fsdecode(place.path).rstrip("/")))
    return found


def _frozen(place: tuple[str, str]) -> str | None:
    mount, folder = place
    events = read_file(f"{folder}/cgroup.events", 4096)
    state = read_file(f"{folder}/freezer.state", 64)
    if not isinstance(events, Unavailable) and b"frozen 1" in events.splitlines():
        return _asked_for(mount, folder, "cgroup.freeze")
    if not isinstance(state, Unavailable) and state.strip() in (b"FROZEN", b"FREEZING"):
        return _asked_for(mount, folder, "freezer.self_freezing")
    return None


def _asked_for(mount: str, folder: str, file: str) -> str:
    """A group is frozen with all below it: the nearest one that was itself told to be."""
    above = folder
    while len(above) > len(mount):
        said = read_file(f"{above}/{file}", 64)
        if not isinstance(said, Unavailable) and said.strip() == b"1":
            return above
        above = os.path.dirname(above)
    return folder


@cache
def _mounts() -> dict[str, str]:
    raw = read_file("/proc/self/mountinfo", 1 << 22)
    found: dict[str, str] = {}
    for line in [] if isinstance(raw, Unavailable) else raw.splitlines():
        before, _, after = line.partition(b" - ")
        words, kind = before.split(), after.split()
        if len(words) < 5 or len(kind) < 3:
            continue
        if kind[0] == b"cgroup2":
            found.setdefault("", os.fsdecode(words[4]))
        elif kind[0] == b"cgroup" and b"freezer" in kind[2].split(b","):
            found.setdefault("freezer", os.fsdecode(words[4]))
    return found
