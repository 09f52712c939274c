"""Lines and inlined functions: equal to addr2line's at every instruction; broken files are answered, not raised."""

from __future__ import annotations

import mmap
import subprocess
import time
from pathlib import Path

import pytest
from dwarf_programs import CXX, Place, addr2line, build, gdb_files, instructions, need
from elftools.dwarf import enums
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.elf.dwarf import numbers as numbers
from forklore.elf.dwarf.file import Input
from forklore.elf.dwarf.source import DwarfSource, SourcePlace
from forklore.elf.dwarf.variables import Variables, name_range

Sections = list[tuple[bytes, list[tuple[int, int]], list[int]]]
PIECES = [b"\0", b"\xff", b"\x7f", b"\x80" * 20, b"\xff" * 8]
BUILDS = [
    pytest.param(["-O0", "-gdwarf-4"], id="O0-4"),
    pytest.param(["-O0", "-gdwarf-5"], id="O0-5"),
    pytest.param(["-O2", "-gdwarf-3", "-gstrict-dwarf"], id="O2-3"),
    pytest.param(["-O2", "-gdwarf-4"], id="O2-4"),
    pytest.param(["-O2", "-gdwarf-5"], id="O2-5"),
    pytest.param(["-O2", "-gdwarf-5", "-gno-as-loc-support", "-ffunction-sections"], id="O2-5-no-as-loc"),
    pytest.param(["-O2", "-g", "-gz"], id="O2-gz"),
    pytest.param(["-O1", "-g", "-static"], id="static"),
    pytest.param(["-O2", "-g", "-fdebug-types-section", "-flto"], id="lto"),
]


def differences(program: Path, source: DwarfSource, addresses: list[int]) -> list[tuple[int, list[Place], list[Place]]]:
    """Addresses where we and addr2line differ, but for what addr2line takes from the symbol table.

    Without lines it names the symbol alone; and it puts the symbol's name in the place of a function that has no
    mangled name in DWARF.
    """
    wrong: list[tuple[int, list[Place], list[Place]]] = []
    for address, expected in addr2line(program, addresses).items():
        got = [(where.function, where.file, where.line) for where in source.at(address)]
        assert source.problem is None
        if not got and all(line is None for _, _, line in expected):
            continue
        mangled = [
            (function if (other[0] or "").startswith("_Z") and not (function or "").startswith("_Z") else other[0],
             other[1], other[2])
            for (function, _, _), other in zip(got, expected, strict=False)
        ]  # fmt: skip
        mangled += expected[len(mangled) :]
        if got != mangled:
            wrong.append((address, got, mangled))
    # addr2line (binutils 2.40) is one off in some file tables of DWARF 5; of the file alone gdb is the judge.
    files = gdb_files(program, [address for address, _, _ in wrong])
    return [
        (address, got, expected)
        for address, got, expected in wrong
        if not got or expected != [(got[0][0], expected[0][1], got[0][2]), *got[1:]] or files[address] != got[0][1]
    ]


@pytest.mark.parametrize("flags", BUILDS)
def test_equal_to_addr2line_at_every_instruction(flags: list[str], tmp_path: Path) -> None:
    program = build(tmp_path, *flags)
    source = DwarfSource(program, budget=20)
    addresses = [each for each in instructions(program) if source.at(each)]
    assert len(addresses) > 40
    assert differences(program, source, addresses) == []


@pytest.mark.parametrize("flag", ["-gdwarf64", "-gz=zlib-gnu", "-gdwarf-2"])
def test_forms_that_addr2line_does_not_read(flag: str, tmp_path: Path) -> None:
    """The code is the same, so the answers are: addr2line (binutils 2.40) finds no lines in these."""
    program = build(tmp_path, "-O2", "-g")
    expected = [DwarfSource(program).at(address) for address in instructions(program)]
    assert any(expected)
    other = build(tmp_path, "-O2", "-g", flag)
    assert [DwarfSource(other).at(address) for address in instructions(other)] == expected


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_equal_to_addr2line_in_cxx(level: str, tmp_path: Path) -> None:
    program = build(tmp_path, level, "-g", source=CXX)
    source = DwarfSource(program, budget=20)
    assert differences(program, source, instructions(program)[::7]) == []
    names = {where.function for address in instructions(program) for where in source.at(address)}
    assert "_ZN5outer7Derived3sumERSt6vectorIiSaIiEE" in names


def test_addresses_without_lines_have_no_answer(tmp_path: Path) -> None:
    program = build(tmp_path, "-g")
    source = DwarfSource(program)
    for address in (0, 1, 0x10, 1 << 40, (1 << 64) - 1, 1 << 70):
        assert source.at(address) == ()
    assert source.problem is None


def test_inlined_functions_come_innermost_first(tmp_path: Path) -> None:
    program = build(tmp_path, "-O2", "-g")
    source = DwarfSource(program)
    chains = {tuple(where.function for where in source.at(address)) for address in instructions(program)}
    assert ("square", "twice", "work") in chains


def test_the_directory_of_a_file_is_joined(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "part.h").write_text("static int part(void)\n{\n    return 3;\n}\n")
    for version in ("-gdwarf-4", "-gdwarf-5"):
        (tmp_path / "whole.c").write_text('#include "below/part.h"\nint main(void) { return part(); }\n')
        subprocess.run(["gcc", "-g", version, "-o", "whole", "whole.c"], cwd=tmp_path, check=True)
        source = DwarfSource(tmp_path / "whole")
        places = {where for address in instructions(tmp_path / "whole") for where in source.at(address)}
        assert SourcePlace("part", f"{tmp_path}/below/part.h", 3) in places
        assert SourcePlace("main", f"{tmp_path}/whole.c", 2) in places


def test_a_separate_debug_file(tmp_path: Path) -> None:
    need("objcopy")
    program = build(tmp_path, "-O2", "-g")
    expected = {address: DwarfSource(program).at(address) for address in instructions(program)}
    debug = tmp_path / "program.debug"
    subprocess.run(["objcopy", "--only-keep-debug", program, debug], check=True)
    subprocess.run(["objcopy", "--strip-debug", program], check=True)
    stripped = DwarfSource(program)
    assert all(stripped.at(address) == () for address in expected)
    assert stripped.problem is None
    separate = DwarfSource(debug)
    assert {address: separate.at(address) for address in expected} == expected


def test_bytes_and_mappings(tmp_path: Path) -> None:
    program = build(tmp_path, "-g")
    addresses = instructions(program)
    with program.open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    inputs: tuple[Input, ...] = (program, str(program), program.read_bytes(), bytearray(program.read_bytes()), whole)
    answers = [[source.at(each) for each in addresses] for source in [DwarfSource(each) for each in inputs]]
    assert any(answers[0])
    assert all(answer == answers[0] for answer in answers)


def test_units_without_address_ranges_are_found_by_their_own(tmp_path: Path) -> None:
    need("objcopy")
    program = build(tmp_path, "-O2", "-g")
    bare = tmp_path / "bare"
    subprocess.run(["objcopy", "--remove-section=.debug_aranges", program, bare], check=True)
    listed, walked = DwarfSource(program), DwarfSource(bare)
    assert [walked.at(each) for each in instructions(program)] == [listed.at(each) for each in instructions(program)]


def test_common_entries_in_a_supplementary_file(tmp_path: Path) -> None:
    need("dwz", "objcopy")
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    programs = [build(first, "-O2", "-gdwarf-4"), build(second, "-O2", "-gdwarf-4")]
    expected = [DwarfSource(programs[0]).at(address) for address in instructions(programs[0])]
    common = tmp_path / "common.debug"
    ran = subprocess.run(["dwz", "-m", common, *programs], capture_output=True, text=True, check=False)
    if not common.exists():
        pytest.skip(f"dwz made no common file: {ran.stderr.strip()}")
    link = DwarfSource(programs[0]).supplementary_link
    assert link is not None
    assert link[0].endswith(b"common.debug")
    assert len(link[1]) == 20
    together = DwarfSource(programs[0], supplementary=common)
    assert [together.at(address) for address in instructions(programs[0])] == expected
    alone = DwarfSource(programs[0])
    answers = [alone.at(address) for address in instructions(programs[0])]
    assert [[where.line for where in each] for each in answers] == [[where.line for where in each] for each in expected]
    assert alone.problem is None


def test_split_debug_information_is_said_to_be_elsewhere(tmp_path: Path) -> None:
    for version in ("-gdwarf-4", "-gdwarf-5"):
        program = build(tmp_path, "-g", version, "-gsplit-dwarf")
        source = DwarfSource(program)
        problems = set()
        for address in instructions(program):
            assert source.at(address) == ()
            problems.add(source.problem)
        assert any(problem is not None and ".dwo" in problem for problem in problems)


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"no program", b"\x7fELF\x02\x01\x01" + bytes(57)])
def test_no_elf_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    for each in (content, tmp_path / "file"):
        source = DwarfSource(each)
        assert source.at(0x1000) == ()


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    source = DwarfSource(tmp_path / "missing")
    assert source.at(0x1000) == ()
    assert source.problem is not None
    assert "No such file" in source.problem


