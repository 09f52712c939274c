"""Data in a page: JSON where nothing of it can end its element, compressed where it is large."""

from __future__ import annotations

import base64
import gzip
from typing import Final

_LARGE: Final = 64 << 10
"""Bytes of JSON from which on it is compressed: below that it can be read in the file."""


def block(name: str, data: bytes) -> str:
    """The element that the page finds by its id. ``data`` is JSON in UTF-8."""
    if len(data) < _LARGE:
        return f'<script type="application/json" id="{name}">{inert(data.decode())}</script>\n'
    packed = base64.b64encode(gzip.compress(data, 6, mtime=0)).decode()
    return f'<script type="application/gzip" id="{name}">{packed}</script>\n'


def inert(json: str) -> str:
    """JSON without a character that HTML gives a meaning to: they stand in strings alone, where they have escapes."""
    return json.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
