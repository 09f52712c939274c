"""A line of strace, ltrace or QEMU_STRACE that somebody pastes: the call in it, and how it returned."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.decode.calls import Call, decode_call
from forklore.decode.creation import Creation
from forklore.events.records import Fail
from forklore.model.creations import decoded
from forklore.sources.logs import qemu
from forklore.sources.logs.assembly.assembler import PENDING
from forklore.sources.logs.assembly.dialect import CHANGING, CREATING
from forklore.sources.logs.ltrace import calls as ltrace
from forklore.sources.logs.printed.calls import arguments
from forklore.sources.logs.strace import calls as strace
from forklore.sources.logs.strace.reader import LINE

PASTED: Final = "pasted"
"""The title of a call that was read from a line."""

_PRINTED: Final = re.compile(
    rb"\(\w+=|\(\{|\((?:NULL|0x[0-9a-f]+), |\) *= |<unfinished|,child_stack=0x|^\[pid|^SYS_|@SYS\(|\(\)\Z"
)
"""What tells a printed call from flags that are asked about by a call's name."""
_QEMU: Final = re.compile(rb",child_stack=0x|\) = -1 errno=\d")
_LTRACE: Final = re.compile(rb"\b(?:SYS_(\w+)|(\w+)@SYS)(?=\()")


class Pasted(Struct, frozen=True):
    """``call`` as printed. ``errno``: it failed with that; ``value``: what it returned otherwise, None if not known.

    ``target``: setns, what the descriptor was, where the line says so (strace -y).
    """

    call: Creation | Call
    errno: int | None
    value: int | None
    target: str | None
    injected: bool = False
    """strace had it return that: the kernel did not run it."""


def read_line(text: str, arch: Arch) -> Pasted | None:
    """What a line says; None if it is no printed call that makes a task or changes what one shares."""
    given = text.strip().encode(errors="surrogateescape")
    line = _LTRACE.sub(lambda found: ltrace.call_name(found[1] or found[2]), given)
    match = LINE.match(line)
    if match is None or match["call"] is None or not _PRINTED.search(given):
        return None
    name = match["call"]
    if name not in CREATING | CHANGING:
        return None
    printed = qemu if _QEMU.search(given) else ltrace if line != given else strace
    dialect = printed.DIALECT
    body = PENDING.sub(b"", line).rstrip()
    args, end = arguments(body, match.end())
    answer = None if end is None else dialect.returned(body, end)
    value, failed = (None, None) if answer is None else (answer.value, answer.errno)
    injected = answer is not None and answer.injected
    if name in CREATING:
        fields, _flags = dialect.creation(arch, name, args)
        return Pasted(decoded(Fail(t=None, task=0, errno=failed or 0, **fields)), failed, value, None, injected)
    fields = dialect.change(arch, name, args)
    made = decode_call(arch, fields["nr"], fields.get("args", ()))
    return Pasted(made, failed, value, fields.get("target"), injected)
