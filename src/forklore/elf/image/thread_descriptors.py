"""Where glibc keeps a thread's routine: what it publishes for debuggers (nptl_db).

glibc's nptl_db/structs.def describes fields of struct pthread by constants in the C library itself: for each field
``_thread_db_STRUCT_FIELD``, three words (size in bits, number of elements, offset in bytes; nptl_db/thread_dbP.h:
db_desc_t), and for each struct ``_thread_db_sizeof_STRUCT``, one word. They are in libc.so.6's .dynsym since 2.34,
in the .symtab of libpthread.so.0 before, and in that of a static program.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.abi.text import as_text
from forklore.abi.units import Unavailable

if TYPE_CHECKING:
    from forklore.elf.image.image import ElfImage
    from forklore.elf.image.symbols import Symbols

_START_ROUTINE: Final = b"_thread_db_pthread_start_routine"
_TID: Final = b"_thread_db_pthread_tid"
_SIZE: Final = b"_thread_db_sizeof_pthread"
_DESCRIPTOR: Final = struct.Struct("<III")
_WORD: Final = struct.Struct("<I")
_TID_BITS: Final = 32
_POINTER_BITS: Final = (32, 64)
_SMALLEST: Final = 64
_LARGEST: Final = 1 << 16
"""struct pthread has 2304 bytes and more since 2.17; what it holds in line has never exceeded a page."""


class PthreadLayout(Struct, frozen=True):
    """Where the fields of glibc's struct pthread lie: offsets from its start and its size, in bytes."""

    start_routine: int
    """What pthread_create was given to call; its argument is the next field (nptl/descr.h)."""
    tid: int
    """The kernel's number of the thread, which is where clone stores it (CLONE_PARENT_SETTID)."""
    size: int
    pointer: int
    """Size of a pointer: 4 or 8."""

    @property
    def arg(self) -> int:
        """What the routine is given."""
        return self.start_routine + self.pointer


def descriptor(
    find_symbol: Callable[[bytes], int | None], read: Callable[[int, int], bytes | None]
) -> PthreadLayout | Unavailable:
    """The layout that a C library publishes.

    ``find_symbol`` gives the address of a symbol, ``read`` bytes at such an address; both None where there are none.
    """
    routine = _field(_START_ROUTINE, find_symbol, read)
    if isinstance(routine, Unavailable):
        return routine
    tid = _field(_TID, find_symbol, read)
    if isinstance(tid, Unavailable):
        return tid
    size = _bytes(_SIZE, _WORD.size, find_symbol, read)
    if isinstance(size, Unavailable):
        return size
    return _checked(routine, tid, _WORD.unpack(size)[0])


def layout_from_image(image: ElfImage, symbols: Symbols | None = None) -> PthreadLayout | Unavailable:
    """The layout that an ELF file publishes, from the file alone: the words are constants."""
    if symbols is None:
        from forklore.elf.image.symbols import Symbols

        symbols = Symbols(image)
    known = symbols

    def find(name: bytes) -> int | None:
        symbol = known.find(name)
        return None if symbol is None else symbol.address

    def read(address: int, size: int) -> bytes | None:
        offset = image.offset_of(address)
        return None if offset is None else image.read(offset, size)

    return descriptor(find, read)


def _checked(routine: tuple[int, int, int], tid: tuple[int, int, int], size: int) -> PthreadLayout | Unavailable:
    if not _SMALLEST <= size <= _LARGEST:
        return Unavailable(0, f"{as_text(_SIZE)} says {size} bytes, which is no size of a thread descriptor")
    bits, count, offset = routine
    if bits not in _POINTER_BITS or count != 1 or offset % 4 or offset + 2 * bits // 8 > size:
        return Unavailable(0, f"{as_text(_START_ROUTINE)} says {routine}, which is no pointer in {size} bytes")
    if tid[0] != _TID_BITS or tid[1] != 1 or tid[2] % 4 or tid[2] + _TID_BITS // 8 > size:
        return Unavailable(0, f"{as_text(_TID)} says {tid}, which is no thread id in {size} bytes")
    return PthreadLayout(start_routine=offset, tid=tid[2], size=size, pointer=bits // 8)


def _field(
    name: bytes, find_symbol: Callable[[bytes], int | None], read: Callable[[int, int], bytes | None]
) -> tuple[int, int, int] | Unavailable:
    raw = _bytes(name, _DESCRIPTOR.size, find_symbol, read)
    if isinstance(raw, Unavailable):
        return raw
    bits, count, offset = _DESCRIPTOR.unpack(raw)
    return bits, count, offset


def _bytes(
    name: bytes, size: int, find_symbol: Callable[[bytes], int | None], read: Callable[[int, int], bytes | None]
) -> bytes | Unavailable:
    address = find_symbol(name)
    if address is None:
        return Unavailable(0, f"there is no symbol {as_text(name)}: not glibc, or its symbols are stripped")
    raw = read(address, size)
    if raw is None or len(raw) != size:
        return Unavailable(0, f"{as_text(name)} lies at {address:#x}, outside the file's contents")
    return raw
