"""Who makes a child: the caller's stack, its interpreter's frames, and what the child is given to run.

Memory is read while the caller is held at its call's entry: nothing is copied on write yet, and nothing moves. Files
are looked into when it has gone on: of a stack that was not met before all is copied that a walk can ask for
(:mod:`forklore.sources.stacks.copied`), and the copy is walked when nobody is held. A task on a stack of whose bounds
nothing is known, or in code that lies in memory alone, is walked while it is held, by its memory alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from forklore.abi.arch import Arch
from forklore.abi.flags import AT_FDCWD, CLONE_THREAD, CLONE_UNTRACED
from forklore.abi.units import Address, Tid, Unavailable
from forklore.elf.cfi import unwind
from forklore.elf.dwarf.registers import PLACES, dwarf_block
from forklore.events import records as ev
from forklore.linux import memory, proc
from forklore.linux.files.file_calls import status
from forklore.linux.mappings import MappingKind
from forklore.linux.ours import leaving
from forklore.linux.tracing import ptrace
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace.options import Options
from forklore.sources.ptrace.tracee import EnteredCall, Glance, Noted, Tracee
from forklore.sources.stacks.code import CodeRegion, CodeSpace, Loaded, TracedCode, Walked
from forklore.sources.stacks.copied import Copy, MappedFiles, Needs, WalkedHeld, keep_files, parts_of_stack, whole_stack
from forklore.sources.stacks.interpreters import Pythons
from forklore.sources.stacks.language_threads import Function
from forklore.sources.stacks.routines import CODE, Routines
from forklore.sources.stacks.tail_calls import Jumps

if TYPE_CHECKING:
    from forklore.elf.cpython.frames import Interpreter, PyFrame, PyStack, StartedThread
    from forklore.elf.dwarf.source import DwarfSource
    from forklore.elf.image.thread_descriptors import PthreadLayout
    from forklore.linux.pages.whole import Memory
    from forklore.linux.tracing.ptrace import Registers

_WINDOW: Final = 2 * memory.PAGE_SIZE
"""How much of a stack is read at once, …"""
_LEAST: Final = 256
"""… and of one that was met before at least, and a multiple of this."""
_AHEAD: Final = 64
"""Bytes that are worth to be read ahead of being asked for."""
_FOLLOWED: Final = 32
"""How often the code of a file without a table in memory is read for one walk of a held task's stack."""
_WALKED_LIMIT: Final = 4096
_ADDRESS: Final = re.compile(r"0x[0-9a-f]+")
_TOO_MUCH: Final = "so many stacks waited to be looked into, with tasks held all the time, that this one was given up"
_NO_MEMORY: Final = "forklore had no memory left to read it (RLIMIT_AS)"
_THREAD_LIBRARIES: Final = (b"libc.so", b"libc-2", b"libpthread")


_WORD: Final = 8
_HIGHEST: Final = 1 << 63
_SMALLEST: Final = 1 << 19
"""Bytes: no program that holds an interpreter of Python is smaller."""


class _FilesNeededError(Exception):
    """What is asked for takes a look into files."""


