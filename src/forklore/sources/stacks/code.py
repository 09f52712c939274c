"""The code that the traced programs run: which file an address lies in, and which function of it.

Files are looked into once, however many processes have mapped them, and stay open while the trace lasts, for they
may be deleted or replaced meanwhile.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from errno import ETIMEDOUT
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.text import as_text
from forklore.abi.units import Address, Tid, Unavailable
from forklore.elf.cfi import unwind
from forklore.events import records as ev
from forklore.linux import mappings, memory, proc
from forklore.linux.files import strangers_file
from forklore.linux.mappings import Mapping, MappingKind
from forklore.sources.outbox import Outbox
from forklore.sources.stacks.language_threads import Function

if TYPE_CHECKING:
    from forklore.elf.cfi.frame_table import FrameTable
    from forklore.elf.cfi.returning_code import Way
    from forklore.elf.cpython.frames import Interpreter
    from forklore.elf.image.image import ElfImage, Section
    from forklore.elf.image.symbols import Symbol, Symbols
    from forklore.elf.image.thread_descriptors import PthreadLayout
    from forklore.linux.files.mapped_memory import MappedFile
    from forklore.sources.stacks.copied import MappedFiles

_VDSO_LIMIT: Final = 1 << 16
_FUNCTIONS: Final = 1 << 16


class Loaded(Struct, eq=False):
    """A file that code lies in, or a region without one, as far as it could be looked into."""

    entry: Mapping
    """The first mapping of it that was met."""
    number: int = 0
    """Of its record; 0: not written."""
    image: ElfImage | None = None
    table: FrameTable | None = None
    symbols: Symbols | None = None
    debug_file: DebugFile | None = None
    """Its separate debug file, which is looked for when it is needed."""
    unknown: Unavailable | None = None
    """Why there is no image."""
    stays: bool = True
    """It is mapped until the program executes another, or is no file. Else it is checked whenever a stack goes through
    it: another library may have been loaded in its place. (The build-id does not tell: linkers leave the names of
    static functions out of it.)"""
    stamp: strangers_file.Stamp | None = None
    functions: dict[int, Function] = {}
    """Functions by an address in them, as far as they were asked for."""
    ways: dict[int, Way | None] = {}
    calls: dict[int, tuple[bool, int | None]] = {}
    """What the unwinder found out about code without rules."""

    @property
    def path(self) -> bytes:
        """As /proc/PID/maps has it; empty for memory without a file."""
        return self.entry.path if self.entry.kind in (MappingKind.FILE, MappingKind.SPECIAL) else b""

    @property
    def described(self) -> ElfImage | None:
        """The image that has debug information: the separate debug file, or the file itself."""
        debug = None if self.debug_file is None else self.debug_file()
        image = debug or self.image
        if image is None or not (image.section(".debug_info") or image.section(".zdebug_info")):
            return None
        return image


class DebugFile:
    """The separate debug file of an image, looked for at the first call, and why one that is there is not used."""

    def __init__(
        self, image: ElfImage, root: strangers_file.Folder | None, entry: Mapping, refuse: Callable[[Unavailable], None]
    ) -> None:
        """``root``: the root directory of a task that has it mapped, where that is another than ours; it becomes this
        object's. ``refuse`` takes why a file that is there is not used."""
        self._image = image
        self._path = os.fsdecode(entry.path)
        self._refuse = refuse
        self._root = root
        self._found: ElfImage | None = None
        self._looked = False

    def __call__(self) -> ElfImage | None:
        """It; None where there is none."""
        if not self._looked:
            self._looked = True
            found = self._look()
            if isinstance(found, Unavailable):
                self._refuse(found)
            else:
                self._found = found
        return self._found

    def _look(self) -> ElfImage | Unavailable | None:
        from forklore.elf.image.debug_files import find_debug_file
        from forklore.elf.image.image import ElfImage

        theirs, self._root = self._root, None
        try:
            with strangers_file.root_of(None) as ours:
                found = find_debug_file(self._image, self._path, ours)
            if not isinstance(found, ElfImage) and theirs is not None:
                found = find_debug_file(self._image, self._path, theirs) or found
        except OSError:
            return None
        finally:
            if theirs is not None:
                theirs.close()
        return found


