"""Which function covers an address of an ELF file, and where a name is: with a million symbols as with ten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.units import Address, Unavailable
from forklore.elf.image.assembly import code_ends
from forklore.elf.image.dynsym import DynamicSymbols
from forklore.elf.image.image import ElfImage
from forklore.elf.image.symtab import (
    STB_GLOBAL,
    STB_GNU_UNIQUE,
    STB_WEAK,
    STT_NOTYPE,
    STT_OBJECT,
    SymbolEntry,
    Table,
    section_table,
)

_MAX_CACHED = 1 << 16
_MAX_MINI = 1 << 24
_MAX_MINI_CONTENT = 1 << 26
_MAX_XZ_MEMORY = 1 << 27
_RANKS: Final = {STB_GLOBAL: 0, STB_GNU_UNIQUE: 0, STB_WEAK: 1}
"""A documented name is often the weak alias of a hidden one; a local name is never one that a manual has."""


class Symbol(Struct, frozen=True, gc=False):
    """A symbol: its name without version, its address in the file's own numbering, its size in bytes (0: not said)."""

    name: bytes
    address: Address
    size: int


class Symbols:
    """The symbols of an image: its own, those of its separate debug file, and those in ``.gnu_debugdata``.

    The images stay the caller's, and open while this is used. Of a table, the first two million entries are looked at.
    """

    def __init__(self, image: ElfImage, debug: Callable[[], ElfImage | None] = lambda: None) -> None:
        """``debug`` gives the separate debug file, and is asked for it when that is needed for the first time."""
        self._image = image
        self._dynamic = DynamicSymbols(image)
        self._full = section_table(image, ".symtab")
        self._debug = debug
        self._mini: Table | Unavailable | None = None
        self._at: dict[tuple[int, int | None, bool], Symbol | None] = {}
        self._named: dict[tuple[bytes, bool], Symbol | None] = {}

    def at(self, address: int, start: int | None = None, *, own: bool = False) -> Symbol | None:
        """The function that covers an address; None where no symbol does.

        ``start`` is where the function begins, if call-frame information says so; without it a function is found up
        to 256 KiB from its beginning. Of several names for one place the one from the manual is given: ``fork``, not
        ``__libc_fork``. A symbol without a size (assembly) reaches to the next one in its section,
        and in a stripped file no further than its code goes on.

        ``own``: as far as the file itself tells; its debug file is not asked.
        """
        key = (address, start, own)
        if key in self._at:
            return self._at[key]
        if self._image.loads and self._image.executable(address) is None:
            return None
        found = None if start is None or start > address else self._first(
            _best(table, table.starting(start)) for table in self._readable(own=own))
        if found is None:
            stripped = self._full is None and (own or self._of_debug is None)
            found = self._first(_covering(table, address, start, stripped=stripped)
                                for table in self._readable(own=own))
        if len(self._at) >= _MAX_CACHED:
            self._at.clear()
        self._at[key] = found
        return found

    def object_at(self, address: int) -> Symbol | None:
        """The variable that covers an address; None where no symbol with a size does."""
        for table in self._readable(own=False):
            entry = table.object_at(address)
            if entry is not None:
                return Symbol(table.name(entry), Address(entry.value), entry.size)
        return None

    def find(self, name: bytes, *, own: bool = False) -> Symbol | None:
        """The function or object of that name, exported ones first; None for thread-local and undefined ones.

        ``own`` as in :meth:`at`.
        """
        if not name or b"\0" in name:
            return None
        key = (name, own)
        if key not in self._named:
            if len(self._named) >= _MAX_CACHED:
                self._named.clear()
            entries = (entry for entry in self._called(name, own=own)
                       if entry.defined and (entry.type == STT_OBJECT or entry.code))
            found = next(entries, None)
            self._named[key] = None if found is None else Symbol(name, Address(found.value), found.size)
        return self._named[key]

    def _called(self, name: bytes, *, own: bool) -> Iterator[SymbolEntry]:
        if self._dynamic.hashed:
            yield from self._dynamic.called(name)
        for table in self._readable(own=own):
            if table is not self._dynamic.table or not self._dynamic.hashed:
                yield from table.called(name)

    @cached_property
    def _of_debug(self) -> Table | None:
        debug = self._debug()
        return None if debug is None else section_table(debug, ".symtab")

    def _readable(self, *, own: bool) -> Iterator[Table]:
        if self._full is not None:
            yield self._full
        if not own and (of_debug := self._of_debug) is not None:
            yield of_debug
        if self._dynamic.table is not None:
            yield self._dynamic.table
        if self._mini is None:
            self._mini = _mini_table(self._image)
        if isinstance(self._mini, Table):
            yield self._mini

    @staticmethod
    def _first(found: Iterable[Symbol | None]) -> Symbol | None:
        return next((symbol for symbol in found if symbol is not None), None)


