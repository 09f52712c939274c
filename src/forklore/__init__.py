"""forklore: what every fork, vfork, clone and clone3 of a program made.

``trace`` runs a program and gives its tree, ``load`` reads a trace file, ``diff`` says what changed between two,
``explain`` puts flags and refusals into words, ``why`` says why running programs do not end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forklore.version import VERSION as __version__  # noqa: N811 - the name that Python has for it

__all__ = ["__version__", "diff", "explain", "load", "trace", "why"]

if TYPE_CHECKING:
    from forklore.api import diff, explain, load, trace, why


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: start-up time counts, so nothing is imported unasked
    if name in __all__:
        from forklore import api

        return getattr(api, name)
    raise AttributeError(f"module 'forklore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
