"""/proc/PID/maps and smaps: what the kernel writes, and what strangers might."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.units import Address, Tid, Unavailable
from forklore.linux.mappings import Mapping, MappingKind, mappings, parse, parse_smaps, smaps

MAPS = b"""\
55d0c8a00000-55d0c8a02000 r--p 00000000 fe:00 26723                      /usr/bin/with a space
55d0c8a02000-55d0c8a03000 rw-p 00002000 fe:00 26723                      /usr/bin/with a space
55d0c8a03000-55d0c8a05000 rw-p 00000000 00:00 0 
55d0c9000000-55d0c9021000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000001000 rw-s 00000000 00:01 1024                       /memfd:name (deleted)
7f0000001000-7f0000002000 r-xp 00001000 103:2f 99                        /tmp/two\\012lines (deleted)
7f0000002000-7f0000003000 rw-p 00000000 00:00 0                          [anon: arena]
7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                          [stack]
7ffe00100000-7ffe00102000 r-xp 00000000 00:00 0                          [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
"""  # noqa: W291 - the kernel ends the line of a mapping without a name with a blank


def test_what_the_kernel_writes() -> None:
    found = parse(MAPS)
    assert [(entry.kind, entry.path) for entry in found] == [
        (MappingKind.FILE, b"/usr/bin/with a space"),
        (MappingKind.FILE, b"/usr/bin/with a space"),
        (MappingKind.ANONYMOUS, b""),
        (MappingKind.HEAP, b"[heap]"),
        (MappingKind.FILE, b"/memfd:name (deleted)"),
        (MappingKind.FILE, b"/tmp/two\nlines (deleted)"),
        (MappingKind.ANONYMOUS, b"[anon: arena]"),
        (MappingKind.STACK, b"[stack]"),
        (MappingKind.SPECIAL, b"[vdso]"),
        (MappingKind.SPECIAL, b"[vsyscall]"),
    ]
    entry = found.entries[5]
    assert (entry.permissions, entry.offset, entry.major, entry.minor, entry.inode) == ("r-xp", 0x1000, 0x103, 0x2F, 99)
    assert entry.private
    assert not entry.writable
    assert not found.entries[4].private


def test_a_mapping_by_an_address_in_it() -> None:
    found = parse(MAPS)
    assert found.find(0x55D0C89FFFFF) is None
    assert found.find(0x55D0C8A00000) is found.entries[0]
    assert found.find(0x55D0C8A01FFF) is found.entries[0]
    assert found.find(0x55D0C8A02000) is found.entries[1]
    assert found.find(0x55D0C8A05000) is None
    assert found.find(0xFFFFFFFFFF600000) is found.entries[-1]
    assert found.find(0xFFFFFFFFFFFFFFFF) is None


def test_bss_is_what_continues_a_files_data() -> None:
    found = parse(MAPS)
    assert found.file_of_bss(found.entries[2]) is found.entries[1]
    assert found.file_of_bss(found.entries[3]) is None  # named
    assert found.file_of_bss(found.entries[6]) is None


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"00-10 rw-p 0 0:0 0\nrubbish\n", "line 2: expected 'START-END"),
        (b"00-10 rw-x 0 0:0 0\n", "line 1"),
        (b"00-10 rw-p 0 0:0\n", "line 1"),
    ],
)
def test_a_line_that_is_no_mapping_is_named(raw: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse(raw)


NUMBERS = st.integers(0, 2**64 - 1)
FILES = st.binary(max_size=40).filter(lambda path: b"\\012" not in path).map(lambda path: b"/" + path)
PATHS = FILES | st.sampled_from([b"", b"[stack]", b"[heap]", b"[anon:x y]"])


@given(
    st.lists(
        st.builds(
            Mapping,
            start=NUMBERS, end=NUMBERS, offset=NUMBERS,
            permissions=st.tuples(*map(st.sampled_from, ("r-", "w-", "x-", "sp"))).map("".join),
            major=st.integers(0, 4095), minor=st.integers(0, 2**20), inode=NUMBERS, path=PATHS,
        ),
        max_size=5,
    )
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_any_mapping_comes_back(entries: list[Mapping]) -> None:
    lines = [
        f"{m.start:08x}-{m.end:08x} {m.permissions} {m.offset:08x} {m.major:02x}:{m.minor:02x} {m.inode} ".encode()
        + (b" " * 20 + m.path.replace(b"\n", rb"\012") if m.path else b"")
        + b"\n"
        for m in entries
    ]
    assert list(parse(b"".join(lines))) == entries


@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: MAPS + tail))
@settings(max_examples=100, deadline=None)
def test_anything_else_is_refused_by_line(raw: bytes) -> None:
    for read in (parse, parse_smaps):
        assert complaint(read, raw) in ("", "line ")


def complaint(read: Callable[[bytes], object], raw: bytes) -> str:
    try:
        read(raw)
    except ValueError as problem:
        return str(problem)[:5]
    return ""


SMAPS = b"""\
00400000-0040b000 r-xp 00000000 fe:00 79                                 /bin/Name: 5 kB
Size:                 44 kB
Rss:                  20 kB
Private_Dirty:         8 kB
THPeligible:    0
ProtectionKey:         0
VmFlags: rd ex mr dc 
7f00-7f01 rw-p 00000000 00:00 0 
Size:                  4 kB
"""  # noqa: W291


def test_smaps_fields_belong_to_the_mapping_before_them() -> None:
    (first, usage), (second, more) = parse_smaps(SMAPS)
    assert first.path == b"/bin/Name: 5 kB"
    assert usage.fields == {"Size": 44 << 10, "Rss": 20 << 10, "Private_Dirty": 8 << 10}
    assert usage.flags == {"rd", "ex", "mr", "dc"}
    assert (second.start, more.fields, more.flags) == (0x7F00, {"Size": 4096}, frozenset())


@pytest.mark.parametrize("raw", [b"Size: 4 kB\n", SMAPS + b"Size: many kB\n", SMAPS + b"Size\n"])
def test_smaps_that_make_no_sense(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"^line \d+: "):
        parse_smaps(raw)


def test_this_process_has_what_proc_says() -> None:
    own = Tid(os.getpid())
    found = mappings(own)
    assert not isinstance(found, Unavailable)
    kinds = {entry.kind for entry in found}
    assert {MappingKind.FILE, MappingKind.STACK, MappingKind.ANONYMOUS, MappingKind.SPECIAL} <= kinds
    code = found.find(id(parse))
    assert code is not None
    assert code.writable
    usages = smaps(own)
    assert not isinstance(usages, Unavailable)
    assert {mapping.start for mapping, _usage in usages} >= {entry.start for entry in found if entry.path == b"[heap]"}
    assert sum(usage.fields["Anonymous"] for _mapping, usage in usages) > 0


def test_a_process_that_is_gone() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    for read in (mappings, smaps):
        answer = read(Tid(pid))
        assert isinstance(answer, Unavailable)
        assert str(pid) in answer.why


def test_a_zombie_has_no_mappings() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    found = mappings(Tid(pid))
    os.waitpid(pid, 0)
    assert not isinstance(found, Unavailable)
    assert len(found) == 0
    assert found.find(Address(0)) is None
