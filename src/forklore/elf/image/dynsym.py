"""The symbols that the dynamic linker sees, found as it finds them: by DT_GNU_HASH or DT_HASH.

They are there in a stripped file, in one without section headers and in the vdso. Sources: the gABI's chapter
"Dynamic Linking" for DT_HASH; glibc elf/dl-lookup.c: do_lookup_x for DT_GNU_HASH.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from forklore.elf.image.image import ElfImage
from forklore.elf.image.symtab import MAX_ENTRIES, SymbolEntry, Table, section_table

_DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ = 4, 5, 6, 10
_DT_GNU_HASH, _DT_VERSYM = 0x6FFFFEF5, 0x6FFFFFF0
_HIDDEN: Final = 0x8000
"""In a version index: a version that is not the default one, as ``foo@V`` beside ``foo@@V``."""

_MAX_CHAIN = 4096


class DynamicSymbols:
    """The dynamic symbol table of an image and its hash; ``table`` is None where there is none."""

    def __init__(self, image: ElfImage) -> None:
        self._image = image
        self.hashed: Final = any(self._place(tag) is not None for tag in (_DT_GNU_HASH, _DT_HASH))
        self.table: Final = section_table(image, ".dynsym") or self._from_segment()

    def called(self, name: bytes) -> Iterator[SymbolEntry]:
        """The symbols of that name in the hash table, the default version first."""
        table = self.table
        if table is None:
            return
        found = [number for number in self._chain(name)
                 if number < table.count and table.name(table.entry(number)) == name]
        for number in sorted(found, key=self._hidden):
            yield table.entry(number)

    def _chain(self, name: bytes) -> Iterator[int]:
        gnu = self._place(_DT_GNU_HASH)
        if gnu is not None:
            return self._gnu_chain(gnu, name)
        old = self._place(_DT_HASH)
        return iter(()) if old is None else self._old_chain(old, name)

    def _gnu_chain(self, at: int, name: bytes) -> Iterator[int]:
        wanted = 5381
        for letter in name:
            wanted = (wanted * 33 + letter) & 0xFFFFFFFF
        buckets, first, bloom = self._word(at), self._word(at + 4), self._word(at + 8)
        if not buckets:
            return
        bucket_at = at + 16 + bloom * (self._image.bits // 8)
        chain_at = bucket_at + 4 * buckets
        number = self._word(bucket_at + 4 * (wanted % buckets))
        for step in range(number, number + _MAX_CHAIN if number >= first else number):
            found = self._word(chain_at + 4 * (step - first))
            if found | 1 == wanted | 1:
                yield step
            if found & 1:
                return

    def _old_chain(self, at: int, name: bytes) -> Iterator[int]:
        wanted = 0
        for letter in name:
            wanted = (wanted << 4) + letter
            wanted = (wanted ^ (wanted >> 24 & 0xF0)) & 0x0FFFFFFF
        buckets = self._word(at)
        if not buckets:
            return
        number = self._word(at + 8 + 4 * (wanted % buckets))
        for _ in range(_MAX_CHAIN):
            if not number:
                return
            yield number
            number = self._word(at + 8 + 4 * (buckets + number))

    def _hidden(self, number: int) -> bool:
        at = self._place(_DT_VERSYM)
        if at is None:
            return False
        return bool(int.from_bytes(self._image.read(at + 2 * number, 2), "little") & _HIDDEN)

    def _from_segment(self) -> Table | None:
        symbols, strings = self._place(_DT_SYMTAB), self._place(_DT_STRTAB)
        if symbols is None or strings is None:
            return None
        return Table(self._image, symbols, self._count(), strings, strings + self._image.dynamic.get(_DT_STRSZ, 0),
                     numbered=False)

    def _count(self) -> int:
        """How many symbols there are, which only the hash tables tell."""
        old = self._place(_DT_HASH)
        if old is not None:
            return self._word(old + 4)
        at = self._place(_DT_GNU_HASH)
        if at is None:
            return 0
        buckets, first, bloom = self._word(at), self._word(at + 4), self._word(at + 8)
        bucket_at = at + 16 + bloom * (self._image.bits // 8)
        heads = memoryview(self._image.read(bucket_at, 4 * min(buckets, MAX_ENTRIES)))
        last = max(heads[:len(heads) & ~3].cast("I"), default=0)
        chain_at = bucket_at + 4 * buckets
        for step in range(last, last + _MAX_CHAIN if last >= first else last):
            if self._word(chain_at + 4 * (step - first)) & 1:
                return step + 1
        return last

    def _place(self, tag: int) -> int | None:
        value = self._image.dynamic.get(tag)
        return None if value is None else self._image.offset_of(value)

    def _word(self, at: int) -> int:
        return int.from_bytes(self._image.read(at, 4), "little")
