"""The recorded audits of tests/golden, by the name of their library. scripts/audit-debian writes them anew."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from forklore.features.audit.result import Audit, decode

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@cache
def recorded(name: str) -> Audit:
    """Such as ``glibc-2.36-x86_64``."""
    path = GOLDEN / f"audit-{name}.json"
    return decode(path.read_bytes(), str(path))


def names() -> list[str]:
    """All of them."""
    return sorted(path.name[len("audit-") : -len(".json")] for path in GOLDEN.glob("audit-*.json"))


def glibcs(arch: str = "x86_64") -> list[str]:
    """Those of glibc, the oldest first."""
    return [name for name in names() if name.startswith("glibc-") and name.endswith(arch)]
