"""Waits on sockets: with whom one is connected, who listens where nobody was accepted yet."""

from __future__ import annotations

from typing import Final

from forklore.abi.text import printable
from forklore.abi.units import Unavailable
from forklore.features.why.graph import Ender, Role, WaitKind
from forklore.features.why.observe.awaited import Awaited, Holders
from forklore.features.why.observe.machine import Machine
from forklore.linux.waits.look import Look
from forklore.linux.waits.sock_diag import ESTABLISHED, LISTEN, InetSocket, UnixSocket, socket_address

_RCVTIMEO = "a receive timeout of the socket (SO_RCVTIMEO) cannot be seen from outside"
_SNDTIMEO = "a timeout of the socket (SO_SNDTIMEO) cannot be seen from outside"
_ANY: Final = ("0.0.0.0", "::")


class Sockets:
    """Finds out who is at the other end of sockets."""

    def __init__(self, machine: Machine, holders: Holders) -> None:
        self._machine = machine
        self._holders = holders

    def awaited(self, task: Look, inode: int, *, write: bool) -> Awaited:
        """What a task waits for that reads from (or writes to) a socket."""
        kind = WaitKind.WRITE if write else WaitKind.READ
        name = f"socket:[{inode}]"
        unix = self._machine.unix
        if not isinstance(unix, Unavailable) and inode in unix:
            return self._unix(task, unix[inode], kind, name, unix)
        tcp = self._machine.tcp_by_inode.get(inode)
        if tcp is not None:
            return self._tcp(task, tcp, kind, name)
        udp = self._machine.udp_by_inode.get(inode)
        if udp is not None and not write:
            return _udp(udp, name)
        return Awaited(f"{'room in' if write else 'data on'} {name}", kind, beyond=self._unknown(task), object=name)

    def _unknown(self, task: Look) -> str:
        if not self._machine.ours(task.tid, "net"):
            return "it is of another network namespace, whose sockets are not asked for"
        unix = self._machine.unix
        return unix.why if isinstance(unix, Unavailable) else "whoever sends to it"

    # Unix sockets

    def _unix(
        self, task: Look, found: UnixSocket, kind: WaitKind, name: str, sockets: dict[int, UnixSocket]
    ) -> Awaited:
        if found.state == LISTEN:
            where = f" {printable(found.name)}" if found.name else ""
            what = f"connections on the Unix socket{where}"
            return Awaited(what, WaitKind.CONNECTION, beyond="any client", object=name, idle=True)
        way = "room in" if kind is WaitKind.WRITE else "data on"
        if not found.peer:
            return self._no_peer(task, found, kind, name, way, sockets)
        peer = f"socket:[{found.peer}]".encode()
        enders = self._holders.told(task, self._machine.tables.holders(peer), Role.PEER)
        mine = self._holders.told(task, self._machine.tables.holders(name.encode()), Role.PEER)
        peers = {each.pid for each in enders}
        other = sockets.get(found.peer)
        named = other.name or found.name if other is not None else found.name
        where = f" {printable(named)}" if named else ""
        what = f"{way} the Unix socket{where} ({name}), whose peer is socket:[{found.peer}]"
        absent = "" if enders else "its peer is in no table that may be read, or on its way in a message"
        # Who has this end, too, could shut it down.
        both = (*enders, *(each for each in mine if each.pid not in peers and each.pid != task.pid))
        return Awaited(what, kind, both, beyond=absent or _RCVTIMEO, object=name)

    def _no_peer(
        self, task: Look, found: UnixSocket, kind: WaitKind, name: str, way: str, sockets: dict[int, UnixSocket]
    ) -> Awaited:
        listening = next((each for each in sockets.values() if found.inode in each.unaccepted), None)
        if listening is None:
            where = f" {printable(found.name)}" if found.name else ""
            return Awaited(f"{way} the Unix socket{where} ({name})", kind, beyond="whoever sends to it", object=name)
        what = f"{way} its connection ({name}) to the Unix socket {printable(listening.name)}, not accepted yet"
        return Awaited(what, kind, self._listeners(task, listening.inode), beyond=_RCVTIMEO, object=name)

    def _listeners(self, task: Look, *inodes: int) -> tuple[Ender, ...]:
        tables = self._machine.tables
        held = [each for inode in inodes for each in tables.holders(b"socket:[%d]" % inode)]
        return self._holders.told(task, held, Role.LISTENER)

    # Internet

    def _tcp(self, task: Look, found: InetSocket, kind: WaitKind, name: str) -> Awaited:
        local, remote = _written(found.local), _written(found.remote)
        if found.state == LISTEN:
            what = f"connections on TCP {local}"
            return Awaited(what, WaitKind.CONNECTION, beyond="any client", object=name, idle=True)
        way = "room in the connection" if kind is WaitKind.WRITE else "data on the connection"
        what = f"{way} TCP {local} ↔ {remote}"
        peers = [
            each for each in self._machine.tcp_by_ends.get((found.remote, found.local), []) if each.inode != found.inode
        ]  # fmt: skip
        holders = [held for each in peers if each.inode for held in (
            self._machine.tables.holders(b"socket:[%d]" % each.inode))]  # fmt: skip
        enders = self._holders.told(task, holders, Role.PEER)
        if enders:
            return Awaited(what, kind, enders, beyond=_RCVTIMEO, object=name)
        if peers:
            # A connection without an inode is nobody's: it waits to be accepted, or its owner has let go of it.
            listeners = self._listeners(task, *self._listening(found.remote)) if found.state == ESTABLISHED else ()
            if listeners:
                what += ", not accepted yet"
                return Awaited(what, kind, listeners, beyond=_RCVTIMEO, object=name)
        beyond = f"its peer is {remote}, on another machine or in another network namespace"
        return Awaited(what, kind, beyond=beyond, object=name)

    def _listening(self, address: tuple[str, int]) -> list[int]:
        """The inodes of the sockets that take connections for an address."""
        found = [each for each in self._machine.tcp_by_inode.values() if each.listening and each.local[1] == address[1]]
        exact = [each.inode for each in found if each.local[0] == address[0]]
        return exact or [each.inode for each in found if each.local[0] in _ANY]

    def connect(self, task: Look, inode: int, raw: bytes | None) -> Awaited:
        """What a task waits for that connects: whoever listens there and accepts nobody."""
        name = f"socket:[{inode}]"
        address = None if raw is None else socket_address(raw)
        if address is None:
            return Awaited(f"an answer on {name}", WaitKind.CONNECT, beyond="whoever is connected to", object=name)
        if not self._machine.ours(task.tid, "net"):
            written = printable(address) if isinstance(address, bytes) else _written(address)
            return Awaited(f"an answer of {written}", WaitKind.CONNECT, beyond=self._unknown(task), object=name)
        if isinstance(address, bytes):
            sockets = self._machine.unix
            listening = [] if isinstance(sockets, Unavailable) else [
                each.inode for each in sockets.values() if each.state == LISTEN and each.name == address
            ]  # fmt: skip
            what = f"the Unix socket {printable(address)} to take its connection"
        else:
            listening = self._listening(address)
            what = f"TCP {_written(address)} to take its connection"
        enders = self._listeners(task, *listening)
        beyond = _SNDTIMEO if enders else "whoever listens there, which is not seen from here"
        return Awaited(what, WaitKind.CONNECT, enders, beyond=beyond, object=name)


def _udp(found: InetSocket, name: str) -> Awaited:
    if found.remote[1]:
        what = f"data on UDP {_written(found.local)} ↔ {_written(found.remote)}"
        return Awaited(what, WaitKind.READ, beyond=f"{_written(found.remote)}", object=name)
    what = f"datagrams on UDP {_written(found.local)}"
    return Awaited(what, WaitKind.CONNECTION, beyond="any client", object=name, idle=True)


def _written(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
