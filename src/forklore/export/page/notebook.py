"""A trace in a notebook: what it is in a line, and the page in a frame of its own."""

from __future__ import annotations

from html import escape
from typing import Final

from forklore.export.page.overview import facts, title
from forklore.export.page.page import pieces
from forklore.model.tasks import Trace

_LARGE: Final = 8 << 20
"""Characters of a page that a notebook, which keeps all that it shows, is not to grow by."""


def notebook_html(trace: Trace) -> str:
    """HTML to show inside of another page. The frame can run the page's script and reach nothing around it."""
    summary = " · ".join(f"{escape(term)} {escape(text)}" for term, text in facts(trace))
    head = f"<div><b><code>{escape(title(trace))}</code></b><br>{summary}</div>"
    page = "".join(pieces(trace))
    if len(page) > _LARGE:
        size = f"{len(page) / 1e6:.0f} MB"
        return f"{head}<div>Its page has {size}: write it to a file with <code>trace.to_html()</code>.</div>"
    style = "width: 100%; height: 640px; border: 1px solid #888"
    return f'{head}<iframe title="forklore" sandbox="allow-scripts" style="{style}" srcdoc="{escape(page)}"></iframe>'
