"""Attributes of an object in the memory of a traced CPython, as ``vars()`` would have them. None of it is believed.

How an object keeps them, and where the words before it are: Objects/dictobject.c, Include/internal/pycore_object.h.
"""

from __future__ import annotations

import struct
from typing import Final

from forklore.elf.cpython.layout import ABSENT, CPythonLayout
from forklore.elf.cpython.objects import ObjectMemory, Objects, UnreadableError

MOST: Final = 64
"""Attributes that are looked through."""
_VALUES_BEFORE: Final = 32
"""3.11 has a pointer to the values this far before the object, …"""
_DICT_BEFORE: Final = 24
"""… and 3.11 and newer one to the dict; in 3.12 that is one to the values, less 1, where it is odd."""
_OLD_SIZE, _OLD_COUNT, _OLD_INDICES = 8, 32, 40
"""dk_size, dk_nentries, dk_indices before 3.11 (Objects/dict-common.h)."""
_GENERAL: Final = 0
"""DICT_KEYS_GENERAL: the entries have hashes."""
_LARGEST: Final = 1 << 16

_word = struct.Struct("<Q").unpack_from
_signed = struct.Struct("<q").unpack_from


class Attributes:
    """Reads attributes of one interpreter's objects."""

    def __init__(self, layout: CPythonLayout, memory: ObjectMemory, objects: Objects) -> None:
        self._layout = layout
        self._memory = memory
        self._objects = objects

    def of(self, address: int, names: frozenset[bytes]) -> dict[bytes, int]:
        """The addresses of what these attributes are, as far as the object has them; :class:`UnreadableError`."""
        layout, memory = self._layout, self._memory
        if layout.free_threaded:
            raise UnreadableError("how objects keep their attributes without the global interpreter lock is not known")
        type_ = memory.pointer(address + layout.object_type)
        dict_, values = self._dict(address, type_)
        if dict_:
            keys = memory.pointer(dict_ + layout.dict_keys)
            values = memory.pointer(dict_ + layout.dict_values)
        else:
            keys = memory.pointer(type_ + layout.type_keys) if values else 0
        return self._found(keys, values, names) if keys else {}

    def _dict(self, address: int, type_: int) -> tuple[int, int]:
        """The object's dict, or else the values that it keeps without one."""
        layout, memory = self._layout, self._memory
        if layout.type_keys == ABSENT:
            offset = self._number(type_ + layout.type_dict)
            return (memory.pointer(address + offset), 0) if 0 < offset < _LARGEST else (0, 0)
        dict_ = memory.pointer(address - _DICT_BEFORE)
        if layout.minor == 11:
            return dict_, memory.pointer(address - _VALUES_BEFORE)
        if layout.minor == 12:
            return (0, dict_ + 1) if dict_ & 1 else (dict_, 0)
        return dict_, address + self._number(type_ + layout.type_size)

    def _number(self, address: int) -> int:
        return int(_signed(self._memory.exactly(address, 8, "a type"))[0])

    def _found(self, keys: int, values: int, names: frozenset[bytes]) -> dict[bytes, int]:
        """``values``: where the values are that the keys lack; 0: they have them."""
        layout, memory = self._layout, self._memory
        if layout.keys_kind == ABSENT:
            size = memory.pointer(keys + _OLD_SIZE)
            count = memory.pointer(keys + _OLD_COUNT)
            entries = keys + _OLD_INDICES + size * (1 if size <= 0xFF else 2 if size <= 0xFFFF else 4)
            hashed = 8
        else:
            head = memory.exactly(keys, layout.keys_indices, "a dict")
            count = _word(head, layout.keys_count)[0]
            entries = keys + layout.keys_indices + (1 << min(head[layout.keys_index_bytes], 20))
            hashed = 8 if head[layout.keys_kind] == _GENERAL else 0
        found = {}
        for number in range(min(count, MOST)):
            entry = entries + number * (16 + hashed) + hashed
            key = memory.pointer(entry)
            name = self._objects.text(key) if key else b""
            if name in names:
                value = memory.pointer(values + layout.values_first + 8 * number if values else entry + 8)
                if value:
                    found[name] = value
        return found
