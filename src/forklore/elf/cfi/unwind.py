"""Call stacks of a stopped task: from one frame to its caller's by call-frame rules, and by what the code shows.

How a frame was found says how sure it is: ``register`` (the innermost: the pc), ``rule`` (call-frame rules),
``signal`` (the registers that a signal frame holds), ``wrapper`` (code without rules, followed to its
return; of a caller the way from its entry must agree: :mod:`forklore.elf.cfi.returning_code`), ``pointer`` (a guess: a
frame pointer, or a way back that nothing confirms). All frames that are found through a guess are guesses too.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as Layout
from typing import Final, Literal

from msgspec import Struct, field

from forklore.abi.arch import X86, Arch
from forklore.elf.cfi import signal_frames
from forklore.elf.cfi.call_instructions import branch_distance
from forklore.elf.cfi.frame_table import FrameTable
from forklore.elf.cfi.returning_code import Way, depth_at, way_back
from forklore.elf.cfi.rules import BY_EXPRESSION, FrameRule, Location, ValueAt
from forklore.elf.cfi.x86_code import call_before
from forklore.elf.dwarf.expressions import Read, evaluate
from forklore.elf.dwarf.registers import NUMBERS

_LONGEST_CALL: Final = 7
_NOP: Final = b"\x90"
_NOT_SEEN: Final = (False, None)


class CodeMapping(Struct):
    """A mapping of code. One object for each is best: it remembers what was found out about its code."""

    table: FrameTable | None
    bias: int
    """Runtime address minus the ELF file's address."""
    executable: bool = True
    fixed: bool = True
    """False: it can change while the program runs (made by the program itself), so nothing of it is remembered."""
    ways: dict[int, Way | None] = field(default_factory=dict)
    """By address in the file. Several processes' mappings of one file can share these two."""
    calls: dict[int, tuple[bool, int | None]] = field(default_factory=dict)
    made: bool = False
    """No file is behind it: the program made it at run time, as a just-in-time compiler does."""


How = Literal["register", "rule", "wrapper", "signal", "pointer"]
"""How a frame was found: :data:`forklore.events.parts.FrameHow`."""


class Walk(Struct, frozen=True):
    """A call stack."""

    frames: tuple[tuple[int, How, int], ...]
    """Innermost first: pc (for a caller its return address), how it was found, and its canonical frame address: the
    stack pointer that its caller has; 0 where the caller was not found."""
    end: str
    """``outermost``, ``depth``, or what was in the way, in words."""
    interrupted: tuple[int, ...] = ()
    """The stack pointers at which signals came, the last one first: a handler can have had a stack of its own."""

    def called(self, index: int) -> bool:
        """Whether a frame is left by a call, so that its pc is a return address.

        Not the innermost one and not one that a signal interrupted; and a handler's trampoline was never called: its
        pc is where it begins.
        """
        trampoline = index + 1 < len(self.frames) and self.frames[index + 1][1] == "signal"
        return index > 0 and self.frames[index][1] != "signal" and not trampoline


class _End(Exception):  # noqa: N818 - how each walk ends
    """No more frames; why."""


def walk(
    arch: Arch,
    registers: dict[int, int],
    lookup: Callable[[int], CodeMapping | None],
    read: Read,
    depth: int,
    *,
    stack: tuple[int, bytes] = (0, b""),
    used: set[int] | None = None,
) -> Walk:
    """The call stack of a task that is held in a system call or at a signal, at most ``depth`` frames.

    ``registers`` are its own by DWARF number, pc and sp included (:mod:`forklore.elf.dwarf.registers`). ``lookup``
    finds the code that an address lies in, ``read`` memory of the task, or None. ``stack`` is memory that was read
    already, from the stack pointer on: its address and content. ``used`` takes the DWARF numbers of the registers,
    besides pc and sp, whose first values the walk needed. Nothing is raised for what the task's memory holds.
    """
    walker = _Walker(arch, registers, lookup, read, stack)
    end = "depth"
    try:
        walker.go(depth)
    except _End as reason:
        end = str(reason)
    if used is not None:
        used |= walker.used
    return Walk(tuple(walker.frames), end, tuple(walker.interrupted))


