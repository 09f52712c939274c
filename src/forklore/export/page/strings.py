"""Texts of a page, each of them once."""

from __future__ import annotations

from forklore.abi.text import printable


class Strings:
    """The texts that were asked for, by their places. The first one is empty."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {"": 0}

    def place(self, text: str) -> int:
        """Where it stands. It is escaped: no control character and no sign that turns the direction is left."""
        return self._places.setdefault(printable(text), len(self._places))

    def all(self) -> list[str]:
        """The texts in the order of their places."""
        return list(self._places)