def _other_root(tid: Tid) -> strangers_file.Folder | None:
    """The root directory of a task where it is another than ours."""
    try:
        return other_than_ours(strangers_file.Folder(proc.root(tid), tid))
    except OSError:
        return None  # it was killed: it has no root any more


def other_than_ours(theirs: strangers_file.Folder) -> strangers_file.Folder | None:
    """A root directory where it is another than ours; else it is closed. OSError."""
    with strangers_file.root_of(None) as ours:
        if not theirs.same(ours):
            return theirs
    theirs.close()
    return None


class InMemory(Struct, eq=False):
    """What lies in a region, as far as the memory of its task tells. It can be asked while that task is held."""

    code: unwind.CodeMapping
    file: MappedFile | None = None
    image: ElfImage | None = None


class CodeRegion(Struct, eq=False):
    """An executable mapping. ``loaded`` and ``bias`` (what run-time addresses have over the file's own) are found
    when its code is first met.
    """

    entry: Mapping
    loaded: Loaded | None = None
    bias: int = 0
    code: unwind.CodeMapping | None = None
    """The same for the unwinder."""
    in_memory: InMemory | None = None
    """The same without a look into its file; None: not needed yet."""

    @property
    def silent(self) -> bool:
        """Whether it is of a file whose file system does not answer: to read it can be to wait for that."""
        unknown = None if self.loaded is None else self.loaded.unknown
        return unknown is not None and unknown.errno == ETIMEDOUT


class Walked(Struct, eq=False):
    """A stack that was walked, and all that the walk went by: what is the same again has the same stack."""

    registers: Callable[[Sequence[int]], tuple[int, ...]]
    """Picks registers out of the block, …"""
    values: tuple[int, ...]
    words: Callable[[Sequence[int]], tuple[int, ...]]
    """Picks the words of the stack, counted from the stack pointer, …"""
    last: int
    """… of which that is the highest, …"""
    contents: tuple[int, ...]
    number: int
    """… to this stack, …"""
    regions: tuple[CodeRegion, ...]
    """… as long as these have the same code."""


class FunctionExtent(Struct, frozen=True):
    """A function of a process's code."""

    start: int
    """Its run-time address."""
    name: bytes
    """Empty: not known."""
    size: int = 0
    """Bytes; 0: not known."""


class CodeSpace:
    """Where code lies in one memory. Its regions are replaced as a whole, so that a fork's copy can share them."""

    def __init__(self) -> None:
        self.regions: list[CodeRegion] = []
        self.starts: list[int] = []
        self.places: dict[int, int] = {}
        """Numbers of place records by run-time address; valid for these regions."""
        self.walked: dict[tuple[int, int], Walked | None] = {}
        """Stacks by the pc and sp that they began at; None: met once."""
        self.libc: str | None = None
        """Which C library is in it: glibc, musl, or empty; None: not looked for yet."""
        self.interpreter: Interpreter | Literal[False] | None = None
        """None: not looked for yet."""
        self.threads: PthreadLayout | Unavailable | None = None
        """How its C library's thread descriptors are laid out; None: not looked for yet."""
        self.program: bytes | None = None
        """The file that it was begun with; None: not looked for yet."""
        self.bottom: int | None = None
        """Where its first stack began; 0: not known, None: not looked for yet."""
        self.size: tuple[bytes, bytes] | None = None
        """How much was mapped just before it was looked where code lies."""

    def copy(self) -> CodeSpace:
        """For a child whose memory begins as a copy."""
        other = CodeSpace()
        other.regions, other.starts, other.places = self.regions, self.starts, self.places
        other.walked, other.libc = self.walked, self.libc
        other.interpreter, other.threads = self.interpreter, self.threads
        other.program, other.bottom, other.size = self.program, self.bottom, self.size
        return other

    def silent(self, address: int) -> bool:
        """Whether ``address`` lies in such a region."""
        region = self.find(address)
        return region is not None and region.silent

    def is_variable(self, address: int) -> bool:
        """Whether ``address`` lies in the data of a file whose code was looked into."""
        for region in self.regions:
            image = None if region.loaded is None else region.loaded.image
            inside = address - region.bias
            if image is not None and any(0 <= inside - load.address < load.memory_size for load in image.loads):
                return True
        return False

    def find(self, address: int) -> CodeRegion | None:
        """The region that ``address`` lies in."""
        index = bisect_right(self.starts, address) - 1
        if index < 0:
            return None
        region = self.regions[index]
        return region if address < region.entry.end else None


