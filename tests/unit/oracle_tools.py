"""Other people's tools that tests compare with."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def run(*command: str | Path) -> str:
    """The standard output of a tool that must succeed; the test is skipped if the tool is not installed."""
    name = str(command[0])
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout
