"""Register blocks of 32-bit programs on 64-bit machines whose calls are not decoded."""

from __future__ import annotations

import pytest

from forklore.abi.registers import FOREIGN, LAYOUTS, Layout, layout_of_size


@pytest.mark.parametrize("layout", FOREIGN, ids=lambda layout: layout.nr)
def test_they_are_told_by_their_size(layout: Layout) -> None:
    assert layout_of_size(layout.size) is layout
    assert layout.size not in {known.size for known in LAYOUTS.values()}
    assert layout.size == layout.format.size
    assert {layout.nr, *layout.args, layout.ret, layout.sp, layout.ip} <= set(layout.names)


def test_an_arm_programs_call_is_in_its_low_registers() -> None:
    # syscall(2), arm/EABI: the number in r7, the arguments from r0 on. 120 is clone.
    values = {"r0": 0x1200011, "r7": 120, "sp": 0xFFEE0, "pc": 0x20568}
    layout = layout_of_size(18 * 4)
    assert layout is not None
    block = b"".join(values.get(name, 0).to_bytes(4, "little") for name in layout.names)
    assert layout.read(block, layout.nr) == 120
    assert [layout.read(block, name) for name in layout.args[:2]] == [0x1200011, 0]
    assert (layout.read(block, layout.sp), layout.read(block, layout.ip)) == (0xFFEE0, 0x20568)