def test_nothing_new_is_read_when_the_budget_is_spent(tmp_path: Path) -> None:
    program = build(tmp_path, "-O2", "-g")
    source = DwarfSource(program, budget=0)
    assert source.at(instructions(program)[0]) == ()
    assert source.problem is not None
    assert "more than 0 s" in source.problem


def test_an_expansion_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    program = build(tmp_path, "-g", "-gz")
    data = bytearray(program.read_bytes())
    with program.open("rb") as file:
        section = ELFFile(file).get_section_by_name(".debug_info")
        assert section is not None
        start = section["sh_offset"]
    data[start + 8 : start + 16] = (1 << 50).to_bytes(8, "little")
    source = DwarfSource(data)
    assert all(source.at(address) == () for address in instructions(program))
    assert source.problem is not None
    assert "MiB" in source.problem


@pytest.fixture(scope="session")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Sections:
    """Programs, where their .debug_* sections are, and their instructions."""
    found = []
    for index, version in enumerate(("-gdwarf-4", "-gdwarf-5")):
        program = build(tmp_path_factory.mktemp(f"mutated{index}"), "-O2", version)
        with program.open("rb") as file:
            places = [
                (section["sh_offset"], section["sh_size"])
                for section in ELFFile(file).iter_sections()
                if section.name.startswith(".debug_")
            ]
        found.append((program.read_bytes(), places, instructions(program)))
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_is_answered_in_time(data: st.DataObject, sections: Sections) -> None:
    original, places, addresses = data.draw(st.sampled_from(sections))
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 6))):
        start, size = data.draw(st.sampled_from(places))
        at = start + data.draw(st.integers(0, size - 1))
        piece = data.draw(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=4))
        damaged[at : at + len(piece)] = piece
    began = time.monotonic()
    source, variables = DwarfSource(damaged, budget=1), Variables(damaged, budget=1)
    for address in addresses[::9]:
        assert all(isinstance(where, SourcePlace) for where in source.at(address))
        here = variables.locals_at(address, 1 << 40, dict.fromkeys(range(17), 1 << 41))
        assert len(name_range(here, 0, 1 << 63)) <= 100 * max(1, len(here))
    assert isinstance(name_range(variables.globals_at(0x4000, 0x100), 0x4000, 0x100), list)
    assert time.monotonic() - began < 4


def test_references_in_a_circle_end(tmp_path: Path) -> None:
    program = build(tmp_path, "-O2", "-g")
    data = bytearray(program.read_bytes())
    with program.open("rb") as file:
        elf = ELFFile(file)
        info = elf.get_section_by_name(".debug_info")
        assert info is not None
        base = info["sh_offset"]
        changed = 0
        for unit in elf.get_dwarf_info().iter_CUs():
            for entry in unit.iter_DIEs():
                origin = entry.attributes.get("DW_AT_abstract_origin")
                if origin is not None and origin.form == "DW_FORM_ref4":
                    itself = entry.offset - unit.cu_offset
                    data[base + origin.offset : base + origin.offset + 4] = itself.to_bytes(4, "little")
                    changed += 1
    assert changed
    source = DwarfSource(data)
    answers = [source.at(address) for address in instructions(program)]
    assert any(len(answer) > 1 and answer[0].function is None for answer in answers)


def test_the_numbers_are_those_of_pyelftools() -> None:
    """What pyelftools names alike has the same number."""
    tables = [
        (numbers.Tag, enums.ENUM_DW_TAG, "DW_TAG_"), (numbers.At, enums.ENUM_DW_AT, "DW_AT_"),
        (numbers.Form, enums.ENUM_DW_FORM, "DW_FORM_"), (numbers.Encoding, enums.ENUM_DW_ATE, "DW_ATE_"),
        (numbers.RangeList, enums.ENUM_DW_RLE, "DW_RLE_"), (numbers.UnitType, enums.ENUM_DW_UT, "DW_UT_"),
        (numbers.LocationList, enums.ENUM_DW_LLE, "DW_LLE_"), (numbers.LineContent, enums.ENUM_DW_LNCT, "DW_LNCT_"),
    ]  # fmt: skip
    for ours, theirs, prefix in tables:
        named = {name: value for name, value in vars(ours).items() if not name.startswith("_")}
        assert named
        known = {name: theirs[prefix + name] for name in named if prefix + name in theirs}
        assert {name: named[name] for name in known} == known
        assert len(known) >= len(named) - 2