class StackReader:
    """Reads stacks and writes each that is new, with the code that it goes through."""

    def __init__(self, machine: Arch, options: Options, out: Outbox) -> None:
        self._machine = machine
        self._depth = options.stack_depth
        self._keep_frames = options.vfork_writes
        self._out = out
        self.code = TracedCode(out, machine)
        self._jumps = Jumps(self.code)
        self._pythons = Pythons(self.code, out)
        self._stacks: dict[tuple[tuple[tuple[int, ev.FrameHow], ...], str], int] = {}
        self._routines = Routines(machine)
        self._lines_at_once = options.lines_at_once
        self._lined = 0
        """How many places have had their source lines looked up."""
        self._sources: dict[int, DwarfSource | None] = {}
        self._scripts: dict[tuple[object, ...], int] = {}
        self._seen: Glance
        """Of the caller whose stack is looked at; set when it enters its call."""
        self._first = False
        """Whether it is the first of its process."""
        self._looked_at: CodeSpace
        """Where its code lies."""
        self._memory: Memory | None = None
        """A descriptor of that task's memory, while one is open."""
        self._enough: dict[int, int] = {}
        """By the instruction pointer of callers that were met before: how much of the stack was of use."""
        self._ahead: tuple[str, int, int] | None = None
        """A register, how far from it, and how many bytes: where the last caller was asked for more than its stack."""
        self._checked: list[CodeRegion] = []
        """Code of this caller's that is known to be there still."""
        self._walked_held: WalkedHeld | None = None
        """While a copy is looked at: its walk, where that was made already."""
        self._known_only = False
        """While what a child is to run is asked of what is known already: nothing is looked up in a file."""

    def enter(self, task: Tracee, entry: EnteredCall, t: int) -> Look | None:
        """Note in ``entry`` who makes the creation call that ``task``, held in it, has just entered.

        What is given back is left to do before the task's next stop is looked at, and the task may go on meanwhile:
        until then it is in the kernel, and the child that it makes is held.
        """
        leaving.goes_on()
        try:
            space = self._space(task)
            seen, entry.glance = entry.glance or self.glance(task.tid), None
        except MemoryError:
            entry.stack = self._unread(t)
            return None
        self._seen, self._looked_at, held = seen, space, seen.registers
        self._first = task.tid == Tid(task.group.tgid)
        rest = Look(self, task, task.tid, space, held, entry, t)
        # Of a caller that was met before, all that is to be read is read by now, as a rule.
        known = not self._keep_frames and space.walked.get((held[held.layout.ip], seen.base)) is not None
        if known and space.interpreter is False and not entry.flags & CLONE_UNTRACED:
            return rest
        rest.run()
        return None

    def where(self, task: Tracee, t: int) -> Noted:
        """The stack of a task that is held outside of any call."""
        noted = Noted()
        try:
            self._looked_at = space = self._space(task)
            self._seen, self._first = self.glance(task.tid), task.tid == Tid(task.group.tgid)
            self._checked.clear()
            self.code.mapped_still(space, task.tid)
            self._later(noted, space, task.tid, t, partial(self._where, noted, t))
        except MemoryError:
            noted.stack = self._unread(t)
        return noted

    def _where(self, noted: Noted, t: int, space: CodeSpace) -> None:
        tid, held = self._seen.tid, self._seen.registers
        arch = self._arch(held)
        found, _ = self._walk(space, tid, arch, dwarf_block(arch, held.raw), None)
        noted.stack = self._number(space, tid, arch, found, t)

    def glance(self, tid: Tid) -> Glance:
        """The registers and the stack of a task that is held, and what the last one was asked for besides."""
        held = ptrace.registers(tid)
        base = held[held.layout.sp]
        # No more than is of use: to read a page that a fork has left shared can be to copy it (mm/gup.c).
        length = self._enough.get(held[held.layout.ip], _WINDOW)
        if self._ahead is None or self._ahead[0] not in held.layout.offsets:
            return Glance(tid, held, base, memory.window(tid, Address(base), length), 0, b"")
        name, distance, size = self._ahead
        beside = held[name] + distance
        near, window = memory.with_window(tid, Address(beside), size, Address(base), length)
        return Glance(tid, held, base, window, beside, near or b"")

    def look(self, tid: Tid, space: CodeSpace, held: Registers, entry: EnteredCall, t: int) -> None:
        """Read the stack, the interpreter's frames and what the child is to run, as far as the call tells; what takes
        files is put off, where that can be."""
        self._checked.clear()
        try:
            known = space.walked.get((held[held.layout.ip], self._seen.base))
            met = known is not None and not self._keep_frames and self._same(known, held)
            entry.stack = known.number if known is not None and met else None
            if not met:
                self.code.mapped_still(space, tid)
            started = self._script(space, tid, held, entry, t)
            known_routine = self._runs_if_known(space, tid, held, entry, t, started)
            if met and not known_routine:
                self.code.mapped_still(space, tid)
            if not met or not known_routine:
                again = partial(self._look_again, held, entry, t, started, stack=not met, runs=not known_routine)
                further = () if known_routine else self._of_routine(space, tid, held, entry)
                self._later(entry, space, tid, t, again, further, whole=not met)
            if self._lines_at_once:
                self._out.later(partial(self.write_lines, t), held=_nothing)  # they are written the next time
        except MemoryError:
            entry.stack = self._unread(t)

    def _look_again(
        self, held: Registers, entry: EnteredCall, t: int, started: StartedThread | None, space: CodeSpace, *,
        stack: bool, runs: bool,
    ) -> None:  # fmt: skip
        if stack:
            entry.stack = self._stack(space, self._seen.tid, held, entry, t)
        if runs:
            self._runs(space, self._seen.tid, held, entry, t, started)

    def _later(
        self, noted: Noted | EnteredCall, space: CodeSpace, tid: Tid, t: int, look: Callable[[CodeSpace], None],
        further: Sequence[tuple[int, bytes]] = (), *, whole: bool = True,
    ) -> None:  # fmt: skip
        # ``whole``: all of the stack is needed, ``further``: this besides.
        copy = self._copied(space, tid, further, whole=whole)
        noted.unread = True
        never = partial(self._never, noted, copy, t)
        self._out.later(partial(self._again, noted, copy, t, look), copy.size, held=never)

    def _copied(self, space: CodeSpace, tid: Tid, further: Sequence[tuple[int, bytes]], *, whole: bool) -> Copy:
        seen, held = self._seen, self._seen.registers
        arch, files, walked = self._arch(held), MappedFiles(tid), None
        copy = None
        try:
            window = whole_stack(seen, space, first=self._first) if whole else seen.window
            blocks = (window or b"", *(content for _address, content in further))
            if not keep_files(self.code, space, arch, held, files, blocks) or window is None:
                # The child begins behind the call.
                ip = held[held.layout.ip]
                further = (*further, (ip, _block(tid, ip, CODE)))
                if whole:
                    walked = self._walk_held(space, tid, arch)
                    if window is None and walked.again:
                        window, others = parts_of_stack(seen, space, walked.found.interrupted, first=self._first)
                        further = (*further, *others)
                    blocks = (_words_of(walked.found), *(content for _address, content in further))
                    keep_files(self.code, space, arch, held, files, (window or b"", *blocks))
            glance = replace(seen, window=window or seen.window, further=tuple(further))
            copy = Copy(glance, space.copy(), space, files, walked)
        finally:
            if copy is None:
                files.close()
        return copy

    def _again(self, noted: Noted | EnteredCall, copy: Copy, t: int, look: Callable[[CodeSpace], None]) -> None:
        # Nobody is held, and what was copied is looked at.
        self._seen, self._looked_at, self.code.at_hand = copy.glance, copy.space, copy.files
        self._walked_held = copy.walked
        try:
            look(copy.space)
        except MemoryError:
            noted.stack = self._unread(t)
        finally:
            self.code.at_hand = self._walked_held = None
            copy.learnt()
            noted.unread = False

    def _never(self, noted: Noted | EnteredCall, copy: Copy, t: int) -> None:
        # The copy has to go, and files may not be looked into.
        copy.files.close()
        noted.stack = noted.stack or self._numbered((), _TOO_MUCH, t)
        noted.unread = False

    def _unread(self, t: int) -> int | None:
        try:
            return self._numbered((), _NO_MEMORY, t)
        except MemoryError:
            return None  # the creation is told all the same

    def _space(self, task: Tracee) -> CodeSpace:
        if task.space is None:
            task.space = CodeSpace()
            self.code.survey(task.space, task.tid)
        return task.space

    def _read(self, address: int, size: int) -> bytes | None:
        seen = self._seen
        known = seen.read(address, size)
        if known is not None:
            return known
        if self._looked_at.silent(address):
            return None
        if self.code.at_hand is not None:
            return self._not_copied(address, size)
        if size > memory.PAGE_SIZE:
            got = memory.window(seen.tid, Address(address), size)
            return got if len(got) == size else None
        found = memory.read(seen.tid, Address(address), size)
        if isinstance(found, Unavailable):
            return None
        if size <= _AHEAD:
            self._ahead = _relative(seen.registers, address, size) or self._ahead
        return found

    def _not_copied(self, address: int, size: int) -> bytes | None:
        # Of a task that has gone on.
        if (code := self._of_file(address, size)) is not None:
            return code
        # A table that calls lead through is filled in before the first is made, and stays so.
        if size <= _WORD and self._looked_at.is_variable(address):
            slot = memory.read(self._seen.tid, Address(address), size)
            return None if isinstance(slot, Unavailable) else slot
        return None

    def _of_file(self, address: int, size: int) -> bytes | None:
        # Memory that nobody can write is what its file has.
        region = self._looked_at.find(address)
        if region is None or region.entry.writable:
            return None
        image = self.code.loaded(region, self._seen.tid).image
        where = None if image is None else image.offset_of(address - region.bias)
        if image is None or where is None:
            return None
        found = image.read(where, size)
        return found if len(found) == size else None

    def _stack(self, space: CodeSpace, tid: Tid, held: Registers, entry: EnteredCall, t: int) -> int:
        start = held[held.layout.ip], self._seen.base
        known = space.walked.get(start)
        if known is not None and not self._keep_frames and self._same(known, held):
            return known.number
        arch = self._arch(held)
        registers = dwarf_block(arch, held.raw)
        held_then = self._walked_held
        needs = self._to_note(space, start) if held_then is None else held_then.needs
        found, whole = self._walk(space, tid, arch, registers, needs)
        number = self._number(space, tid, arch, found, t)
        if self._keep_frames:
            entry.frames = found.frames
        if len(space.walked) >= _WALKED_LIMIT:
            space.walked.clear()
        # What was in no code is looked for again: a library may lie there the next time.
        regions = _leaving(space, found)
        space.walked[start] = self._walked(arch, held, needs, number, regions) if needs and whole else None
        self._note(start[0], space.walked[start])
        return number

    @staticmethod
    def _to_note(space: CodeSpace, start: tuple[int, int]) -> Needs | None:
        # The second time from there: a third is likely, and worth to note what this walk goes by.
        return Needs() if start in space.walked else None

    def _note(self, ip: int, walked: Walked | None) -> None:
        if walked is None or self._keep_frames:
            self._enough.pop(ip, None)
            return
        if len(self._enough) >= _WALKED_LIMIT:
            self._enough.clear()
        needed = max(8 * walked.last + 8, self._seen.used, self._enough.get(ip, 0))
        self._enough[ip] = min(_WINDOW, -(-needed // _LEAST) * _LEAST)

    def _same(self, known: Walked, held: Registers) -> bool:
        if known.registers(held.words()) != known.values:
            return False
        words = self._words()
        same = known.last < len(words) and known.words(words) == known.contents
        return same and not self._changed(known.regions, self._seen.tid)

    def _changed(self, regions: Iterable[CodeRegion], tid: Tid) -> bool:
        if self.code.at_hand is not None:
            return False  # that was asked while the task was held
        unchecked = [region for region in regions if region not in self._checked]
        if self.code.changed(unchecked, tid):
            return True
        self._checked += unchecked
        return False

    def _words(self) -> memoryview:
        window = self._seen.window
        return memoryview(window)[: len(window) & ~7].cast("Q")

    def _walked(
        self, arch: Arch, held: Registers, needs: Needs, number: int, regions: tuple[CodeRegion, ...]
    ) -> Walked | None:
        base = self._seen.base
        places = sorted({(address - base) // 8 for address, _size in needs.reads})
        aligned = all(size == 8 and (address - base) % 8 == 0 for address, size in needs.reads)
        if not aligned or len(places) < 2 or places[0] < 0 or 8 * places[-1] + 8 > _WINDOW:
            return None
        # The stack and the instruction pointer were seen to be the same: with them there are always some to pick.
        names = held.layout.names
        block = [place for number, place in PLACES[arch].items() if number in needs.registers]
        needed = itemgetter(names.index(held.layout.sp), names.index(held.layout.ip), *block)
        pick, words = itemgetter(*places), self._words()
        return Walked(needed, needed(held.words()), pick, places[-1], pick(words), number, regions)

    def _walk(
        self, space: CodeSpace, tid: Tid, arch: Arch, registers: dict[int, int], needs: Needs | None
    ) -> tuple[unwind.Walk, bool]:
        """The walk, and whether all of it lies in code that is known."""
        before = self._walked_held
        if before is not None and not before.again:
            return before.found, before.known
        found, unknown = self._walk_once(space, tid, arch, registers, needs)
        if before is not None and _surer(before.found, found):
            return before.found, False
        return found, unknown is None

    def _walk_held(self, space: CodeSpace, tid: Tid, arch: Arch) -> WalkedHeld:
        """The walk of a held task's stack by its memory alone."""
        held = self._seen.registers
        needs = self._to_note(space, (held[held.layout.ip], self._seen.base))
        registers = dwarf_block(arch, held.raw)
        found, unknown = self._walk_once(space, tid, arch, registers, needs, held=True)
        # An unknown address is code that was mapped since, or no code at all: what cannot be read needs no survey.
        mapped = unknown is not None and not isinstance(memory.read(tid, Address(unknown), 1), Unavailable)
        if mapped and self.code.survey(space, tid, anew=False):
            found, unknown = self._walk_once(space, tid, arch, registers, needs, held=True)
        met = [region for pc, _how, _cfa in found.frames if (region := space.find(pc)) is not None]
        again = any(
            region.entry.kind is MappingKind.FILE and self.code.in_memory(region, tid).code.table is None
            for region in met
        )
        return WalkedHeld(found, unknown is None, needs, again)

    def _walk_once(
        self, space: CodeSpace, tid: Tid, arch: Arch, registers: dict[int, int], needs: Needs | None, *,
        held: bool = False,
    ) -> tuple[unwind.Walk, int | None]:  # fmt: skip
        """The walk, and an address on the way that lies in no region that is known.

        ``held``: the task is held, and no file is looked into.
        """
        find, loaded, in_memory = space.find, self.code.loaded, self.code.in_memory
        unknown: int | None = None

        def lookup(address: int) -> unwind.CodeMapping | None:
            nonlocal unknown
            region = find(address)
            if region is None:
                unknown = address
                return None
            if held:
                return in_memory(region, tid).code
            if region.code is None:
                loaded(region, tid)
            return region.code

        read = self._read if not held else self._reader_of_held(space, tid)

        def noted(address: int, size: int) -> bytes | None:
            if needs is not None:
                needs.reads.append((address, size))
            return read(address, size)

        if needs is None:
            stack = self._seen.base, self._seen.window
            found = unwind.walk(arch, registers, lookup, read, self._depth, stack=stack)
        else:
            needs.reads.clear()
            found = unwind.walk(arch, registers, lookup, noted, self._depth, used=needs.registers)
        return found, unknown

    def _reader_of_held(self, space: CodeSpace, tid: Tid) -> Callable[[int, int], bytes | None]:
        left = _FOLLOWED

        def read(address: int, size: int) -> bytes | None:
            nonlocal left
            region = space.find(address)
            found = None if region is None else region.in_memory
            image = None if found is None else found.image
            if found is None or image is None:
                return self._read(address, size)
            if found.code.table is None:
                left -= 1
            offset = image.offset_of(address - found.code.bias) if left > 0 else None
            return None if offset is None else image.read(offset, size)

        return read

    def _arch(self, held: Registers) -> Arch:
        return Arch.I386 if self._machine is Arch.X86_64 and held.layout.word == 4 else self._machine

    def _number(self, space: CodeSpace, tid: Tid, arch: Arch, found: unwind.Walk, t: int) -> int:
        frames: list[tuple[int, ev.FrameHow]] = []
        for index, (pc, how, _cfa) in enumerate(found.frames):
            frames.append((self.code.place(space, tid, pc, t, returns=found.called(index)), how))
        # Where a stack ends badly differs in each process by what address space randomization does.
        end = _ADDRESS.sub("0x…", found.end)
        number = self._stacks.get((tuple(frames), end))
        if number is not None:
            return number
        places = [place for place, _how in frames]
        jumps = self._jumps.of(arch, space, tid, found, places, self._read)
        return self._numbered(tuple(frames), end, t, partial(self._jumps.told, space.copy(), tid, jumps, t))

    def _numbered(
        self, frames: tuple[tuple[int, ev.FrameHow], ...], end: str, t: int,
        jumped: Callable[[], list[ev.Jumped]] = list,
    ) -> int:  # fmt: skip
        number = self._stacks.get((frames, end))
        if number is None:
            number = self._stacks[frames, end] = len(self._stacks) + 1
            tell = partial(self._tell, number, frames, end, t)
            self._out.later(partial(tell, jumped), held=partial(tell, list))
        return number

    def _tell(
        self, number: int, frames: tuple[tuple[int, ev.FrameHow], ...], end: str, t: int,
        jumped: Callable[[], list[ev.Jumped]],
    ) -> None:  # fmt: skip
        try:
            between = jumped()
        except MemoryError:
            between = []  # the stack is told all the same
        self._out(ev.Stack(t=t, stack=number, frames=[ev.Frame(*frame) for frame in frames], end=end, jumped=between))

    def _script(
        self, space: CodeSpace, tid: Tid, held: Registers, entry: EnteredCall, t: int
    ) -> StartedThread | None:
        """Note the interpreter's frames: the thread that its own library starts with this call."""
        if space.interpreter is None:
            space.interpreter = self._interpreter(space, tid, t) or False
        interpreter = space.interpreter
        if not interpreter:
            return None
        pointer = held["fs_base"] if held.layout.word == 8 and self._machine is Arch.X86_64 else None
        with self._memory_of(tid):
            found = interpreter.frames(tid, pointer, self._depth)
            starting = entry.flags & CLONE_THREAD and found.starts_thread
            started = interpreter.starts(tid, pointer) if starting else None
        if not found.frames:
            return None
        entry.script = self._script_number(interpreter.language, found, t)
        return started

    def _script_number(self, language: str, found: PyStack, t: int, *, late: bool = False) -> int:
        key = language, found.frames, found.end
        number = self._scripts.get(key)
        if number is None:
            number = self._scripts[key] = len(self._scripts) + 1
            frames = [_script_frame(one) for one in found.frames]
            self._out(ev.Script(t=t, script=number, language=language, frames=frames, end=found.end, late=late))
        return number

    def _interpreter(self, space: CodeSpace, tid: Tid, t: int) -> Interpreter | None:
        if space.program is None:
            space.program = _program(tid)
        program = os.path.basename(space.program)
        large = _program_size(tid) >= _SMALLEST
        for region in space.regions:
            name = region.entry.path.rpartition(b"/")[2]
            if name.startswith(b"libpython") or (large and name == program and region.entry.kind is MappingKind.FILE):
                symbols = self._pythons.of(space, region, tid, t)
                if not symbols:
                    continue
                from forklore.elf.cpython.frames import Interpreter

                with self._memory_of(tid):
                    found = Interpreter.find(symbols.get, self._page, None)
                return None if isinstance(found, Unavailable) else found
        return None

    @contextmanager
    def _memory_of(self, tid: Tid) -> Iterator[None]:
        # Not process_vm_readv, which has pages that are shared since a fork copied (mm/gup.c: gup_must_unshare), and
        # is slower for whole pages.
        from forklore.linux.pages.whole import memory_of

        with memory_of(tid) as self._memory:
            yield

    def _page(self, address: int, size: int) -> bytes | None:
        if self._memory is None:
            return None
        if memory.may_wait(self._seen.tid, address, size):
            return self._read(address, size)
        return self._memory.read(address, size)

    def _runs_if_known(
        self, space: CodeSpace, tid: Tid, held: Registers, entry: EnteredCall, t: int, started: StartedThread | None
    ) -> bool:
        """Note what the child is to run, if no file is needed for that."""
        if space.program is None:
            space.program = _program(tid)
        self._known_only = True
        try:
            self._runs(space, tid, held, entry, t, started)
        except _FilesNeededError:
            return False
        finally:
            self._known_only = False
        return True

    def _of_routine(
        self, space: CodeSpace, tid: Tid, held: Registers, entry: EnteredCall
    ) -> tuple[tuple[int, bytes], ...]:
        return self._routines.copies(entry, held, partial(_block, tid), lambda at: space.find(at) is not None)

    def _runs(
        self, space: CodeSpace, tid: Tid, held: Registers, entry: EnteredCall, t: int, started: StartedThread | None
    ) -> None:
        runs = self._routines.of(
            entry, held, lambda: self._layout(space, tid), self._read, _libc(space),
            lambda address: self._function(space, tid, address),
        )  # fmt: skip
        if runs is None:
            return
        entry.runs = msgspec.structs.replace(
            runs,
            fn_place=self._code_place(space, tid, runs.fn, t),
            routine_place=self._code_place(space, tid, runs.routine, t),
        )
        if started is not None:
            target = None if started.target is None else _script_frame(started.target)
            entry.runs = msgspec.structs.replace(entry.runs, script=target, name=ev.text(started.name))

    def _code_place(self, space: CodeSpace, tid: Tid, address: int | None, t: int) -> int | None:
        if address is None:
            return None
        region = space.find(address)
        known = space.places.get(address)
        changed = region is None or self._changed((region,), tid)
        if self._known_only and (changed or known is None):
            raise _FilesNeededError
        if known is None and space.find(address) is not None:
            known = self.code.place(space, tid, address, t, returns=False)
        return known

    def _function(self, space: CodeSpace, tid: Tid, address: int) -> Function | None:
        region = space.find(address)
        changed = region is not None and self._changed((region,), tid)
        if self._known_only:
            found = None if changed or region is None else self.code.known_function(region, address)
            if found is None:
                raise _FilesNeededError
            return found
        return self.code.function(space, tid, address)

    def _layout(self, space: CodeSpace, tid: Tid) -> PthreadLayout | Unavailable:
        if space.threads is None:
            if self._known_only:
                raise _FilesNeededError
            space.threads = self._find_layout(space, tid)
        return space.threads

    def _find_layout(self, space: CodeSpace, tid: Tid) -> PthreadLayout | Unavailable:
        from forklore.elf.image.thread_descriptors import layout_from_image

        program = space.program
        why = Unavailable(0, "no C library is mapped that publishes where pthread_create keeps its routine")
        for region in space.regions:
            path = region.entry.path
            if path == program or path.rpartition(b"/")[2].startswith(_THREAD_LIBRARIES):
                loaded = self.code.loaded(region, tid)
                found = why if loaded.image is None else layout_from_image(loaded.image, loaded.symbols)
                if not isinstance(found, Unavailable):
                    return found
        return why

    def write_lines(self, t: int) -> None:
        """Write the source lines of all places that are new, as far as there is debug information.

        Nothing of the outbox waits.
        """
        new, self._lined = self.code.places[self._lined :], len(self.code.places)
        for number, loaded, address in new:
            source = self._source(loaded)
            found = () if source is None else source.at(address)
            if found:
                lines = [ev.Line(one.function, one.file, one.line) for one in found]
                self._out(ev.Lines(t=t, place=number, lines=lines))

    def _source(self, loaded: Loaded) -> DwarfSource | None:
        if loaded.number not in self._sources:
            image = loaded.described
            if image is None:
                self._sources[loaded.number] = None
            else:
                from forklore.elf.dwarf.source import DwarfSource

                self._sources[loaded.number] = DwarfSource(image)
        return self._sources[loaded.number]


class Look(Struct, eq=False):
    """A caller that is to be looked at: it has entered its call."""

    stacks: StackReader
    task: Tracee
    tid: Tid
    space: CodeSpace
    held: Registers
    entry: EnteredCall
    t: int

    @property
    def tasks(self) -> Iterable[Tracee]:
        """The caller."""
        return (self.task,)

    def run(self) -> None:
        """Look at it."""
        self.stacks.look(self.tid, self.space, self.held, self.entry, self.t)


def _script_frame(frame: PyFrame) -> ev.ScriptFrame:
    return ev.ScriptFrame(ev.text(frame.function), ev.text(frame.file), frame.line)


def _leaving(space: CodeSpace, found: unwind.Walk) -> tuple[CodeRegion, ...]:
    """The code on a stack that the program can let go of while it runs."""
    regions = (space.find(pc) for pc, _how, _cfa in found.frames)
    leaving = {region.entry.start: region for region in regions
               if region is not None and region.loaded is not None and not region.loaded.stays}  # fmt: skip
    return tuple(leaving.values())


def _nothing() -> None:
    """What is done of work that can be left for the next time."""


def _words_of(found: unwind.Walk) -> bytes:
    return b"".join(pc.to_bytes(_WORD, "little") for pc, _how, _cfa in found.frames)


def _surer(one: unwind.Walk, other: unwind.Walk) -> bool:
    """Whether a walk has more frames that are no guesses than another, or as many and no fewer in all."""
    sure, those = (sum(how != "pointer" for _pc, how, _cfa in walk.frames) for walk in (one, other))
    return (sure, len(one.frames)) >= (those, len(other.frames))


def _relative(held: Registers, address: int, size: int) -> tuple[str, int, int] | None:
    near = ((address - held[name], name) for name in held.layout.args if 0 <= address - held[name] < memory.PAGE_SIZE)
    distance, name = min(near, default=(0, None))
    return None if name is None else (name, distance, size)


def _libc(space: CodeSpace) -> str:
    if space.libc is None:
        space.libc = _find_libc(space)
    return space.libc


def _find_libc(space: CodeSpace) -> str:
    names = [region.entry.path.rpartition(b"/")[2] for region in space.regions]
    if any(name.startswith((b"libc.musl", b"ld-musl")) for name in names):
        return "musl"
    return "glibc" if any(name.startswith((b"libc.so.6", b"libc-2")) for name in names) else ""


def _program_size(tid: Tid) -> int:
    try:
        return status(AT_FDCWD, b"/proc/%d/exe" % tid).size
    except OSError:
        return 0  # it was killed


def _block(tid: Tid, address: int, size: int) -> bytes:
    return memory.window(tid, Address(address), size) if 0 < address < _HIGHEST else b""


def _program(tid: Tid) -> bytes:
    found = proc.executable(tid)
    return b"" if isinstance(found, Unavailable) else found
