"""How code without call-frame rules gets back to its caller, found by following it to its return instruction.

C libraries write clone, clone3 and vfork in assembler, and their rules stop at the system call, because after it the
same code runs on two stacks. musl is built without rules altogether. Between the system call and ``ret`` the code
itself says where the return address is: each push, pop and change of the stack pointer on the way is followed, as a
parent for whom the call succeeds.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from forklore.abi.arch import X86, Arch
from forklore.elf.cfi import x86_code
from forklore.elf.cfi.call_instructions import Fetch, branch_distance, linked
from forklore.elf.cfi.rules import FrameRule, Location, ValueAt
from forklore.elf.dwarf.registers import NUMBERS

_MOST_INSTRUCTIONS: Final = 600
_MOST_BRANCHES: Final = 24
_MOST_TO_A_CALL: Final = 3000
_FARTHEST_ENTRY: Final = 1 << 16
_CHUNK: Final = 64
_SP, _FP = 4, 5
_X86_64_NUMBERS: Final = (0, 2, 1, 3, 7, 6, 4, 5, *range(8, 16))
"""DWARF numbers by the numbers in instructions; i386 uses the same for both."""


class Way(Struct, frozen=True):
    """The way back from one address."""

    rule: FrameRule
    crossed: bool
    """Calls were passed over, which may not come back."""
    depth: int | None
    """Bytes from the stack pointer to the return address; None where it is not found that way, or has been compared."""
    agrees: bool | None = None
    """Whether the way from the code's entry has put as much there; None: not known."""


def way_back(arch: Arch, fetch: Fetch, pc: int, *, child: bool = False) -> Way | None:
    """How the code at ``pc`` returns; None where it cannot be followed.

    ``child`` follows it as the new task, for whom the system call returns 0.
    """
    if arch in X86:
        return _Path(arch, fetch, child=child).follow(pc)
    if arch is Arch.AARCH64:
        return _leaf(fetch, pc, child=child)
    return None


def depth_at(arch: Arch, fetch: Fetch, entry: int, pc: int) -> int | None:
    """Bytes that x86 code which was called at ``entry`` has on the stack at ``pc``; None where no way leads there.

    An ``entry`` in a procedure linkage table is followed to where it jumps.
    """
    path = _Path(arch, fetch, child=False)
    start = linked(arch, fetch, entry)
    return path.descend(start, pc) if 0 <= pc - start < _FARTHEST_ENTRY else None


class _Spot:
    """A point on the way: where the stack pointer stands, as an offset to what it was, or to the frame pointer."""

    __slots__ = ("at", "base", "compared", "crossed", "frame_pointer", "fresh", "offset", "pushed", "saved")

    def __init__(self, at: int) -> None:
        self.at = at
        self.base = _SP
        self.offset = 0
        self.saved: dict[int, tuple[int, int]] = {}
        self.pushed: dict[int, int] = {}
        self.fresh = True
        """The result of the system call is still in its register."""
        self.compared = False
        self.frame_pointer = True
        self.crossed = False

    def branch(self, at: int) -> _Spot:
        other = _Spot(at)
        other.base, other.offset, other.saved = self.base, self.offset, dict(self.saved)
        other.pushed, other.fresh, other.compared = dict(self.pushed), self.fresh, self.compared
        other.frame_pointer, other.crossed = self.frame_pointer, self.crossed
        return other


