"""Who makes a child: the creator's registers and the stack that was copied at the creation, walked afterwards.

Where its code lies comes with the kernel's own records, so that a program that is gone is named, too; files are opened
by path and have to be the same inode. Of a process that ran before, /proc/PID/maps tells, as long as it is there.
"""

from __future__ import annotations

import os
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Mapping_
from functools import partial
from typing import Final

from msgspec import Struct

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.flags import CLONE_THREAD, CLONE_VM
from forklore.abi.units import Pid, Tid
from forklore.elf.cpython.frames import StartedThread
from forklore.elf.dwarf.registers import dwarf_block
from forklore.events import records as ev
from forklore.linux import mappings
from forklore.linux.mappings import Mapping, MappingKind
from forklore.linux.perf.code import Executed, Mapped, Missed, Record
from forklore.sources.bpf import raw
from forklore.sources.bpf.interpreters import Interpreters, may_hold
from forklore.sources.bpf.task import Followed, Group
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace.options import Options
from forklore.sources.ptrace.tracee import Class, EnteredCall, Glance
from forklore.sources.stacks.call_stacks import StackReader
from forklore.sources.stacks.code import CodeRegion, CodeSpace, Loaded, TracedCode
from forklore.sources.stacks.tail_calls import Jumps

_UNKNOWN: Final = "where its code lay is not known: it was gone before it could be asked for"


class Caller(Struct, frozen=True):
    """Who made a child, by number, and what the child is given to run; None: not known."""

    stack: int | None
    script: int | None
    runs: ev.Runs | None


class Code:
    """Where the code of each process lies, as records tell it one after another."""

    def __init__(self) -> None:
        self.known: dict[Pid, list[Mapping]] = {}
        self.whole = True
        """False: records were lost, and of every process /proc is asked again."""

    def take(self, record: Record) -> Pid | None:
        """The next record: whose mappings are others now."""
        match record:
            case Mapped():
                # Not of one that ran before: what else it has is not known.
                if record.pid in self.known:
                    _put(self.known[record.pid], record.entry)
                return record.pid
            case Executed():
                self.known[record.pid] = []
                return record.pid
            case Missed():
                self.known.clear()
        return None

    def forked(self, creator: Pid, child: Pid) -> None:
        """A child's memory begins as a copy."""
        if creator in self.known:
            self.known[child] = list(self.known[creator])

    def of(self, pid: Pid) -> list[Mapping]:
        """Where it lies now; /proc tells of a process that ran before, and of one that is gone nothing does."""
        if pid not in self.known:
            found = mappings.executable(Tid(pid))
            if not isinstance(found, mappings.Mappings) or not (entries := list(found)):
                return []
            self.known[pid] = entries
        return self.known[pid]

    def ended(self, pid: Pid) -> None:
        """A process is gone."""
        self.known.pop(pid, None)


def _put(entries: list[Mapping], new: Mapping) -> None:
    # What it lies over is there no more. Of one that is cut both ends are kept out: they are seldom code.
    start = bisect_left(entries, new.start, key=lambda entry: entry.end)
    while start < len(entries) and entries[start].start < new.end:
        if entries[start].end <= new.start:
            start += 1
            continue
        del entries[start]
    insort(entries, new, key=lambda entry: entry.start)


class CopiedCode(TracedCode):
    """Code of processes that go on meanwhile: what lay where is told by records, and not asked of them again."""

    def changed(self, regions: Iterable[CodeRegion], tid: Tid) -> bool:
        """The records would have told."""
        return False

    def _known(self, tid: Tid, entry: Mapping) -> Loaded:
        key = (entry.major, entry.minor, entry.inode, entry.path) if entry.inode else (entry.path, entry.size)
        known = self._loaded.get(key)
        if known is None:
            known = self._load(tid, entry)
            if known.unknown is not None and entry.kind is MappingKind.FILE:  # it is gone: as we see its file
                known = self._load(Tid(os.getpid()), entry)
            self._loaded[key] = known
        return known


