"""What stops a comparison, as opposed to what it finds."""

from __future__ import annotations


class OracleError(Exception):
    """A comparison could not be made; the message says what is missing and what to do about it."""


class NoTracepointsError(OracleError):
    """The kernel's tracepoints cannot be had here; nothing has been run yet."""