class _Path:
    def __init__(self, arch: Arch, fetch: Fetch, *, child: bool) -> None:
        self._long = arch is not Arch.I386
        self._word = 8 if self._long else 4
        self._mask = (1 << 8 * self._word) - 1
        self._numbers = NUMBERS[arch]
        self._fetch = fetch
        self._child = child
        self._chunk = (0, b"")
        self._first = 0

    def follow(self, pc: int) -> Way | None:
        self._first = pc
        waiting = [_Spot(pc)]
        branches = 0
        left = _MOST_INSTRUCTIONS
        while waiting:
            spot: _Spot | None = waiting.pop()
            while spot is not None:
                left -= 1
                instruction = self._at(spot.at)
                if left < 0 or instruction is None:
                    break
                if instruction.opcode in (0xC3, 0xC2):
                    return self._result(spot)
                if _is_conditional(instruction):
                    spot, other = self._choose(spot, instruction)
                    if other is not None and branches < _MOST_BRANCHES:
                        branches += 1
                        waiting.append(other)
                elif not self._step(spot, instruction):
                    spot = None
        return None

    def descend(self, start: int, pc: int) -> int | None:
        """All ways are tried: at one address compiled code has the same on its stack, whichever way it came."""
        waiting = [_Spot(start)]
        seen: set[int] = set()
        while waiting and len(seen) < _MOST_TO_A_CALL:
            spot = waiting.pop()
            if spot.at == pc:
                return -spot.offset if spot.base == _SP else None
            instruction = self._at(spot.at)
            if spot.at in seen or instruction is None or instruction.opcode in (0xC3, 0xC2):
                continue
            seen.add(spot.at)
            if _is_conditional(instruction):
                spot.at += instruction.length
                waiting.append(spot.branch(spot.at + instruction.immediate & self._mask))
                waiting.append(spot)
            elif self._step(spot, instruction):
                waiting.append(spot)
        return None

    def _at(self, address: int) -> x86_code.Instruction | None:
        start, code = self._chunk
        if not start <= address < start + len(code) - x86_code.LONGEST:
            # At the end of the mapping fewer bytes will do.
            got = self._fetch(address, _CHUNK) or self._fetch(address, x86_code.LONGEST + 1)
            if got is None:
                return None
            start, code = self._chunk = address, got
        return x86_code.decode(code, address - start, long_mode=self._long)

    def _choose(self, spot: _Spot, instruction: x86_code.Instruction) -> tuple[_Spot, _Spot | None]:
        """Which way a conditional jump goes, and the other way where that is not certain."""
        end = spot.at + instruction.length
        target = end + instruction.immediate & self._mask
        condition = instruction.opcode & 0x0F
        if spot.compared and condition in (0x4, 0x5):  # je, jne: the result against 0
            spot.at = target if (condition == 0x4) == self._child else end
            return spot, None
        if spot.compared and condition in (0x2, 0x3, 0x6, 0x7, 0x8, 0xC):  # the call succeeded
            spot.at = end
            return spot, None
        other = spot.branch(target)
        spot.at = end
        return spot, other

    def _step(self, spot: _Spot, instruction: x86_code.Instruction) -> bool:
        """Go over an instruction; False where the way ends."""
        at, opcode = spot.at, instruction.opcode
        spot.at = at + instruction.length
        spot.compared = False
        if 0x50 <= opcode <= 0x57:
            spot.offset -= self._word
            if at == self._first and spot.base == _SP:
                spot.pushed[spot.offset] = instruction.rm
        elif 0x58 <= opcode <= 0x5F:
            return self._pop(spot, instruction.rm)
        elif opcode in (0x68, 0x6A, 0x9C):
            spot.offset -= self._word
        elif opcode == 0x9D:
            spot.offset += self._word
        elif opcode == 0xC9:  # leave
            if not spot.frame_pointer:
                return False
            spot.base, spot.offset = _FP, 0
            return self._pop(spot, _FP)
        elif opcode in (0xE9, 0xEB):
            spot.at = spot.at + instruction.immediate & self._mask
        elif opcode == 0xE8:
            spot.crossed, spot.fresh = True, False
        elif opcode == 0xFF:
            return self._group(spot, instruction)
        elif opcode == 0x8F:
            spot.offset += self._word
        elif opcode in (0xF4, 0xCC, 0x0F0B, 0x60, 0x61, 0xCA, 0xCB, 0xCF):  # hlt, int3, ud2, pusha, far returns
            return False
        elif opcode in (0x81, 0x83) and instruction.mod == 3 and instruction.rm == _SP:
            return self._arithmetic(spot, instruction)
        elif opcode == 0x85 and instruction.mod == 3 and instruction.reg == instruction.rm == 0:  # test eax, eax
            spot.compared = spot.fresh
        elif opcode == 0x3D or (opcode in (0x81, 0x83) and (instruction.reg, instruction.rm) == (7, 0)):
            spot.compared = spot.fresh  # cmp eax, -4095
        else:
            return self._write(spot, instruction)
        return True

    def _pop(self, spot: _Spot, register: int) -> bool:
        if register == _SP:
            return False
        spot.saved[register] = (spot.base, spot.offset)
        spot.offset += self._word
        spot.fresh &= register != 0
        spot.frame_pointer &= register != _FP
        return True

    def _group(self, spot: _Spot, instruction: x86_code.Instruction) -> bool:
        if instruction.reg == 2:
            spot.crossed, spot.fresh = True, False
        elif instruction.reg == 6:
            spot.offset -= self._word
        return instruction.reg in (0, 1, 2, 6)

    @staticmethod
    def _arithmetic(spot: _Spot, instruction: x86_code.Instruction) -> bool:
        if instruction.reg == 0:
            spot.offset += instruction.immediate
        elif instruction.reg == 5:
            spot.offset -= instruction.immediate
        return instruction.reg in (0, 5, 7)

    def _write(self, spot: _Spot, instruction: x86_code.Instruction) -> bool:
        """An instruction that matters only by the register that it writes."""
        opcode = instruction.opcode
        if opcode == 0x8D and instruction.reg == _SP:  # lea
            if instruction.rm == _SP:
                spot.offset += instruction.displacement
            elif instruction.rm == _FP and spot.frame_pointer:
                spot.base, spot.offset = _FP, instruction.displacement
            else:
                return False
            return True
        if opcode in (0x89, 0x8B) and instruction.mod == 3:
            source, target = instruction.reg, instruction.rm
            if opcode == 0x8B:
                source, target = target, source
            if target == _SP:
                if source != _FP or not spot.frame_pointer:
                    return False
                spot.base, spot.offset = _FP, 0
                return True
        written = _written(instruction)
        if written == _SP:
            return False
        spot.frame_pointer &= written != _FP
        spot.fresh &= written != 0
        return True

    def _result(self, spot: _Spot) -> Way | None:
        numbers = self._numbers
        home: Location = (ValueAt.OFFSET, -self._word, b"")
        cfa = spot.offset + self._word
        depth = None
        if spot.base == _SP and spot.offset < 0:
            # Pushed on the way: vfork keeps its return address in a register while parent and child share the stack.
            register = spot.pushed.get(spot.offset)
            if register is None:
                return None
            home = (ValueAt.REGISTER, self._number(register), b"")
        elif spot.base == _SP:
            depth = spot.offset
        saved: dict[int, Location] = {numbers.pc: home}
        for register, (base, offset) in spot.saved.items():
            if base == spot.base and 0 <= offset < spot.offset:
                saved[self._number(register)] = (ValueAt.OFFSET, offset - cfa, b"")
        base = numbers.sp if spot.base == _SP else numbers.fp
        rule = FrameRule(cfa_register=base, cfa_offset=cfa, return_register=numbers.pc, saved=saved)
        return Way(rule, spot.crossed, depth)

    def _number(self, register: int) -> int:
        return _X86_64_NUMBERS[register] if self._long else register


