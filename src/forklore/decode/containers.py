"""Which container a cgroup is of, as far as its path tells: each engine has a way of its own to name them."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_ID: Final = r"([0-9a-f]{12,64})"
_FORMS: Final = tuple(
    (engine, re.compile(form))
    for engine, form in (
        ("docker", rf"(?:^|/)docker[-/]{_ID}(?:\.scope)?(?=/|$)"),
        ("podman", rf"(?:^|/)libpod-{_ID}(?:\.scope)?(?=/|$)"),
        ("containerd", rf"(?:^|[/:])cri-containerd[-:]{_ID}(?:\.scope)?(?=/|$)"),
        ("CRI-O", rf"(?:^|/)crio-{_ID}(?:\.scope)?(?=/|$)"),
        ("Kubernetes", rf"(?:^|/)kubepods[^/]*/(?:[^/]+/)*{_ID}(?=/|$)"),
        ("LXC", r"(?:^|/)lxc(?:\.payload\.|/)([^/]+)(?=/|$)"),
        ("systemd-nspawn", r"(?:^|/)machine\.slice/(?:machine-|systemd-nspawn@)([^/]+?)\.(?:scope|service)(?=/|$)"),
    )
)
_SHOWN: Final = 12


class Container(NamedTuple):
    """A container, by its engine and the id or name that its engine has for it."""

    engine: str
    name: str

    @property
    def short(self) -> str:
        """The name, and of an id as much as engines show."""
        return self.name[:_SHOWN] if re.fullmatch(_ID, self.name) else self.name


def container(cgroup: str) -> Container | None:
    """The innermost container of a cgroup's path, or of a line of /proc/PID/cgroup; None where it names none."""
    found = [
        (match.end(), engine, match[1]) for engine, form in _FORMS for match in form.finditer(cgroup)
    ]  # fmt: skip
    if not found:
        return None
    _end, engine, name = max(found, key=lambda each: each[0])
    return Container(engine, name)