class TracedCode:
    """All code of a trace. Writes a record of each module and place before it is first referred to.

    A place gets its number while its task is held, and its name when nobody is.
    """

    def __init__(self, out: Outbox, machine: Arch) -> None:
        self._out = out
        self._machine = machine
        self._loaded: dict[object, Loaded] = {}
        self._modules = 0
        self._places: dict[tuple[int, int], int] = {}
        self._t = 0
        """When the place was met that is told of."""
        self.places: list[tuple[int, Loaded, int]] = []
        """Every place: its number, what it lies in, its address there."""
        self.at_hand: MappedFiles | None = None
        """While what was copied of a task is looked at that has gone on: the files that it had mapped."""

    def survey(self, space: CodeSpace, tid: Tid, *, anew: bool = True) -> bool:
        """Read where code lies in a held task's memory; False where it is as it was, unless it is to be taken anew."""
        space.size = proc.memory_size(tid)
        found = mappings.executable(tid)
        entries = [] if isinstance(found, Unavailable) else list(found)
        if not anew and entries == [region.entry for region in space.regions]:
            return False
        space.places, space.walked, space.threads, space.libc = {}, {}, None, None
        space.interpreter = space.interpreter or None
        space.regions = [CodeRegion(entry) for entry in entries]
        space.starts = [region.entry.start for region in space.regions]
        return True

    def loaded(self, region: CodeRegion, tid: Tid) -> Loaded:
        """What lies in a region of a held task."""
        if region.loaded is None:
            region.loaded = self._known(tid, region.entry)
            region.bias = _bias(region.loaded, region.entry)
            region.code = unwind.CodeMapping(
                region.loaded.table, region.bias, fixed=region.loaded.image is not None,
                ways=region.loaded.ways, calls=region.loaded.calls, made=_made(region.entry),
            )  # fmt: skip
        return region.loaded

    def in_memory(self, region: CodeRegion, tid: Tid) -> InMemory:
        """What lies in a region of a held task, by its memory alone."""
        found = region.in_memory
        if found is None:
            found = region.in_memory = self._in_memory(region, tid)
        if found.file is not None:
            found.file.tid = tid
        return found

    def _in_memory(self, region: CodeRegion, tid: Tid) -> InMemory:
        from forklore.elf.image.image import ElfImage
        from forklore.linux.files.mapped_memory import mapped_pages

        entry = region.entry
        if entry.kind is not MappingKind.FILE:
            self.loaded(region, tid)  # no file: it is read from memory
            assert region.code is not None
            return InMemory(region.code)
        mapped = Unavailable(ETIMEDOUT, "") if region.silent else mapped_pages(tid, entry)
        image = mapped if isinstance(mapped, Unavailable) else ElfImage.of_segments(mapped[1])
        if isinstance(mapped, Unavailable) or isinstance(image, Unavailable):
            return InMemory(unwind.CodeMapping(None, 0, fixed=False))
        header = image.segment_eh_frame_hdr()
        table = None if header is None else _table(image, image.arch or self._machine, header)
        bias = _bias_of(image, entry)
        image.loaded_at(bias)
        return InMemory(unwind.CodeMapping(table, bias), mapped[0], image)

    def changed(self, regions: Iterable[CodeRegion], tid: Tid) -> bool:
        """Whether other code lies in any of these now, in a held task."""
        leaving = ((region.entry, region.loaded) for region in regions if region.loaded and not region.loaded.stays)
        return any(not self._is_there(tid, entry, loaded) for entry, loaded in leaving)

    def _known(self, tid: Tid, entry: Mapping) -> Loaded:
        key: object
        if entry.kind is MappingKind.FILE:
            key = entry.major, entry.minor, entry.inode, entry.path
        else:
            key = (entry.path, entry.size) if entry.kind is MappingKind.SPECIAL else b""
        known = self._loaded.get(key)
        if known is None or not self._is_there(tid, entry, known):
            known = self._load(tid, entry)
            if self.at_hand is None or known.unknown is None:  # else it may be that it was asked for too late
                self._loaded[key] = known
        return known

    def _is_there(self, tid: Tid, entry: Mapping, loaded: Loaded) -> bool:
        found = None if self.at_hand is None else self.at_hand.of(entry)
        if loaded.stamp is None:
            return True
        if found is not None:
            return strangers_file.is_file(found, loaded.stamp)
        return strangers_file.is_mapped(tid, entry, loaded.stamp)

    def mapped_still(self, space: CodeSpace, tid: Tid) -> None:
        """Have in ``space`` where code lies in a held task's memory, as far as its size or its libraries tell that it
        is not where it was."""
        changed = self.changed(space.regions, tid)
        if changed or space.size is None or proc.memory_size(tid) != space.size:
            self.survey(space, tid, anew=changed)

    def _load(self, tid: Tid, entry: Mapping) -> Loaded:
        loaded = Loaded(entry)
        image: ElfImage | Unavailable | None = None
        if entry.kind is MappingKind.FILE:
            found = None if self.at_hand is None else self.at_hand.of(entry)
            root = None if self.at_hand is None else self.at_hand.root
            image, loaded.stamp = _image_of_file(tid, entry, found, root)
            if not self._is_there(tid, entry, loaded):
                loaded.stamp = None  # what is asked for here is not told as it was there
        elif entry.path == b"[vdso]":
            image = _image_of_memory(tid, entry)
        if isinstance(image, Unavailable):
            loaded.unknown = image
        elif image is not None:
            loaded.image = image
            loaded.stays = image.stays or entry.kind is not MappingKind.FILE
            root = _other_root(tid) if self.at_hand is None else self.at_hand.other_root()
            loaded.debug_file = DebugFile(image, root, entry, lambda why: self._refused(loaded.path, why))
            loaded.table, loaded.symbols = _tables(image, loaded.debug_file, self._machine)
        return loaded

    def _refused(self, path: bytes, why: Unavailable) -> None:
        self._out(
            ev.Note(t=self._t, what=f"the debug file of {as_text(path)}", why=as_text(os.fsencode(why.why)))
        )

    def place(self, space: CodeSpace, tid: Tid, address: int, t: int, *, returns: bool) -> int:
        """The number of the place at a run-time address.

        ``returns``: it is a return address, whose call lies before it: the last instruction of a function that never
        returns is a call.
        """
        number = space.places.get(address)
        if number is not None:
            return number
        region = space.find(address)
        loaded = None if region is None else self.loaded(region, tid)
        key = 0, address
        if region is not None and loaded is not None:
            key = self._number(loaded, t), address - region.bias
        number = self._places.get(key)
        if number is None:
            number = self._places[key] = len(self._places) + 1
            self._out.later(
                partial(self._tell, number, loaded, key[1], t, returns=returns),
                held=partial(self._tell_bare, number, loaded, key[1], t),
            )
        if region is not None:
            space.places[address] = number
        return number

    def _number(self, loaded: Loaded, t: int) -> int:
        if loaded.number == 0:
            self._modules += 1
            loaded.number = self._modules
            image = loaded.image
            self._out(
                ev.Module(
                    t=t, module=loaded.number, path=ev.text(loaded.path),
                    build_id=None if image is None else image.build_id,
                    device=loaded.entry.major << 20 | loaded.entry.minor, inode=loaded.entry.inode,
                    unknown=loaded.unknown,
                )
            )  # fmt: skip
        return loaded.number

    def function(self, space: CodeSpace, tid: Tid, address: int) -> Function | None:
        """The code at a run-time address of a held task; None where none is mapped."""
        region = space.find(address)
        if region is None:
            return None
        loaded = self.loaded(region, tid)
        inside = address - region.bias
        found = loaded.functions.get(inside)
        if found is None:
            symbol = _symbol(loaded, inside)
            found = Function(None if symbol is None else symbol.name, loaded.path)
            if loaded.image is not None and len(loaded.functions) < _FUNCTIONS:
                loaded.functions[inside] = found
        return found

    @staticmethod
    def known_function(region: CodeRegion, address: int) -> Function | None:
        """The same, where it was asked for before."""
        return None if region.loaded is None else region.loaded.functions.get(address - region.bias)

    def extent(self, space: CodeSpace, tid: Tid, address: int) -> FunctionExtent | None:
        """The function at a run-time address of a held task, as far as its own file tells; None where it is not known
        where one begins."""
        region = space.find(address)
        if region is None:
            return None
        loaded = self.loaded(region, tid)
        symbol = _symbol(loaded, address - region.bias, own=True)
        start = None if loaded.table is None else loaded.table.function_start(address - region.bias)
        if start is None:
            return None if symbol is None else FunctionExtent(symbol.address + region.bias, symbol.name, symbol.size)
        if symbol is None:
            return FunctionExtent(start + region.bias, b"")
        return FunctionExtent(start + region.bias, symbol.name, symbol.size if symbol.address == start else 0)

    def _tell(self, number: int, loaded: Loaded | None, address: int, t: int, *, returns: bool) -> None:
        self._t = t
        inside = address - 1 if returns else address
        if returns and loaded is not None and loaded.table is not None:
            rule = loaded.table.rule_at(inside)
            if rule is not None and rule.signal:  # a handler returns to where the trampoline begins
                inside = address
        try:
            symbol = None if loaded is None else _symbol(loaded, inside)
        except MemoryError:
            symbol = None  # the place is told all the same
        self._out(
            ev.Place(
                t=t, place=number, module=None if loaded is None else loaded.number, address=address,
                function=None if symbol is None else ev.text(symbol.name),
                start=None if symbol is None else symbol.address,
            )
        )  # fmt: skip
        if loaded is not None:
            self.places.append((number, loaded, inside))

    def _tell_bare(self, number: int, loaded: Loaded | None, address: int, t: int) -> None:
        module = None if loaded is None else loaded.number
        self._out(ev.Place(t=t, place=number, module=module, address=address))

    def name(self, space: CodeSpace, address: int) -> bytes:
        """The name of the function at a run-time address of code that was loaded; empty where it is not known."""
        region = space.find(address)
        if region is None or region.loaded is None:
            return b""
        symbol = _symbol(region.loaded, address - region.bias)
        return b"" if symbol is None else symbol.name

    def symbol(self, space: CodeSpace, tid: Tid, name: bytes, wanted: Callable[[Mapping], bool]) -> int | None:
        """The run-time address of a symbol that one of the files has whose mapping ``wanted`` accepts."""
        for region in space.regions:
            if not wanted(region.entry):
                continue
            symbols = self.loaded(region, tid).symbols
            found = None if symbols is None else symbols.find(name, own=True)
            if found is not None:
                return found.address + region.bias
        return None


