"""What the running kernel has to attach programs to, by name: the kernel itself is asked.

A program of a few instructions, of the type SYSCALL (Linux 5.14), asks for a type of the kernel's BTF by name
(bpf_btf_find_by_name_kind), which a reader of /sys/kernel/btf/vmlinux would have to go through all of it for.
"""

from __future__ import annotations

import os
import struct
from types import TracebackType
from typing import Final

from forklore.linux.bpf import calls
from forklore.linux.bpf.calls import ProgramType

_NAME: Final = 64
_CONTEXT: Final = struct.Struct(f"={_NAME}sIIq")
_TYPEDEF, _FUNC = 8, 12
_FIND: Final = 167
_NO_ENTRY: Final = -2


def _instruction(code: int, to: int = 0, source: int = 0, offset: int = 0, number: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | to, offset, number)


def _program() -> bytes:
    load, store, load32, move, add, set_, call, leave = 0x79, 0x7B, 0x61, 0xBF, 0x07, 0xB7, 0x85, 0x95
    code = [_instruction(move, 6, 1)]  # the context
    for at in range(0, _NAME, 8):  # its name, to the stack
        code += [_instruction(load, 0, 6, at), _instruction(store, 10, 0, at - _NAME)]
    return b"".join(
        [
            *code,
            _instruction(move, 1, 10), _instruction(add, 1, number=-_NAME), _instruction(set_, 2, number=_NAME),
            _instruction(load32, 3, 6, _NAME), _instruction(set_, 4), _instruction(call, number=_FIND),
            _instruction(store, 6, 0, _NAME + 8), _instruction(set_, 0), _instruction(leave),
        ]
    )  # fmt: skip


class Hooks:
    """Asks for numbers in the kernel's BTF. Use it in a ``with`` block. Raises OSError where nothing can be asked."""

    def __init__(self) -> None:
        self._fd = calls.load_program("find_hook", ProgramType.SYSCALL, _program())

    def tracepoint(self, name: str) -> int | None:
        """The number for a program on a tracepoint; None where the kernel has none of that name."""
        return self._find(f"btf_trace_{name}", _TYPEDEF)

    def function(self, name: str) -> int | None:
        """That of a function."""
        return self._find(name, _FUNC)

    def _find(self, name: str, kind: int) -> int | None:
        raw = name.encode()
        if len(raw) >= _NAME:
            return None
        context = calls.run(self._fd, _CONTEXT.pack(raw, kind, 0, 0), f"a look for {name} in the kernel's BTF")
        found: int = _CONTEXT.unpack(context)[3]
        if found == _NO_ENTRY:
            return None
        if found < 0:
            raise OSError(-found, os.strerror(-found), f"a look for {name} in the kernel's BTF")
        if found >> 32:  # of a module: it comes with a descriptor of that module's BTF
            os.close(found >> 32)
            return None
        return found

    def __enter__(self) -> Hooks:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _where: TracebackType | None
    ) -> None:
        os.close(self._fd)
