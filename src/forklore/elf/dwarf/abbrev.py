"""How the entries of .debug_info are written: the tables of .debug_abbrev (DWARF standard, 7.5.3 and 7.5.6)."""

from __future__ import annotations

from typing import Final, NamedTuple

from forklore.elf.dwarf.file import BrokenDwarf
from forklore.elf.dwarf.numbers import At, Form
from forklore.elf.leb128 import signed as sleb
from forklore.elf.leb128 import unsigned as uleb

FIXED, ULEB, SLEB, STRING, SIZED, BLOCK, CONST, PRESENT, INDIRECT = range(9)

_FORMS: Final = {
    Form.data1: (FIXED, 1), Form.ref1: (FIXED, 1), Form.flag: (FIXED, 1), Form.strx1: (FIXED, 1),
    Form.addrx1: (FIXED, 1), Form.data2: (FIXED, 2), Form.ref2: (FIXED, 2), Form.strx2: (FIXED, 2),
    Form.addrx2: (FIXED, 2), Form.strx3: (FIXED, 3), Form.addrx3: (FIXED, 3), Form.data4: (FIXED, 4),
    Form.ref4: (FIXED, 4), Form.ref_sup4: (FIXED, 4), Form.strx4: (FIXED, 4), Form.addrx4: (FIXED, 4),
    Form.data8: (FIXED, 8), Form.ref8: (FIXED, 8), Form.ref_sup8: (FIXED, 8), Form.ref_sig8: (FIXED, 8),
    Form.data16: (FIXED, 16),
    Form.udata: (ULEB, 0), Form.ref_udata: (ULEB, 0), Form.strx: (ULEB, 0), Form.addrx: (ULEB, 0),
    Form.loclistx: (ULEB, 0), Form.rnglistx: (ULEB, 0), Form.GNU_addr_index: (ULEB, 0),
    Form.GNU_str_index: (ULEB, 0), Form.sdata: (SLEB, 0), Form.string: (STRING, 0),
    Form.block1: (SIZED, 1), Form.block2: (SIZED, 2), Form.block4: (SIZED, 4), Form.block: (BLOCK, 0),
    Form.exprloc: (BLOCK, 0), Form.implicit_const: (CONST, 0), Form.flag_present: (PRESENT, 0),
    Form.indirect: (INDIRECT, 0),
}  # fmt: skip
_OFFSETS: Final = frozenset(
    {Form.strp, Form.line_strp, Form.sec_offset, Form.strp_sup, Form.GNU_ref_alt, Form.GNU_strp_alt}
)


class Abbreviation(NamedTuple):
    """The shape of an entry. ``attributes``: (name, form, how it is read, its size, its constant)."""

    tag: int
    children: bool
    attributes: tuple[tuple[int, int, int, int, int], ...]
    plan: tuple[tuple[int, int], ...]
    """How to skip the attributes: neighbours of a fixed size are one step."""
    names: frozenset[int]
    skippable: bool
    """It has children and says where its next sibling is."""


class Abbreviations:
    """A table of .debug_abbrev, read no further than the codes asked for: most units are only looked at once."""

    def __init__(self, data: memoryview, at: int, *, version: int, address_size: int, offset_size: int) -> None:
        self._data = data
        self._at: int | None = at
        self._known: dict[int, Abbreviation] = {}
        self._address_size = address_size
        self._offset_size = offset_size
        self._reference_size = address_size if version == 2 else offset_size

    def get(self, code: int) -> Abbreviation:
        """The shape of entries that begin with ``code``."""
        found = self._known.get(code)
        while found is None:
            if self._at is None:
                raise BrokenDwarf(f"an entry with the unknown abbreviation {code}")
            self._next(self._at)
            found = self._known.get(code)
        return found

    def reading(self, form: int) -> tuple[int, int]:
        """How an attribute of a form is read, and its size or that of its length."""
        if form == Form.addr:
            return FIXED, self._address_size
        if form == Form.ref_addr:
            return FIXED, self._reference_size
        if form in _OFFSETS:
            return FIXED, self._offset_size
        known = _FORMS.get(form)
        if known is None:
            raise BrokenDwarf(f"an attribute of the unknown form {form:#x}")
        return known

    def _next(self, at: int) -> None:
        data = self._data
        code, at = uleb(data, at)
        if code == 0:
            self._at = None
            return
        tag, at = uleb(data, at)
        children = data[at] != 0
        at += 1
        attributes = []
        while True:
            name, at = uleb(data, at)
            form, at = uleb(data, at)
            constant = 0
            if form == Form.implicit_const:
                constant, at = sleb(data, at)
            if name == 0 and form == 0:
                break
            attributes.append((name, form, *self.reading(form), constant))
        self._at = at
        names = frozenset(name for name, *_ in attributes)
        skippable = children and At.sibling in names
        shape = Abbreviation(tag, children, tuple(attributes), _plan(attributes), names, skippable)
        self._known.setdefault(code, shape)


def _plan(attributes: list[tuple[int, int, int, int, int]]) -> tuple[tuple[int, int], ...]:
    steps: list[tuple[int, int]] = []
    for _name, _form, how, size, _constant in attributes:
        if how in {CONST, PRESENT}:
            continue
        if how == FIXED and steps and steps[-1][0] == FIXED:
            steps[-1] = (FIXED, steps[-1][1] + size)
        else:
            steps.append((how, size))
    return tuple(steps)
