"""The calls that made tasks, out of their records: whole when somebody asks, and at once only what tells their kind."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from forklore.abi.clone_args import hexadecimal
from forklore.abi.units import Unavailable
from forklore.decode.creation import CallName, Creation, Kind, decode_creation
from forklore.events import records as ev

_CLONE3: Final = 435
"""Its number on every architecture."""
_NUMBER: Final = 0xFFFF
"""Without x32's bit."""
_FLAGS: Final = hexadecimal("flags")
_EXIT_SIGNAL: Final = hexadecimal("exit_signal")


class CreationForm(Struct, frozen=True, gc=False):
    """What very many creations have in common: all but addresses, sizes and descriptors."""

    call: CallName
    flags: int | None
    """Without the exit signal; None where they are not known."""
    exit_signal: int | None
    kind: Kind


def decoded(record: ev.Create | ev.Fail) -> Creation:
    """The call of a record."""
    told = record.flags if isinstance(record, ev.Create) else None
    if record.struct is None:
        return decode_creation(record.arch, record.nr, record.args, flags=told)
    set_tid = None if record.set_tid is None else _bytes(record.set_tid)
    return decode_creation(record.arch, record.nr, record.args, _bytes(record.struct), set_tid, told)


def _bytes(value: str | Unavailable) -> bytes | Unavailable:
    return value if isinstance(value, Unavailable) else bytes.fromhex(value)


class Forms:
    """The forms of a trace's creations, each of them worked out and kept once."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], CreationForm] = {}

    def of(self, record: ev.Create) -> CreationForm:
        """The form of a call."""
        key = _decides(record)
        form = self._known.get(key)
        if form is None:
            whole = decoded(record)
            kind = whole.kind
            if kind == "task" and record.thread is not None:
                kind = "thread" if record.thread else "process"
            elif kind == "task" and record.library is not None:
                from forklore.decode.library_forms import kind_made_by  # few traces have a use for all its forms

                kind = kind_made_by(record.library)
            form = self._known[key] = CreationForm(whole.call, whole.flags.raw, whole.exit_signal, kind)
        return form


def _decides(record: ev.Create) -> tuple[object, ...]:
    # The words that a form depends on: the flags, which are the first argument of clone, and for clone3 the size, which
    # is the second one, and the struct's flags and exit signal, where it has these.
    # A file may have a struct with any call.
    struct = record.struct
    if isinstance(struct, str) and (record.nr is None or record.nr & _NUMBER == _CLONE3):
        decides = len(struct), struct[_FLAGS], struct[_EXIT_SIGNAL], record.library
        return record.arch, record.nr, record.args[1:2], *decides
    return record.arch, record.nr, record.args[:1], struct is None, record.library, record.flags, record.thread