def _covering(table: Table, address: int, start: int | None, *, stripped: bool) -> Symbol | None:
    """The symbol whose size covers the address or, failing that, the nearest below it if that has no size.

    ``stripped``: the table lacks what is not exported, so that the next symbol may not be that of the next function.
    """
    nearest: list[SymbolEntry] = []
    covering: list[SymbolEntry] = []
    ended = False
    for entry in table.before(address):
        if covering and entry.value != covering[0].value:
            break
        if not entry.code or _mapping_symbol(table, entry):
            continue
        if not nearest or entry.value == nearest[0].value:
            nearest.append(entry)
        if entry.size and address < entry.value + entry.size:
            covering.append(entry)
        elif nearest[0].value < entry.value + entry.size:
            ended = True  # A label in a function reaches no further than the function.
    if stripped and nearest and not nearest[0].size and not ended:
        ended = code_ends(table.image, nearest[0].value, address)
    reaching = [] if ended else [entry for entry in nearest if (start is None or entry.value >= start)
                                 and _same_section(table, entry, address)]
    return _best(table, covering or reaching)


def _best(table: Table, entries: Iterable[SymbolEntry]) -> Symbol | None:
    named = [(entry, table.name(entry)) for entry in entries if entry.code and not _mapping_symbol(table, entry)]
    entry, name = min(named, key=_preference, default=(None, b""))
    return None if entry is None or not name else Symbol(name, Address(entry.value), entry.size)


def _preference(named: tuple[SymbolEntry, bytes]) -> tuple[bool, bool, int, int, int, bytes]:
    entry, name = named
    underscores = len(name) - len(name.lstrip(b"_"))
    return not name, entry.type == STT_NOTYPE, underscores, _RANKS.get(entry.binding, 2), len(name), name


def _mapping_symbol(table: Table, entry: SymbolEntry) -> bool:
    """``$x`` and ``$d`` mark instructions and data for disassemblers (ELF for the Arm 64-bit Architecture; RISC-V)."""
    marked = entry.type == STT_NOTYPE and table.image.arch in (Arch.AARCH64, Arch.RISCV64)
    return marked and table.name(entry).startswith(b"$")


def _same_section(table: Table, entry: SymbolEntry, address: int) -> bool:
    section = table.image.section_number(entry.section) if table.numbered else None
    if section is not None:
        return section.address <= address < section.address + section.memory_size
    load = table.image.executable(address)
    return load is not None and load == table.image.executable(entry.value)


def _mini_table(image: ElfImage) -> Table | Unavailable:
    """The symbol table in ``.gnu_debugdata``: an ELF file of its own, packed by xz (gdb manual, "MiniDebugInfo")."""
    section = image.section(".gnu_debugdata")
    if section is None:
        return Unavailable(0, "there is no .gnu_debugdata")
    if section.size > _MAX_MINI:
        return Unavailable(0, f".gnu_debugdata is {section.size} bytes long, and at most {_MAX_MINI} are unpacked")
    import lzma

    unpack = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_MAX_XZ_MEMORY)
    try:
        content = unpack.decompress(image.bytes_of(section, _MAX_MINI), _MAX_MINI_CONTENT)
    except (lzma.LZMAError, EOFError) as problem:
        return Unavailable(0, f".gnu_debugdata cannot be unpacked: {problem}")
    if not unpack.eof:
        return Unavailable(0, f".gnu_debugdata is cut short, or longer than {_MAX_MINI_CONTENT} bytes when unpacked")
    inner = ElfImage.of_bytes(content)
    if isinstance(inner, Unavailable):
        return Unavailable(0, f".gnu_debugdata: {inner.why}")
    return section_table(inner, ".symtab") or Unavailable(0, ".gnu_debugdata holds no symbol table")
