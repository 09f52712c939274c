"""The sockets of this network namespace, asked by sock_diag(7): who is connected with whom.

/proc tells the inode of a socket and no peer. Both dumps are read whole: a peer has to be found by its address.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from forklore.abi.units import Unavailable

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
_UNIX_REQUEST: Final = struct.Struct("=BBHIIIII")
_UNIX_MESSAGE: Final = struct.Struct("=BBBBIII")
_INET_REQUEST: Final = struct.Struct("=BBBBI48s")
_INET_MESSAGE: Final = struct.Struct("=BBBB2s2s16s16sIIIIIIII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_INODE: Final = struct.Struct("=I")
_SHOW: Final = 0x1 | 0x2 | 0x4 | 0x8 | 0x10  # UDIAG_SHOW_NAME, VFS, PEER, ICONS, RQLEN
_NAME, _PEER, _ICONS, _QUEUES = 0, 2, 3, 4
_PATIENCE: Final = 2.0
LISTEN: Final = 10
"""TCP_LISTEN, and what sock_diag has for a listening Unix socket."""
ESTABLISHED: Final = 1
CLOSE_WAIT: Final = 8


class UnixSocket(Struct, frozen=True):
    """A Unix socket."""

    inode: int
    peer: int | None
    """The inode of the socket that it is connected with; 0: of one that nobody has accepted or that is gone."""
    state: int
    type: int
    name: bytes
    """The path, or ``@`` and what follows for an abstract name; empty: none."""
    waiting: int
    """Bytes that lie there to be read; of a listening one, connections that nobody has accepted yet."""
    unaccepted: tuple[int, ...] = ()
    """Of a listening one: the inodes of the sockets that have connected and were not accepted yet."""


class InetSocket(Struct, frozen=True):
    """A TCP or UDP socket; addresses as text and port."""

    inode: int
    family: int
    state: int
    local: tuple[str, int]
    remote: tuple[str, int]
    waiting: int
    unsent: int

    @property
    def listening(self) -> bool:
        """Whether it takes connections."""
        return self.state == LISTEN


def unix_sockets() -> dict[int, UnixSocket] | Unavailable:
    """All Unix sockets of this network namespace, by inode."""
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW, 0xFFFFFFFF, 0xFFFFFFFF)
    try:
        found = [_unix(message) for message in _dump(request)]
    except OSError as problem:
        return _refused(problem, "unix_diag")
    return {each.inode: each for each in found}


def inet_sockets(protocol: int = socket.IPPROTO_TCP) -> list[InetSocket] | Unavailable:
    """All TCP (or UDP) sockets of this network namespace."""
    found = []
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _INET_REQUEST.pack(family, protocol, 0, 0, 0xFFFFFFFF, b"\0" * 48)
            found += [_inet(message) for message in _dump(request)]
    except OSError as problem:
        return _refused(problem, "tcp_diag" if protocol == socket.IPPROTO_TCP else "udp_diag")
    return found


def socket_address(raw: bytes) -> bytes | tuple[str, int] | None:
    """A struct sockaddr: the name of a Unix socket as :class:`UnixSocket` has it, address and port of an internet one.

    None for other families and for what is cut off.
    """
    family = int.from_bytes(raw[:2], "little")
    if family == socket.AF_UNIX and len(raw) > 2:
        path = raw[2:]
        return b"@" + path[1:] if path.startswith(b"\0") else path.partition(b"\0")[0]
    if family == socket.AF_INET and len(raw) >= 8:
        return _address(family, raw[4:8]), int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET6 and len(raw) >= 24:
        return _address(family, raw[8:24]), int.from_bytes(raw[2:4], "big")
    return None


def _refused(problem: OSError, module: str) -> Unavailable:
    number = problem.errno or 0
    if number == errno.ENOENT:
        return Unavailable(number, f"this kernel has no {module} (modprobe {module}), which tells a socket's peer")
    return Unavailable(number, f"sock_diag(7) ({module}): {os.strerror(number)}")


def _dump(request: bytes) -> Iterator[bytes]:
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as link:
        link.settimeout(_PATIENCE)
        link.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, flags, 1, 0) + request)
        while True:
            data = link.recv(1 << 16)
            if not data:
                return
            for kind, message in messages(data):
                if kind == _NLMSG_DONE:
                    return
                if kind == _NLMSG_ERROR:
                    (number,) = struct.unpack_from("=i", message)
                    raise OSError(-number, os.strerror(-number))
                yield message


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of each netlink message."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, *_ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + size]
        at += (size + 3) & ~3


def _attributes(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind] = data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found


def _unix(message: bytes) -> UnixSocket:
    _family, type_, state, _pad, inode, *_cookie = _UNIX_MESSAGE.unpack_from(message)
    more = _attributes(message[_UNIX_MESSAGE.size :])
    name = more.get(_NAME, b"")
    peer = more.get(_PEER)
    return UnixSocket(
        inode=inode,
        peer=None if peer is None else int.from_bytes(peer, "little"),
        state=state,
        type=type_,
        name=b"@" + name[1:] if name.startswith(b"\0") else name.rstrip(b"\0"),
        waiting=int.from_bytes(more.get(_QUEUES, b"")[:4], "little"),
        unaccepted=tuple(each for (each,) in _INODE.iter_unpack(_whole(more.get(_ICONS, b"")))),
    )


def _whole(raw: bytes) -> bytes:
    return raw[: len(raw) - len(raw) % _INODE.size]


def _inet(message: bytes) -> InetSocket:
    family, state, _timer, _retrans, sport, dport, source, target, *rest = _INET_MESSAGE.unpack_from(message)
    size = 4 if family == socket.AF_INET else 16
    _interface, _c, _d, _expires, unread, unsent, _uid, inode = rest
    return InetSocket(
        inode=inode,
        family=family,
        state=state,
        local=(_address(family, source[:size]), int.from_bytes(sport, "big")),
        remote=(_address(family, target[:size]), int.from_bytes(dport, "big")),
        waiting=unread,
        unsent=unsent,
    )


def _address(family: int, raw: bytes) -> str:
    text = socket.inet_ntop(family, raw)
    return text.removeprefix("::ffff:") if text.startswith("::ffff:") and "." in text else text