def _is_conditional(instruction: x86_code.Instruction) -> bool:
    return 0x70 <= instruction.opcode <= 0x7F or 0x0F80 <= instruction.opcode <= 0x0F8F


def _written(instruction: x86_code.Instruction) -> int | None:
    """The general register that a common instruction writes."""
    opcode = instruction.opcode
    if 0xB8 <= opcode <= 0xBF:
        return instruction.rm
    if 0x90 <= opcode <= 0x97:  # xchg
        return instruction.rm
    if (opcode < 0x38 and opcode & 7 < 2) or opcode in (0x89, 0x81, 0x83, 0xC1, 0xD1, 0xD3, 0xC7, 0xF7, 0x87):
        return instruction.rm if instruction.mod == 3 else None
    if (opcode < 0x38 and opcode & 7 < 4) or opcode in (0x8B, 0x8D, 0x63, 0x69, 0x6B):
        return instruction.reg
    if (opcode < 0x38 and opcode & 7 == 5) or opcode == 0x0F05:
        return 0
    if 0x0F40 <= opcode <= 0x0F4F or opcode in (0x0FAF, 0x0FB6, 0x0FB7, 0x0FBE, 0x0FBF):
        return instruction.reg
    return None


_RET, _NOP = 0xD65F03C0, 0xD503201F
_B: Final = 0x05
"""The upper six bits of an unconditional branch."""
_PACIASP: Final = b"\x3f\x23\x03\xd5"
_PUSH_RECORD: Final = 0xA9807BFD  # stp x29, x30, [sp, #-…]!


def _leaf(fetch: Fetch, pc: int, *, child: bool) -> Way | None:
    """aarch64: a wrapper that compares and branches between its system call and its return touches no stack.

    It may also end by a jump to another function, whose beginning saves the return address of this one.
    """
    code = fetch(pc, 8 * 4)
    for at in range(0, len(code or b"") - 3, 4):
        assert code is not None
        word = int.from_bytes(code[at : at + 4], "little")
        if word == _RET or (word >> 26 == _B and _begins(fetch, pc + at + branch_distance(word))):
            numbers = NUMBERS[Arch.AARCH64]
            link = numbers.link
            assert link is not None
            return Way(FrameRule(cfa_register=numbers.sp, return_register=link), crossed=False, depth=None)
        compare = word & 0x7F80001F in (0x7100001F, 0x3100001F)  # cmp, cmn with a number
        branch = word & 0xFF000010 == 0x54000000 and not (child and word & 0xF == 0)  # b.eq is for the child
        zero = word & 0x7F00001F == 0x34000000 and not child  # cbz x0
        if not (compare or branch or zero or word == _NOP):
            return None
    return None


def _begins(fetch: Fetch, address: int) -> bool:
    """Whether a function begins there: its return address is signed or not, and pushed with the frame pointer."""
    code = fetch(address, 8) or b""
    if code[:4] == _PACIASP:
        code = code[4:]
    return len(code) >= 4 and int.from_bytes(code[:4], "little") & 0xFFC07FFF == _PUSH_RECORD
