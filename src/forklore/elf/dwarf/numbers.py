"""The numbers of the DWARF standard (versions 2 to 5, with GNU's additions) that lines and variables need.

Plain integers: they are compared for every debugging entry of a compilation unit.
"""

from __future__ import annotations

from typing import Final


class Tag:
    """What a debugging entry describes: DW_TAG_*."""

    array_type: Final = 0x01
    class_type: Final = 0x02
    enumeration_type: Final = 0x04
    formal_parameter: Final = 0x05
    lexical_block: Final = 0x0B
    member: Final = 0x0D
    pointer_type: Final = 0x0F
    reference_type: Final = 0x10
    structure_type: Final = 0x13
    subroutine_type: Final = 0x15
    typedef: Final = 0x16
    union_type: Final = 0x17
    inheritance: Final = 0x1C
    inlined_subroutine: Final = 0x1D
    module: Final = 0x1E
    ptr_to_member_type: Final = 0x1F
    subrange_type: Final = 0x21
    base_type: Final = 0x24
    const_type: Final = 0x26
    enumerator: Final = 0x28
    subprogram: Final = 0x2E
    variable: Final = 0x34
    volatile_type: Final = 0x35
    namespace: Final = 0x39
    restrict_type: Final = 0x37
    rvalue_reference_type: Final = 0x42
    atomic_type: Final = 0x47


class At:
    """An attribute of an entry: DW_AT_*."""

    sibling: Final = 0x01
    location: Final = 0x02
    name: Final = 0x03
    byte_size: Final = 0x0B
    bit_offset: Final = 0x0C
    bit_size: Final = 0x0D
    stmt_list: Final = 0x10
    low_pc: Final = 0x11
    high_pc: Final = 0x12
    comp_dir: Final = 0x1B
    const_value: Final = 0x1C
    lower_bound: Final = 0x22
    upper_bound: Final = 0x2F
    abstract_origin: Final = 0x31
    count: Final = 0x37
    data_member_location: Final = 0x38
    decl_file: Final = 0x3A
    decl_line: Final = 0x3B
    declaration: Final = 0x3C
    encoding: Final = 0x3E
    external: Final = 0x3F
    frame_base: Final = 0x40
    specification: Final = 0x47
    type: Final = 0x49
    ranges: Final = 0x55
    call_file: Final = 0x58
    call_line: Final = 0x59
    data_bit_offset: Final = 0x6B
    linkage_name: Final = 0x6E
    str_offsets_base: Final = 0x72
    addr_base: Final = 0x73
    rnglists_base: Final = 0x74
    dwo_name: Final = 0x76
    loclists_base: Final = 0x8C
    MIPS_linkage_name: Final = 0x2007
    GNU_dwo_name: Final = 0x2130
    GNU_addr_base: Final = 0x2133


class Form:
    """How an attribute is written: DW_FORM_*."""

    addr: Final = 0x01
    block2: Final = 0x03
    block4: Final = 0x04
    data2: Final = 0x05
    data4: Final = 0x06
    data8: Final = 0x07
    string: Final = 0x08
    block: Final = 0x09
    block1: Final = 0x0A
    data1: Final = 0x0B
    flag: Final = 0x0C
    sdata: Final = 0x0D
    strp: Final = 0x0E
    udata: Final = 0x0F
    ref_addr: Final = 0x10
    ref1: Final = 0x11
    ref2: Final = 0x12
    ref4: Final = 0x13
    ref8: Final = 0x14
    ref_udata: Final = 0x15
    indirect: Final = 0x16
    sec_offset: Final = 0x17
    exprloc: Final = 0x18
    flag_present: Final = 0x19
    strx: Final = 0x1A
    addrx: Final = 0x1B
    ref_sup4: Final = 0x1C
    strp_sup: Final = 0x1D
    data16: Final = 0x1E
    line_strp: Final = 0x1F
    ref_sig8: Final = 0x20
    implicit_const: Final = 0x21
    loclistx: Final = 0x22
    rnglistx: Final = 0x23
    ref_sup8: Final = 0x24
    strx1: Final = 0x25
    strx2: Final = 0x26
    strx3: Final = 0x27
    strx4: Final = 0x28
    addrx1: Final = 0x29
    addrx2: Final = 0x2A
    addrx3: Final = 0x2B
    addrx4: Final = 0x2C
    GNU_addr_index: Final = 0x1F01
    GNU_str_index: Final = 0x1F02
    GNU_ref_alt: Final = 0x1F20
    GNU_strp_alt: Final = 0x1F21


class Op:
    """The operations of a location expression that say where a variable is by themselves: DW_OP_*."""

    addr: Final = 0x03
    reg0: Final = 0x50
    reg31: Final = 0x6F
    regx: Final = 0x90
    fbreg: Final = 0x91
    call_frame_cfa: Final = 0x9C
    addrx: Final = 0xA1
    GNU_addr_index: Final = 0xFB


class RangeList:
    """An entry of .debug_rnglists: DW_RLE_*."""

    end_of_list: Final = 0
    base_addressx: Final = 1
    startx_endx: Final = 2
    startx_length: Final = 3
    offset_pair: Final = 4
    base_address: Final = 5
    start_end: Final = 6
    start_length: Final = 7


class LocationList:
    """An entry of .debug_loclists: DW_LLE_*. Those below 5 are as in :class:`RangeList`."""

    default_location: Final = 5
    base_address: Final = 6
    start_end: Final = 7
    start_length: Final = 8
    GNU_view_pair: Final = 9


class Line:
    """An opcode of a line program: DW_LNS_*, and after an extended one DW_LNE_*."""

    copy: Final = 1
    advance_pc: Final = 2
    advance_line: Final = 3
    set_file: Final = 4
    set_column: Final = 5
    const_add_pc: Final = 8
    fixed_advance_pc: Final = 9
    end_sequence: Final = 1
    set_address: Final = 2
    define_file: Final = 3


class LineContent:
    """A column of the file table of a line program: DW_LNCT_*."""

    path: Final = 1
    directory_index: Final = 2


class Encoding:
    """How the bits of a base type read: DW_ATE_*."""

    address: Final = 0x01
    boolean: Final = 0x02
    float: Final = 0x04
    signed: Final = 0x05
    signed_char: Final = 0x06
    unsigned: Final = 0x07
    unsigned_char: Final = 0x08
    UTF: Final = 0x10


class UnitType:
    """The kind of a unit since DWARF 5: DW_UT_*."""

    compile: Final = 0x01
    type: Final = 0x02
    skeleton: Final = 0x04
    split_compile: Final = 0x05
    split_type: Final = 0x06
