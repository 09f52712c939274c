"""Regular expressions that are compiled when they are first used.

To compile one takes some 0.1 ms, as long as to import a small module, and most runs use few of those that the modules
they import have: start-up is part of what a user waits for.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, cast


class Later:
    """Stands for a compiled pattern: what is asked of it is looked up there once, and found here from then on."""

    def __init__(self, text: str | bytes, flags: int) -> None:
        self._text = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a pattern has
        if name.startswith("__"):  # of copy and pickle, which ask for what there may not be
            raise AttributeError(name)
        # Kept by re for whoever asks for its next attribute.
        found = getattr(re.compile(self._text, self._flags), name)
        setattr(self, name, found)
        return found


def regex(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """What :func:`re.compile` gives, made when it is first asked for something. An error in it shows then."""
    return cast("re.Pattern[AnyStr]", Later(text, flags))