def _made(entry: Mapping) -> bool:
    # What lies in a memfd or a deleted file has a name, and is told by it.
    return entry.kind in (MappingKind.ANONYMOUS, MappingKind.HEAP, MappingKind.STACK)


def _symbol(loaded: Loaded, address: int, *, own: bool = False) -> Symbol | None:
    if loaded.symbols is None:
        return None
    start = None if loaded.table is None else loaded.table.function_start(address)
    return loaded.symbols.at(address, start, own=own)


def _bias(loaded: Loaded, entry: Mapping) -> int:
    return 0 if loaded.image is None else _bias_of(loaded.image, entry)


def _bias_of(image: ElfImage, entry: Mapping) -> int:
    if entry.kind is MappingKind.SPECIAL:
        return entry.start - image.loads[0].address if image.loads else 0
    # Two segments can lie in one page of the file, at different addresses (as lld lays them out).
    for load in image.loads:
        first = load.offset - load.offset % memory.PAGE_SIZE
        if load.executable and first <= entry.offset < load.offset + load.file_size:
            return entry.start - (load.address + entry.offset - load.offset)
    address = image.address_of(entry.offset)
    return 0 if address is None else entry.start - address


def _image_of_file(
    tid: Tid, entry: Mapping, at_hand: int | None, root: strangers_file.Folder | None
) -> tuple[ElfImage | Unavailable, strangers_file.Stamp | None]:
    from forklore.elf.image.image import ElfImage

    file = strangers_file.open_mapped(tid, entry, at_hand, root)
    if isinstance(file, Unavailable):
        return file, None
    return ElfImage.open(file), strangers_file.stamp(file)


