"""A word of flags under one vocabulary: the same bit means different things to clone, clone3, unshare and
setns."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from msgspec import Struct

from forklore.abi.flags import CLONE, CLONE3, EXECVEAT, SETNS, UNSHARE, Vocabulary

PREFIX: Final = "CLONE_"
VOCABULARIES: Final = {vocabulary.name: vocabulary for vocabulary in (CLONE, CLONE3, UNSHARE, SETNS, EXECVEAT)}
"""By the name of the call."""


class FlagSet(Struct, frozen=True, gc=False):
    """Flags as a call understands them.

    ``raw`` is the word without an exit signal in it, or None where it is not known. ``names`` are in the
    order of the bits. ``unknown`` are the bits that the call's vocabulary has no name for.
    """

    raw: int | None
    names: tuple[str, ...]
    unknown: int

    def has(self, bits: int) -> bool | None:
        """Whether any of ``bits`` is set; None where the word is not known."""
        return None if self.raw is None else bool(self.raw & bits)

    def terms(self, *, abbreviate: bool = False) -> list[str]:
        """The names, then the bits without one in hexadecimal; ``?`` for a word that is not known."""
        if self.raw is None:
            return ["?"]
        names = [n.removeprefix(PREFIX) for n in self.names] if abbreviate else list(self.names)
        return [*names, hex(self.unknown)] if self.unknown else names

    def text(self, *, abbreviate: bool = False) -> str:
        """One expression as C has it, such as ``CLONE_VM|CLONE_FS|0x80000000000``; ``0`` for none."""
        return "|".join(self.terms(abbreviate=abbreviate)) or "0"


UNKNOWN = FlagSet(None, (), 0)


def flag_set(vocabulary: Vocabulary, raw: int) -> FlagSet:
    """Read ``raw`` (not negative, without an exit signal) with ``vocabulary``."""
    return _flag_set(vocabulary.name, raw)


@lru_cache(maxsize=1024)
def _flag_set(call: str, raw: int) -> FlagSet:
    # Keyed by the name because hashing a vocabulary hashes every flag in it.
    flags, unknown = VOCABULARIES[call].split(raw)
    return FlagSet(raw, tuple(flag.name for flag in flags), unknown)
