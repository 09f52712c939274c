"""What /proc and sock_diag say of waits, taken apart."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from forklore.decode.waits.futex import futex_list_size, futexes_waited_for
from forklore.features.why.observe.files import Polled, polled
from forklore.linux.waits.file_locks import FileLock, parse_lock, parse_locks
from forklore.linux.waits.prototypes import written
from forklore.linux.waits.sock_diag import messages, socket_address
from forklore.linux.waits.tables import parse_info


def test_a_lock_and_who_waits_for_it() -> None:
    held, waits = parse_locks(
        b"1: FLOCK  ADVISORY  WRITE 12025 fe:00:2146387 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 12026 fe:00:2146387 0 EOF\n"
    )
    assert (held.number, held.waits, held.kind, held.pid, held.file, held.end) == (
        1, False, "FLOCK", 12025, (0xFE, 0, 2146387), None)  # fmt: skip
    assert (waits.number, waits.waits, waits.pid) == (1, True, 12026)


WRITE, OTHER = b"FLOCK  ADVISORY  WRITE 12025 fe:00:7 0 EOF\n", b"FLOCK  ADVISORY  READ 99 fe:00:8 0 EOF\n"
WAITS = b"FLOCK  ADVISORY  WRITE 12026 fe:00:7 0 EOF\n"


def test_a_lock_that_is_read_twice_is_one() -> None:
    # Another was taken before the second page of /proc/locks was read: what came last in the first comes again.
    page, again = b"1: " + WRITE + b"1: -> " + WAITS, b"2: " + WRITE + b"2: -> " + WAITS
    assert parse_locks(page + again) == parse_locks(page)


def test_a_lock_that_one_read_lacks_is_in_the_next() -> None:
    held, waits = b"1: " + WRITE, b"1: -> " + WAITS
    found = parse_locks(b"1: " + OTHER, b"2: " + OTHER + held + waits, held + waits)
    assert [(each.pid, each.waits) for each in found] == [(99, False), (12025, False), (12026, True)]
    assert found[1].number == found[2].number != found[0].number


def test_a_lock_of_a_description_has_no_pid() -> None:
    found = parse_lock(b"2: OFDLCK ADVISORY  READ -1 00:1a:77 128 255")
    assert isinstance(found, FileLock)
    assert (found.pid, found.start, found.end) == (None, 128, 255)


def test_a_lease_that_is_being_broken() -> None:
    found = parse_lock(b"3: LEASE  BREAKING  READ 4711 fe:00:99 0 EOF")
    assert found is not None
    assert found.breaking


def test_fdinfo_has_several_lines_of_one_name() -> None:
    found = parse_info(b"pos:\t0\nflags:\t02000002\ntfd:        5 events:       19 data: 5\ntfd:        6 events:  1\n")
    assert (found.flags, found.cloexec) == (0o2000002, True)
    assert [line.split()[0] for line in found.all(b"tfd")] == [b"5", b"6"]
    assert found.number(b"nothing") is None


@given(st.binary(max_size=300))
def test_no_text_breaks_them(raw: bytes) -> None:
    parse_locks(raw)
    parse_info(raw)
    list(messages(raw))
    socket_address(raw)
    polled(parse_info(raw))
    futexes_waited_for(raw[: len(raw) // 24 * 24])


def test_messages_of_netlink_are_aligned() -> None:
    one = struct.pack("=IHHII", 19, 20, 0, 1, 0) + b"abc" + b"\0"
    assert list(messages(one + one)) == [(20, b"abc"), (20, b"abc")]


def test_calls_are_written_by_their_prototypes() -> None:
    assert written("read", (5, 0x7FFF12340000, 4096, 0, 0, 0)) == "read(5, 0x7fff12340000, 4096)"
    assert written("wait4", (0xFFFF_FFFF_FFFF_FFFF, 0, 0, 0, 0, 0)) == "wait4(-1, NULL, 0, NULL)"
    assert written("no_such_call", (1, 2)) == "no_such_call(0x1, 0x2)"


def test_addresses_of_sockets_are_as_sock_diag_has_them() -> None:
    assert socket_address(b"\1\0/run/a\0rest") == b"/run/a"
    assert socket_address(b"\1\0\0name") == b"@name"
    assert socket_address(b"\2\0\x1f\x90\x7f\0\0\1" + bytes(8)) == ("127.0.0.1", 8080)
    mapped = b"\n\0\x1f\x90" + bytes(4) + bytes(10) + b"\xff\xff\x7f\0\0\1" + bytes(4)
    assert socket_address(mapped) == ("127.0.0.1", 8080)
    assert socket_address(b"\n\0\x1f\x90") is None
    assert socket_address(b"\x10\0" + bytes(10)) is None


def test_what_an_epoll_watches_with_the_same_number_twice() -> None:
    found = polled(parse_info(b"tfd:        5 events:       19 data: 5\ntfd:        5 events:        4 data: 5\n"))
    assert found == [Polled(5, write=False), Polled(5, write=True, again=1)]


def test_words_of_futex_waitv() -> None:
    raw = struct.pack("<QQII", 0, 0x1000, 130, 0) + struct.pack("<QQII", 1, 0x2000, 130, 0)
    assert futexes_waited_for(raw) == [0x1000, 0x2000]
    assert futex_list_size(2) == len(raw)
    assert futex_list_size(1 << 31) == 128 * 24
