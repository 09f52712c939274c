"""Makes raw system calls and reports what the kernel answers; the other half of test_rules_kernel.py.

Reads one JSON document from stdin, ``{"uid": N or null, "calls": [{"nr", "args", "struct", "set_tid"}]}``,
where an argument may be ``"buffer"`` (the address of writable memory) or ``"struct"``. Writes the list of
errors, 0 for success. Each call is made in a forked child, because a successful one changes its caller.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import signal
import struct
import sys
from collections.abc import Callable
from typing import Any

Stub = Callable[..., int]

WALL = 0x40000000

# long stub(nr, a1 .. a5): make the call; where it returns 0 in rax and CHILD_EXITS, exit at once, with no
# use of the stack: a child may run on its parent's.
ENTER = bytes.fromhex("4889f8 4889f7 4889d6 4889ca 4d89c2 4d89c8 4d31c9 0f05".replace(" ", ""))
CHILD_EXITS = bytes.fromhex("4885c0 7509 b83c000000 31ff 0f05".replace(" ", ""))
RET = b"\xc3"


def assemble(code: bytes) -> Stub:
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    KEPT.append(memory)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_ulong] * 6)(address)


KEPT: list[object] = []


def word(value: int | str | None, buffer: int, area: int) -> int:
    return {"buffer": buffer, "struct": area}.get(value, 0) if isinstance(value, str) else value or 0


def attempt(call: dict[str, Any], creates: Stub, plain: Stub) -> int:
    target = ctypes.create_string_buffer(64)
    buffer = ctypes.addressof(target)
    tids = struct.pack(f"<{len(call['set_tid'])}i", *call["set_tid"])
    tid_area = ctypes.create_string_buffer(tids, len(tids) or 1)
    words = {"buffer": buffer, "buffer2": buffer + 8, "set_tid": ctypes.addressof(tid_area)}
    data = b"".join(struct.pack("<Q", words[w] if isinstance(w, str) else w) for w in call["struct"])
    area = ctypes.create_string_buffer(data + bytes(8192), len(data) + 8192)
    args = [word(a, buffer, ctypes.addressof(area)) for a in call["args"]]
    stub = creates if call["creates"] else plain
    result = stub(call["nr"], *(args + [0] * (5 - len(args))))
    return -result if result < 0 else 0


def main() -> None:
    asked = json.load(sys.stdin)
    creates, plain = assemble(ENTER + CHILD_EXITS + RET), assemble(ENTER + RET)
    if asked["uid"] is not None:
        os.setgroups([])
        os.setresgid(asked["uid"], asked["uid"], asked["uid"])
        os.setresuid(asked["uid"], asked["uid"], asked["uid"])
    signal.alarm(120)
    read, write = os.pipe()
    answers = []
    for call in asked["calls"]:
        if os.fork() == 0:
            os.write(write, struct.pack("<q", attempt(call, creates, plain)))
            os._exit(0)
        answers.append(struct.unpack("<q", os.read(read, 8))[0])
        try:
            while True:
                os.waitpid(-1, WALL)
        except ChildProcessError:
            pass
    json.dump(answers, sys.stdout)


main()
