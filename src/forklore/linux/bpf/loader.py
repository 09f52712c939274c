"""Objects with BPF programs are loaded into the kernel and attached: maps first, then each program by itself.

The kernel fits a program to the layout of its own structs (CO-RE, Linux 5.17). Because each program is loaded alone,
one whose hook is not there is left out, and an error names the program, the hook and what the verifier says.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final

from msgspec import Struct

from forklore.abi.units import Fd
from forklore.linux.bpf import calls, rights
from forklore.linux.bpf.calls import AttachType, MapFlag, MapType, ProgramType, Refused
from forklore.linux.bpf.hooks import Hooks
from forklore.linux.bpf.object import BpfObject, Program
from forklore.linux.bpf.tracepoints import attach as tracepoints_attach
from forklore.linux.lockdown import lockdown
from forklore.linux.ours.closing import close_elsewhere
from forklore.linux.tracefs import Tracefs

_LOG: Final = 1 << 20
_RESOLVED: Final = re.compile(r"^\d+: .*$|^; .*$|^processed .*$", re.M)
_LD_IMM64: Final = 0x18
_MAP_FD, _MAP_VALUE = 1, 2  # BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE


_NO_TRACEFS: Final = (
    "the numbers of tracepoints are in tracefs, which is not there for forklore's user to read, and only CAP_SYS_ADMIN"
    " may mount it"
)


class LoadError(Exception):
    """Programs cannot be loaded or attached; the text says which, why, and what to do."""


class MissingHookError(LoadError):
    """The running kernel has nothing of that name to attach to."""


class _Hook(Struct, frozen=True):
    kind: ProgramType
    attach: AttachType | None
    name: str


def _hook(program: Program) -> _Hook:
    where, _, name = program.section.lstrip("?").partition("/")
    match where:
        case "tp_btf":
            return _Hook(ProgramType.TRACING, AttachType.RAW_TRACEPOINT, name)
        case "fexit":
            return _Hook(ProgramType.TRACING, AttachType.FEXIT, name)
        case "iter":
            return _Hook(ProgramType.TRACING, AttachType.ITERATOR, name)
        case "tracepoint":
            return _Hook(ProgramType.TRACEPOINT, None, name)
    raise LoadError(f"the program {program.name} is for {program.section}, which this loader does not attach to")


class Loaded:
    """An object's maps, and those of its programs that were loaded. All of it goes with the block, or with us."""

    def __init__(self, source: BpfObject, settings: Mapping[str, int | bytes], sizes: Mapping[str, int]) -> None:
        """Make the maps. ``settings``: read-only variables by name; ``sizes``: entries (a ring: bytes) of maps.

        Raises LoadError.
        """
        self._source = source
        self._fds: list[int] = []
        self._links: dict[str, Fd] = {}
        self._slow: list[Fd] = []
        """What takes long to close: programs on classic tracepoints."""
        self.programs: dict[str, Fd] = {}
        self.maps: dict[str, Fd] = {}
        self._variables: mmap.mmap | None = None
        try:
            self._hooks = Hooks()
            self._make(settings, sizes)
        except OSError as problem:
            self.close()
            raise LoadError(explained(problem)) from problem

    def _make(self, settings: Mapping[str, int | bytes], sizes: Mapping[str, int]) -> None:
        source = self._source
        self._btf = self._own(calls.load_btf(source.btf))
        for each in source.maps.values():
            entries = sizes.get(each.name, each.entries)
            self.maps[each.name] = self._own(
                calls.create_map(each.name, each.type, each.key, each.value, entries, each.flags)
            )
        if source.read_only:
            fixed = self._array(".rodata", len(source.read_only), MapFlag.RDONLY_PROG)
            calls.update(fixed, bytes(4), self._set(settings), "the settings of the BPF programs")
            calls.freeze(fixed, "the settings of the BPF programs")
        if source.room:
            where = self._array(".bss", source.room, MapFlag.MMAPABLE)
            self._variables = mmap.mmap(where, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)

    def _array(self, name: str, size: int, flag: MapFlag) -> Fd:
        self.maps[name] = self._own(calls.create_map(f"forklore{name}", MapType.ARRAY, 4, size, 1, flag))
        return self.maps[name]

    def _set(self, settings: Mapping[str, int | bytes]) -> bytes:
        block = bytearray(self._source.read_only)
        for name, value in settings.items():
            variable = self._source.variables[name]
            raw = value if isinstance(value, bytes) else value.to_bytes(variable.size, "little")
            block[variable.offset : variable.offset + variable.size] = raw.ljust(variable.size, b"\0")
        return bytes(block)

    def _own(self, fd: Fd) -> Fd:
        self._fds.append(fd)
        return fd

    def load_all(self, names: Iterable[str], meanwhile: Callable[[], None]) -> dict[str, LoadError | None]:
        """Load several, each in a thread of its own, for the verifier takes long and asks for nothing of ours.

        ``meanwhile`` is called while they load. Of each, the error that it was refused with.
        """
        found: dict[str, LoadError | None] = {}

        def one(name: str) -> None:
            try:
                self.load(name)
                found[name] = None
            except LoadError as problem:
                found[name] = problem

        threads = [threading.Thread(target=one, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        try:
            meanwhile()
        finally:
            for thread in threads:
                thread.join()
        return found

    def load(self, name: str, hook: str | None = None) -> Fd:
        """Load a program; ``hook``: for another one than its section names. Raises LoadError, MissingHookError."""
        program = self._source.programs[name]
        wanted = _hook(program)
        where = wanted.name if hook is None else hook
        try:
            fd = self._load(program, wanted, where)
        except OSError as problem:
            log = problem.log if isinstance(problem, Refused) else ""
            raise LoadError(explained(problem, f"{where} (program {name})", log)) from problem
        self.programs[name if hook is None else f"{name} {hook}"] = self._own(fd)
        return fd

    def _load(self, program: Program, wanted: _Hook, where: str) -> Fd:
        number = 0
        if wanted.kind is ProgramType.TRACING:
            found = self._number(wanted, where)
            if found is None:
                what = "a tracepoint" if wanted.attach is AttachType.RAW_TRACEPOINT else "a function"
                raise MissingHookError(f"this kernel ({os.uname().release}) has no {what} {where} for BPF programs")
            number = found
        code = self._referring(program)
        try:
            return self._try(program, wanted, code, number, 0)
        except Refused as problem:
            if problem.errno == errno.EPERM:
                raise
        return self._try(program, wanted, code, number, _LOG)  # once more, to hear why

    def _number(self, wanted: _Hook, where: str) -> int | None:
        if wanted.attach is AttachType.RAW_TRACEPOINT:
            return self._hooks.tracepoint(where)
        return self._hooks.function(f"bpf_iter_{where}" if wanted.attach is AttachType.ITERATOR else where)

    def _try(self, program: Program, wanted: _Hook, code: bytes, number: int, log: int) -> Fd:
        return calls.load_program(
            program.name, wanted.kind, code, attach=wanted.attach, attach_btf=number, btf=self._btf,
            functions=program.functions, relocations=program.relocations, log=log,
        )  # fmt: skip

    def _referring(self, program: Program) -> bytes:
        code = bytearray(program.instructions)
        for reference in program.references:
            at = reference.offset
            if code[at] != _LD_IMM64:
                raise LoadError(f"{program.name} refers to {reference.map} by an instruction that is not known")
            to = code[at + 1] & 0xF
            code[at + 1] = (_MAP_FD if reference.inside is None else _MAP_VALUE) << 4 | to
            struct.pack_into("<I", code, at + 4, self.maps[reference.map])
            struct.pack_into("<I", code, at + 12, reference.inside or 0)
        return bytes(code)

    def attach(self, name: str) -> None:
        """Have a tracing program that was loaded run from now on. Raises LoadError."""
        hook = _hook(self._source.programs[name.partition(" ")[0]]).name
        try:
            self._links[name] = self._own(calls.attach_tracing(self.programs[name], f"attaching to {hook}"))
        except OSError as problem:
            raise LoadError(explained(problem, hook)) from problem

    def attach_tracepoints(self, name: str, group: str, tracepoints: Iterable[str]) -> int:
        """Attach a program to each of these that the kernel has: to how many. Raises LoadError."""
        try:
            tracefs = Tracefs()
        except OSError as problem:
            raise LoadError(f"{problem.filename}: {problem.strerror}: {_NO_TRACEFS}") from problem
        try:
            try:
                numbers = {each: tracefs.number(group, each) for each in tracepoints}
            finally:
                tracefs.close()
        except OSError as problem:
            raise LoadError(_no_tracefs(problem)) from problem
        try:
            for each, number in numbers.items():
                if number is not None:
                    fd = tracepoints_attach(self.programs[name], number, f"attaching to {group}/{each}")
                    self._slow.append(fd)
        except OSError as problem:
            raise LoadError(explained(problem)) from problem
        return sum(number is not None for number in numbers.values())

    def iterate(self, name: str) -> bytes:
        """Run an iterator program over all that there is: what it wrote. Raises LoadError."""
        try:
            return calls.iterate(self.programs[name], f"going through all tasks by the program {name}")
        except OSError as problem:
            raise LoadError(explained(problem, name)) from problem

    def detach(self, names: Iterable[str] | None = None) -> None:
        """None of these programs runs any more, or none but those on classic tracepoints; what they wrote can still be
        read.
        """
        for name in list(self._links) if names is None else names:
            fd = self._links.pop(name, None)
            if fd is not None:
                self._fds.remove(fd)
                os.close(fd)

    def variable(self, name: str) -> bytes:
        """What a variable of the programs' holds now."""
        assert self._variables is not None
        variable = self._source.variables[name]
        return self._variables[variable.offset : variable.offset + variable.size]

    def number(self, name: str) -> int:
        """The same of one that is a number, unsigned."""
        return int.from_bytes(self.variable(name), "little")

    def missed(self) -> dict[str, int]:
        """How often each program was not run because it was running on that processor already, where it was so."""
        counts = ((name, calls.missed(fd)) for name, fd in self.programs.items())
        return {name: count for name, count in counts if count}

    def put(self, map_: str, key: bytes, value: bytes) -> None:
        """Set one element of a map. Raises OSError."""
        calls.update(self.maps[map_], key, value, f"an entry of {map_}")

    def mark(self, map_: str, keys: Iterable[int]) -> None:
        """Put numbers into a map that has them for keys. Raises LoadError."""
        size = self._source.maps[map_].key
        try:
            for key in keys:
                calls.update(self.maps[map_], key.to_bytes(size, sys.byteorder), bytes(4), f"an entry of {map_}")
        except OSError as problem:
            raise LoadError(explained(problem)) from problem

    def close(self) -> None:
        """Everything is gone from the kernel."""
        if self._variables is not None:
            self._variables.close()
            self._variables = None
        self._links.clear()
        close_elsewhere(self._slow)
        self._slow.clear()
        while self._fds:
            os.close(self._fds.pop())
        if hasattr(self, "_hooks"):
            self._hooks.__exit__(None, None, None)
            del self._hooks

    def __enter__(self) -> Loaded:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.close()


def has_tracepoint(name: str) -> bool:
    """Whether programs can be attached to a tracepoint of this name here. Raises LoadError."""
    try:
        with Hooks() as hooks:
            return hooks.tracepoint(name) is not None
    except OSError as problem:
        raise LoadError(explained(problem)) from problem


def explained(problem: OSError, hook: str = "", log: str = "") -> str:
    """A refusal of bpf(2) in words: what was refused, why, and what to do."""
    what = hook or problem.filename or "bpf(2)"
    reason = os.strerror(problem.errno or 0)
    match problem.errno:
        case errno.EPERM | errno.EACCES if not log:
            why = rights.why_refused()
        case _ if "bpf_probe_read_kernel" in log and lockdown() == "confidentiality":
            why = rights.LOCKED
        case errno.ENOSYS:
            why = "this kernel is built without bpf(2) (CONFIG_BPF_SYSCALL)"
        case errno.EINVAL if not log:
            why = "this kernel does not know what was asked of it: forklore's programs need Linux 5.17 with BTF"
        case errno.ENOMEM:
            why = "there is no memory for it; a smaller --buffer needs less"
        case errno.E2BIG if log:
            why = "the program is too large for this kernel's verifier"
        case _:
            why = ""
    said = _last_words(log)
    return ": ".join(part for part in (what, reason, why, said) if part)


def _no_tracefs(problem: OSError) -> str:
    if lockdown() == "confidentiality":
        return f"the tracepoints' numbers are in tracefs: {rights.LOCKED}"
    return (
        "the tracepoints' numbers are in tracefs, which this user can neither read nor mount"
        f" ({os.strerror(problem.errno or 0)}): run forklore as root, or let a group of its read them: mount -t tracefs"
        " -o gid=GROUP,mode=750 tracefs /sys/kernel/tracing"
    )


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip() and not _RESOLVED.match(line)]
    return f"the verifier says: {lines[-1]}" if lines else ""