class CopiedStacks(StackReader):
    """Walks stacks that were copied, and writes each that is new."""

    def __init__(
        self, machine: Arch, options: Options, emit: Callable[[ev.Event], None], tell: Callable[[int, bytes], None]
    ) -> None:
        """``tell``: the programs in the kernel of an interpreter, as :class:`Interpreters` has it."""
        out = Outbox(emit)
        super().__init__(machine, options, out)
        self.code = CopiedCode(out, machine)
        self._jumps = Jumps(self.code)
        self._spaces: dict[Group, CodeSpace] = {}
        self._stale: set[Pid] = set()
        self.where_code_lies = Code()
        self._interpreters = Interpreters(self.code, tell, by_tid=machine is not Arch.X86_64)

    def take(self, records: Iterable[Record], ours: Mapping_[Pid, Group]) -> None:
        """What was mapped meanwhile, by our processes and by others of the machine."""
        for record in records:
            if not isinstance(record, Missed) and record.pid not in ours:
                continue
            pid = self.where_code_lies.take(record)
            if isinstance(record, Missed):
                self._spaces.clear()
            elif pid is not None:
                self._stale.add(pid)
            if isinstance(record, Executed):
                self._interpreters.forget(record.pid)
            elif isinstance(record, Mapped):
                if may_hold(record.entry):
                    self._interpreters.expect(record.pid)
                self._look_into(ours[record.pid])

    def _look_into(self, group: Group) -> None:
        self._interpreters.look_into(group.tgid, partial(self._code_of, group))

    def begin(self, group: Group) -> None:
        """A process that runs already: its interpreter, so that the first child that it makes is told whole."""
        self._code_of(group)
        self._look_into(group)

    def created(self, creator: Followed, child: Followed, record: raw.Create, t: int) -> Caller:
        """Who made the child. What is new of it is written now: nobody waits for it."""
        told = self._interpreters.told(record)
        number, runs = self._walked_stack(creator, child, record, t, None if told is None else told.started)
        self._look_into(creator.group)
        script = None if told is None else self._script_number(told.language, told.stack, t, late=True)
        self._out.empty()
        return Caller(number, script, runs)

    def look_ahead(self, records: Iterable[raw.Record], known: Mapping_[int, Followed]) -> None:
        """What of these creations cannot wait until all that was before is told: an interpreter's frames. ``known``:
        tasks by the programs' number.
        """
        processes: dict[int, Pid] = {}
        made = []
        for record in records:
            if not isinstance(record, raw.Create):
                continue
            task = record.head.task
            creator = processes.get(task) or (known[task].group.tgid if task in known else None)
            if creator is not None:
                child = creator if record.flags & CLONE_THREAD else Pid(record.pids[0])
                processes[record.child] = child
                made.append((creator, child, record))
        self._interpreters.look_ahead(made, self._depth)

    def _walked_stack(
        self, creator: Followed, child: Followed, record: raw.Create, t: int, started: StartedThread | None
    ) -> tuple[int | None, ev.Runs | None]:
        if child.group is not creator.group:
            self.where_code_lies.forked(creator.group.tgid, child.group.tgid)
            space = self._spaces.get(creator.group)
            if space is not None:
                self._spaces[child.group] = space if record.flags & CLONE_VM else space.copy()
        if not record.stack or record.by_kernel:
            return None, None
        held = record.call.registers
        arch = Arch.I386 if record.call.arch is Arch.I386 else self._machine
        if arch is Arch.I386:
            return None, None  # the registers of a 32-bit program are kept as a 64-bit one's
        self._seen = Glance(creator.tid, held, held[held.layout.sp], record.stack, 0, b"", further=record.beside)
        self._looked_at = space = self._code_of(creator.group)
        if not space.regions:
            return self._numbered((), _UNKNOWN, t), None
        found, _unknown = self._walk_once(space, creator.tid, arch, dwarf_block(arch, held.raw), None)
        number = self._number(space, creator.tid, arch, found, t)
        return number, self._given_to_run(space, creator.tid, record, t, started)

    def _given_to_run(
        self, space: CodeSpace, tid: Tid, record: raw.Create, t: int, started: StartedThread | None
    ) -> ev.Runs | None:
        call = record.call
        name = None if call.arch is None else syscalls.name(call.arch, call.nr)
        if call.arch is None or name is None or not record.beside:
            return None
        entry = EnteredCall(
            Class.CREATION, name, t, call.arch, call.nr, call.words, flags=record.flags, struct=call.struct
        )
        self._runs(space, tid, call.registers, entry, t, started)
        return entry.runs

    def _code_place(self, space: CodeSpace, tid: Tid, address: int | None, t: int) -> int | None:
        # Code that no record told of is not looked for: the process may have other code by now.
        return None if address is None or space.find(address) is None else super()._code_place(space, tid, address, t)

    def _code_of(self, group: Group) -> CodeSpace:
        space = self._spaces.get(group)
        if space is None or group.tgid in self._stale:
            self._stale.discard(group.tgid)
            entries = self.where_code_lies.of(group.tgid)
            space = self._spaces[group] = CodeSpace()
            space.regions = [CodeRegion(entry) for entry in entries]
            space.starts = [region.entry.start for region in space.regions]
            if any(map(may_hold, entries)):
                self._interpreters.expect(group.tgid)
        return space

    def _read(self, address: int, size: int) -> bytes | None:
        # What is not in the copy cannot be had, for the memory has gone on; but code is what its file has.
        known = self._seen.read(address, size)
        return self._of_file(address, size) if known is None else known

    def ended(self, group: Group) -> None:
        """A process is gone."""
        self._spaces.pop(group, None)
        self._stale.discard(group.tgid)
        self.where_code_lies.ended(group.tgid)
        self._interpreters.forget(group.tgid)
