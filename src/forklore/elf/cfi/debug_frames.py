"""Call-frame rules in .debug_frame sections that cannot be read in place: compressed, or in a separate debug file.

Go's linker compresses that of its programs, which have no .eh_frame; distributions keep that of musl and of assembly
in debug files.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from forklore.abi.arch import Arch
from forklore.elf.cfi.frame_table import FrameTable
from forklore.elf.dwarf.file import FAILURES, Budget, DebugFile
from forklore.elf.image.image import ElfImage

_MOST_UNPACKED: Final = 32 << 20
_SECONDS: Final = 0.25
_LONGEST_FUNCTION: Final = 1 << 16
_WORD: Final = struct.Struct("<I")

_X86_64_SWITCH: Final = re.compile(
    rb"[\x48\x4c]\x89[\xc4\xcc\xd4\xdc\xf4\xfc]"  # mov %reg, %rsp; not %rbp, which ends a function that has a frame
    rb"|[\x48-\x4b]\x8b[\x20-\x27\x60-\x67\xa0-\xa7]"  # mov memory, %rsp
    rb"|\x48(?:\x83|\x81)\xe4",  # and $constant, %rsp
    re.DOTALL,
)
_I386_SWITCH: Final = re.compile(
    rb"\x89[\xc4\xcc\xd4\xdc\xf4\xfc]|\x8b[\x20-\x27\x60-\x67\xa0-\xa7]|[\x83\x81]\xe4", re.DOTALL
)
_SWITCHES: Final = {Arch.X86_64: _X86_64_SWITCH, Arch.X32: _X86_64_SWITCH, Arch.I386: _I386_SWITCH}


def further_rules(image: ElfImage, debug: Callable[[], ElfImage | None], arch: Arch) -> FrameTable | None:
    """The rules in the .debug_frame of an image where that is compressed, else of its debug file. None without any.

    ``debug`` gives that file.

    Takes up to a quarter of a second of the processor's time, and 32 MiB.
    """
    for place in (image, debug()):
        section = None if place is None else place.section(".debug_frame")
        if place is None or section is None or not section.size or (place is image and not section.compressed):
            continue
        budget = Budget(_SECONDS)
        try:
            with budget.running():
                content = DebugFile(place, budget, _MOST_UNPACKED).section("debug_frame")
        except FAILURES:
            continue
        return FrameTable(
            content, bits=place.bits, arch=arch, eh_frame_hdr=None, eh_frame=None,
            debug_frame=(0, 0, len(content)), holds=partial(keeps_its_stack, image, arch),
        )  # fmt: skip
    return None


def keeps_its_stack(image: ElfImage, arch: Arch, start: int, end: int) -> bool:
    """Whether the code from ``start`` up to ``end``, addresses of the file, stays on the stack that it was called on.

    Go's assembler counts what a function pushes, and writes down rules that are wrong from where it takes another
    stack on (runtime/asm_amd64.s: systemstack, mcall, asmcgocall, morestack).
    """
    offset = image.offset_of(start)
    if offset is None:
        return False
    code = image.read(offset, min(end - start, _LONGEST_FUNCTION))
    if not image.whole:
        return False
    if arch is Arch.AARCH64:
        return not _moves_sp(code)
    switch = _SWITCHES.get(arch)
    # What looks like such an instruction inside of another one costs the rule, and no more.
    return switch is None or switch.search(code) is None


def _moves_sp(code: bytes) -> bool:
    """Whether aarch64 code sets sp from a register that is not the frame pointer: mov sp, xN."""
    return any(
        word & 0xFFFFFC1F == 0x9100001F and word >> 5 & 31 not in (29, 31)
        for (word,) in _WORD.iter_unpack(code[: len(code) & ~3])
    )
