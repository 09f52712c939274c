"""The version of forklore, and how what its extras name is installed."""

from typing import Final

VERSION: Final = "0.1.0"


def extra(name: str) -> str:
    """How an extra is installed, in words: no index of packages has forklore yet."""
    return f"pip install '.[{name}]' where forklore's source is"