class _Walker:
    __slots__ = (
        "_arch", "_layout", "_lookup", "_numbers", "_read", "_stack", "_values", "_where", "exact", "frames",
        "guessed", "how", "interrupted", "pc", "sp", "used",
    )  # fmt: skip

    def __init__(
        self,
        arch: Arch,
        registers: dict[int, int],
        lookup: Callable[[int], CodeMapping | None],
        read: Read,
        stack: tuple[int, bytes],
    ) -> None:
        numbers = NUMBERS[arch]
        self._arch = arch
        self._numbers = numbers
        self._layout = _QUAD if numbers.word == 8 else _LONG
        self._lookup = lookup
        self._read = read
        self._stack = stack
        self._values = dict(registers)
        self._where: dict[int, int] = {}
        """Addresses of registers that frames passed by have saved: read only when a rule needs one."""
        self.frames: list[tuple[int, How, int]] = []
        self.interrupted: list[int] = []
        self.used: set[int] = set()
        self.pc = registers[numbers.pc]
        self.sp = registers[numbers.sp]
        self.exact = True
        self.guessed = False
        self.how: How = "register"

    def go(self, depth: int) -> None:
        """Find frames until an _End, or until there are ``depth``."""
        lookup, frames, where = self._lookup, self.frames, self._where
        unpack = self._layout.unpack_from
        word, mask, stack_pointer = self._numbers.word, self._numbers.mask, self._numbers.sp
        base, window = self._stack
        last = len(window) - word
        for _ in range(depth):
            pc = self.pc
            code = lookup(pc)
            if code is None or not code.executable:
                raise _End(self._no_code())
            address = pc - code.bias if self.exact else pc - code.bias - 1
            table = code.table
            rule = None
            if table is not None:
                rule = table.rules.get(address) or table.rule_at(address)
            if rule is None:
                self._without_rule(code, pc)
                continue
            if not self.exact and code.fixed and not code.calls.get(pc - code.bias, _NOT_SEEN)[0]:
                self._returned(rule)
            if rule.quick is None:
                self._by_rule(rule)
                continue
            if rule.cfa_register == stack_pointer:
                cfa = self.sp + rule.cfa_offset & mask
            else:
                cfa = self._register(rule.cfa_register) + rule.cfa_offset & mask
            if cfa <= self.sp:
                raise self._stop(self._shrinks(cfa))
            at = cfa + rule.return_offset
            if 0 <= at - base <= last:
                (target,) = unpack(window, at - base)
            else:
                target = self._word(at)
            for register, offset in rule.quick:
                where[register] = cfa + offset
            frames.append((pc, self.how, cfa))
            target &= mask
            if target == 0:
                raise _End("outermost")
            self.pc, self.sp, self.exact = target, cfa, False
            self.how = "pointer" if self.guessed else "rule"

    # What a frame's registers were

    def _word(self, address: int) -> int:
        base, window = self._stack
        size = self._numbers.word
        if 0 <= address - base <= len(window) - size:
            (value,) = self._layout.unpack_from(window, address - base)
            return int(value)
        got = self._memory(address, size)
        if got is None:
            raise self._stop(f"the stack cannot be read at {address:#x}")
        return int.from_bytes(got, "little")

    def _memory(self, address: int, size: int) -> bytes | None:
        if address < 0 or address + size > self._numbers.mask:
            return None
        base, window = self._stack
        if base <= address and address + size <= base + len(window):
            return window[address - base : address - base + size]
        got = self._read(address, size)
        return got if got is not None and len(got) == size else None

    def _maybe(self, number: int) -> int | None:
        """A register of the frame at hand, by DWARF number; None where it is lost."""
        if number == self._numbers.sp:
            return self.sp
        address = self._where.get(number)
        if address is None:
            self.used.add(number)
            return self._values.get(number)
        got = self._memory(address, self._numbers.word)
        return None if got is None else int.from_bytes(got, "little")

    def _register(self, number: int) -> int:
        value = self._maybe(number)
        if value is None:
            raise self._stop(f"the rule at {self.pc:#x} needs register {number}, which is lost")
        return value

    # How a walk ends

    def _stop(self, why: str) -> _End:
        self.frames.append((self.pc, self.how, 0))
        return _End(why)

    def _shrinks(self, cfa: int) -> str:
        return f"the stack pointer does not grow: {cfa:#x} after {self.sp:#x}, a corrupted stack"

    def _no_code(self) -> str:
        where = f"{self.pc:#x} is in no executable mapping"
        if self.frames:
            return f"the return address {where}"
        self.frames.append((self.pc, self.how, 0))
        return f"the program counter {where}"

    # The ways from a frame to its caller

    def _by_rule(self, rule: FrameRule) -> None:
        """By a rule of any kind."""
        if rule.undefined_ra:
            raise self._stop("outermost")
        numbers, mask = self._numbers, self._numbers.mask
        if rule.signal and numbers.link is not None:
            # These kernels' rules go by the frame record, which is of the function that was interrupted or of its
            # caller: the registers in the frame are what counts.
            found = signal_frames.interrupted(self._arch, self._memory, self.pc, self.sp)
            if found is not None:
                self._interrupted(found)
                return
        if rule.cfa_register == BY_EXPRESSION:
            computed = evaluate(rule.cfa_expression, self._maybe, self._memory, None, bits=8 * numbers.word)
            if computed is None:
                raise self._stop(f"the rule at {self.pc:#x} has an expression without a value")
            cfa = computed
        else:
            cfa = self._register(rule.cfa_register) + rule.cfa_offset & mask
        if not rule.signal and (cfa < self.sp or (cfa == self.sp and self.frames and self.how != "signal")):
            raise self._stop(self._shrinks(cfa))
        target = self._caller(rule, cfa)
        self._take(target, self._restore(rule, cfa), cfa, "signal" if rule.signal else "rule")

    def _caller(self, rule: FrameRule, cfa: int) -> int:
        """The return address. Where the rule does not say, it is still in the link register."""
        home = rule.saved.get(rule.return_register)
        if home is None:
            if self._numbers.link is None or (self.frames and self.how != "signal"):
                raise self._stop(f"the rule at {self.pc:#x} does not say where the return address is")
            if not self.frames and self._values.get(self._numbers.result) == 0:
                self._not_new(way_back(self._arch, self._memory, self.pc))
            return self._register(rule.return_register)
        value = self._saved(home, cfa)
        if value is None:
            raise self._stop(f"the return address of the frame at {cfa:#x} cannot be read")
        return value

    def _saved(self, location: Location, cfa: int) -> int | None:
        how, number, expression = location
        bits, mask = 8 * self._numbers.word, self._numbers.mask
        if how is ValueAt.OFFSET:
            return self._word(cfa + number & mask)
        if how is ValueAt.VALUE:
            return cfa + number & mask
        if how is ValueAt.REGISTER:
            return self._maybe(number)
        if how is ValueAt.UNDEFINED:
            return None
        value = evaluate(expression, self._maybe, self._memory, cfa, bits=bits)
        return self._word(value) if how is ValueAt.EXPRESSION and value is not None else value

    def _restore(self, rule: FrameRule, cfa: int) -> int:
        """The caller's registers, all from those of the frame at hand. Returns its stack pointer."""
        found: dict[int, int | None] = {}
        memory: dict[int, int] = {}
        for register, location in rule.saved.items():
            if location[0] is ValueAt.OFFSET:
                memory[register] = cfa + location[1]
            elif register != rule.return_register:
                found[register] = self._saved(location, cfa)
        for register, value in found.items():
            self._where.pop(register, None)
            if value is None:
                self._values.pop(register, None)
            else:
                self._values[register] = value
        self._where.update(memory)
        pointer = self._numbers.sp
        if pointer in memory:
            return self._word(memory[pointer])
        return found.get(pointer) or cfa

    def _take(self, target: int, pointer: int, cfa: int, how: How) -> None:
        """Note the frame at hand, whose caller is at ``target`` with its stack pointer at ``pointer``."""
        target &= self._numbers.mask
        self.frames.append((self.pc, self.how, cfa))
        if target == 0:
            raise _End("outermost")
        self.pc, self.sp = target, pointer
        self.exact = how == "signal"
        if self.exact:
            self.interrupted.append(pointer)
        self.guessed |= how == "pointer"
        self.how = "pointer" if self.guessed else how

    def _interrupted(self, registers: dict[int, int]) -> None:
        """Go on where a signal came."""
        numbers = self._numbers
        self._values = dict(registers)
        self._where.clear()
        self._take(registers[numbers.pc], registers[numbers.sp], self.sp, "signal")

    # Code without rules

    def _without_rule(self, code: CodeMapping, pc: int) -> None:
        address = pc - code.bias
        if code.fixed and address in code.ways:
            way = code.ways[address]
        else:
            found = signal_frames.interrupted(self._arch, self._memory, pc, self.sp)
            if found is not None:
                self._interrupted(found)
                return
            way = way_back(self._arch, self._memory, pc)
            if code.fixed:
                code.ways[address] = way
        self._not_new(way)
        if not (way is not None and self._by_way(code, way)) and not self._by_pointer():
            if way is None and self._maybe(self._numbers.fp) == 0:
                raise self._stop("outermost")  # it never returns, and has cleared the frame pointer to say so
            where = f"code made at run time, {pc:#x}," if code.made else f"{pc:#x}"
            raise self._stop(f"no call-frame rule for {where} and its frame pointer leads nowhere")

    def _not_new(self, way: Way | None) -> None:
        """End at a new task on a stack of its own: it will not return to its creator's caller."""
        if self.frames or way is None or self._values.get(self._numbers.result) != 0:
            return  # a result at this point is a child's: its parent is held inside the call
        other = way_back(self._arch, self._memory, self.pc, child=True)
        if other is None or (other.rule, other.crossed) != (way.rule, way.crossed):
            raise self._stop("a new task that has not run yet: it has no callers of its own")

    def _by_way(self, code: CodeMapping, way: Way) -> bool:
        rule, mask = way.rule, self._numbers.mask
        base = self._maybe(rule.cfa_register)
        if base is None:
            return False
        cfa = base + rule.cfa_offset & mask
        home = rule.saved.get(rule.return_register)
        if home is None or home[0] is ValueAt.REGISTER:
            target = self._maybe(rule.return_register if home is None else home[1])
        else:
            got = self._memory(cfa + home[1], self._numbers.word)
            target = None if got is None else int.from_bytes(got, "little")
        if cfa < self.sp or target is None:
            return False
        target &= mask
        called, entry = self._called(target)
        if not called:
            return False
        # After a call that never comes back another function may begin: then this is not the caller's way.
        sure = self.exact and not way.crossed
        if not sure and way.depth is not None and entry is not None:
            way = self._compared(way, entry)
            if code.fixed:
                code.ways[self.pc - code.bias] = way
        if not sure and way.agrees is False:
            return False
        self._take(target, self._restore(rule, cfa), cfa, "wrapper" if sure or way.agrees else "pointer")
        return True

    def _compared(self, way: Way, entry: int) -> Way:
        """Whether the code that was called puts as much on the stack, up to here, as the way back takes off."""
        depth = depth_at(self._arch, self._memory, entry, self.pc) if self._arch in X86 else None
        return Way(way.rule, way.crossed, depth=None, agrees=None if depth is None else depth == way.depth)

    def _by_pointer(self) -> bool:
        """By the frame record of code that keeps frame pointers: the caller's, and above it the return address."""
        numbers, word = self._numbers, self._numbers.word
        pointer = self._maybe(numbers.fp)
        if pointer is None:
            return False
        record = pointer - 2 * word if self._arch is Arch.RISCV64 else pointer
        if record < self.sp or record % word:
            return False
        got = self._memory(record, 2 * word)
        if got is None:
            return False
        target = int.from_bytes(got[word:], "little") & numbers.mask
        if target == 0:
            return False
        if not self._called(target)[0]:
            return False
        self._where[numbers.fp] = record
        end = record + 2 * word
        known = self._by_record(target, int.from_bytes(got[:word], "little")) if self._arch is Arch.AARCH64 else None
        self._take(target, end if known is None else max(known, end), end, "pointer")
        return True

    def _by_record(self, target: int, record: int) -> int | None:
        """The stack pointer of the frame at ``target``, whose own frame record lies at ``record``.

        On aarch64 a record can be anywhere in its frame: where the callee's frame ends, only the caller's rule tells.
        """
        code = self._lookup(target)
        rule = None if code is None or code.table is None else code.table.rule_at(target - code.bias - 1)
        home = None if rule is None else rule.saved.get(self._numbers.fp)
        if rule is None or home is None or home[0] is not ValueAt.OFFSET or rule.cfa_register != self._numbers.sp:
            return None
        return record - home[1] - rule.cfa_offset

    def _returned(self, rule: FrameRule) -> None:
        """End where what a rule found is no return address, as in a stack that was overwritten."""
        # Frames without a caller, and signal handlers, return to code that never called them; so do goroutines, to a
        # nop (Go runtime/asm_amd64.s: goexit).
        if self._arch not in X86 or rule.signal or rule.undefined_ra or self._called(self.pc)[0]:
            return
        if self._memory(self.pc - 1, 1) not in (None, _NOP):
            raise _End(f"the return address {self.pc:#x} follows no call: a corrupted stack")

    def _called(self, target: int) -> tuple[bool, int | None]:
        """Whether a call instruction returns to ``target``, and what code it calls, where it says so itself."""
        code = self._lookup(target)
        if code is None or not code.executable:
            return False, None
        address = target - code.bias
        known = code.calls.get(address) if code.fixed else None
        if known is None:
            called, distance = self._call_before(target)
            known = called, None if distance is None else distance + address
            if code.fixed:
                code.calls[address] = known
        called, entry = known
        return called, None if entry is None else entry + code.bias

    def _call_before(self, target: int) -> tuple[bool, int | None]:
        if self._arch in X86:
            got = self._memory(target - _LONGEST_CALL, _LONGEST_CALL) or self._memory(target - 5, 5)
            return call_before(got or b"")
        if self._arch is Arch.AARCH64:
            (word,) = _LONG.unpack(self._memory(target - 4, 4) or bytes(4))
            if word >> 26 == 0x25:  # bl
                return True, branch_distance(word) - 4
            return word & 0xFEFFF000 == 0xD63F0000, None  # blr, blraa, …
        return True, None


_QUAD: Final = Layout("<Q")
_LONG: Final = Layout("<I")