def _image_of_memory(tid: Tid, entry: Mapping) -> ElfImage | Unavailable:
    from forklore.elf.image.image import ElfImage

    pages = range(entry.start, min(entry.end, entry.start + _VDSO_LIMIT), memory.PAGE_SIZE)
    return ElfImage.of_bytes(b"".join(memory.window(tid, Address(page), memory.PAGE_SIZE) for page in pages))


def _tables(image: ElfImage, debug: DebugFile, machine: Arch) -> tuple[FrameTable, Symbols]:
    from forklore.elf.cfi.frame_table import FrameTable
    from forklore.elf.image.symbols import Symbols

    arch = image.arch or machine
    inside = image.section(".debug_frame")
    if inside is not None and inside.compressed:
        inside = None
    table = FrameTable(
        image.data, bits=image.bits, arch=arch,
        eh_frame_hdr=_bounds(image.segment_eh_frame_hdr()), eh_frame=_bounds(image.section(".eh_frame")),
        debug_frame=_bounds(inside), further=lambda: _further(image, debug, arch),
        holds=lambda start, end: _holds(image, arch, start, end), need=image.need,
    )  # fmt: skip
    return table, Symbols(image, debug)


def _table(image: ElfImage, arch: Arch, header: Section) -> FrameTable:
    from forklore.elf.cfi.frame_table import FrameTable

    return FrameTable(
        image.data, bits=image.bits, arch=arch, eh_frame_hdr=_bounds(header), eh_frame=None, debug_frame=None,
        need=image.need,
    )  # fmt: skip


def _further(image: ElfImage, debug: DebugFile, arch: Arch) -> FrameTable | None:
    from forklore.elf.cfi.debug_frames import further_rules

    return further_rules(image, debug, arch)


def _holds(image: ElfImage, arch: Arch, start: int, end: int) -> bool:
    from forklore.elf.cfi.debug_frames import keeps_its_stack

    return keeps_its_stack(image, arch, start, end)


def _bounds(section: Section | None) -> tuple[int, int, int] | None:
    return None if section is None else (section.offset, section.address, section.size)
