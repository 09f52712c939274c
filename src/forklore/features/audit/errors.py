"""Why there is no audit."""

from __future__ import annotations


class AuditError(Exception):
    """A library, a file or a probe that is not as an audit needs it; the text says what is wrong and what to do."""
