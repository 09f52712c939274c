"""forklore as uid 65534, which has no privilege and a home of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

NOBODY: Final = 65534
LIMIT: Final = 120
"""Seconds for a command: an audit takes two of them on a machine at rest."""
BECOME: Final = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


_found: Final[dict[tuple[str, ...], str | None]] = {}
"""By how one becomes that user: it was looked for once."""


def environment(folder: Path) -> dict[str, str]:
    """That of a user whose home is in ``folder``, with the package there (the fixture ``open_folder``)."""
    home = str(folder / "home")
    return {"PATH": "/usr/bin:/bin", "HOME": home, "TMPDIR": home, "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(folder / "src"), *packages()])}  # fmt: skip


def forklore_as(folder: Path, *more: str) -> list[str]:
    """The command ``forklore`` as that user; ``more``: options of setpriv. Skips the test where nothing can be run."""
    become = [shutil.which("setpriv") or "setpriv", *BECOME, *more, "--"]
    return [*become, interpreter(become, environment(folder)), "-m", "forklore"]


def packages() -> list[str]:
    """Where the modules are that forklore imports."""
    return [path for path in sys.path if path.endswith("site-packages")]


def interpreter(become: Sequence[str], environment: Mapping[str, str]) -> str:
    """A Python that the user can execute; skips the test where there is none."""
    known = tuple(become)
    if known not in _found:
        _found[known] = _interpreter(become, environment)
    found = _found[known]
    if found is None:
        pytest.skip(f"{sys.executable} and its packages cannot be read by uid {NOBODY}")
    return found


def _interpreter(become: Sequence[str], environment: Mapping[str, str]) -> str | None:
    # Python may well lie below a home of root's; then another one of the same version will do.
    for python in (sys.executable, f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"):
        script = "import forklore, msgspec, elftools, psutil"
        try:
            tried = subprocess.run(
                [*become, python, "-c", script], env=environment, cwd="/", capture_output=True, timeout=LIMIT,
                check=False,
            )  # fmt: skip
        except OSError:
            continue
        if tried.returncode == 0:
            return python
    return None
