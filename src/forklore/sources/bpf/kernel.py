"""The programs of one trace in the kernel: which of them this kernel can have, loaded, attached, read from."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.abi.units import Pid, Tid, Unavailable
from forklore.events import records as ev
from forklore.linux import proc
from forklore.linux.bpf.loader import Loaded, LoadError, MissingHookError, explained, has_tracepoint
from forklore.linux.bpf.ring import Ring, power_of_two
from forklore.linux.perf.code import Record as SideRecord
from forklore.linux.perf.code import SideRecords
from forklore.linux.perf.events import paranoid
from forklore.sources.bpf import raw
from forklore.sources.bpf.programs import programs
from forklore.sources.unheld import BUFFER

if TYPE_CHECKING:
    from forklore.sources.bpf.follower import Follower

STACK: Final = 4096
"""Bytes of a creator's stack that are copied."""
_KINDS: Final = 16
_UNDER_WAY: Final = 1_000_000
"""Nanoseconds that a record may take from its time to its place in the ring."""
_READ_ON: Final = 2_000_000
"""Nanoseconds after which it is read what came meanwhile: a stack that is new takes long, and creators end, …"""
_READS: Final = 64
"""… so often, before what has come is given on to be written."""
_WHERE_CODE_LIES: Final = "perf_event_open, for where code lies"
_ALWAYS: Final = ("task_newtask", "sched_process_exec", "signal_generate", "task_rename")


class Filter(Struct, frozen=True, kw_only=True):
    """Whom to follow on a machine, decided in the kernel. With none of these: everybody."""

    uid: int | None = None
    cgroup: int | None = None
    """The inode number of its directory in the unified hierarchy: it and what is below."""
    comm: bytes | None = None


class Failures(StrEnum):
    """Whether refused calls are to be seen, and unshare, setns, close_range and setsid with them."""

    AUTO = "auto"
    """Where that costs other calls nothing, or little beside what was asked for."""
    YES = "yes"
    NO = "no"


_CALLS: Final = (
    "clone", "clone3", "fork", "vfork", "execve", "execveat", "unshare", "setns", "close_range", "setsid",
)  # fmt: skip
_PREFIXES: Final = {Arch.X86_64: "__x64_sys_", Arch.AARCH64: "__arm64_sys_", Arch.RISCV64: "__riscv_sys_"}


_WITHOUT_ARGUMENTS: Final = ("fork", "vfork", "setsid")
_RETURNS: Final = {"execve": "exec_returns", "execveat": "exec_returns"}


def functions(arch: Arch) -> Iterator[tuple[str, str]]:
    """Each call that this arch has, and the kernel's function of it as its BTF names it."""
    for call in _CALLS:
        if syscalls.number(arch, call) is not None:
            # x86 has one function for both ABIs then; __x64_sys_fork is another name of it, which BTF lacks
            # (arch/x86/include/asm/syscall_wrapper.h: __SYS_STUB0).
            inner = arch is Arch.X86_64 and call in _WITHOUT_ARGUMENTS
            yield call, f"{'__do_sys_' if inner else _PREFIXES[arch]}{call}"


class Events:
    """The kernel's events, from when this is made until :meth:`close`. Raises LoadError."""

    def __init__(
        self, arch: Arch, *, buffer: int = BUFFER, argv: bool = True, env: bool = False, stack: int = 0,
        everything: Filter | None = None, failures: Failures = Failures.AUTO,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """``buffer``: bytes of the ring; ``argv``, ``env``: what is told of an exec; ``stack``: how many bytes of each
        creator's stack; ``everything``: follow all that this lets pass, not just what descends from marked processes.
        ``meanwhile`` is called while the kernel verifies the programs.
        """
        self._arch = arch
        self.calls_seen_by = "nothing"
        """How refused calls are seen: ``functions``, ``tracepoints`` or ``nothing``."""
        self.unseen_because = "--failures no"
        self._side: SideRecords | None = None
        self._mapped: deque[SideRecord] = deque()
        self.functions_refused = ""
        """Why no program can be put on the kernel's functions."""
        self.group_dead = False
        """Whether the kernel itself tells which thread is the last of its process."""
        self._size = power_of_two(buffer)
        self._reader = raw.Reader(arch)
        self.without: list[str] = []
        """What this kernel cannot tell, in words."""
        settings: dict[str, int | bytes] = {
            "no_arguments": not argv,
            "environment": env,
            "stack_bytes": stack,
            "wake_bytes": self._size >> 3,
        }
        if everything is not None:
            settings |= _filtering(everything)
        if not has_tracepoint("sched_prepare_exec"):
            settings["late_arguments"] = 1
        self._loaded = Loaded(programs(arch), settings, {"ring": self._size})
        try:
            if stack:
                self._side = _side_records()
            self._load(failures, machine_wide=everything is not None, meanwhile=meanwhile)
            self._ring = Ring(self._loaded.maps["ring"], self._size)
        except BaseException:
            if self._side is not None:
                self._side.close()
            self._loaded.close()
            raise

    def _load(self, failures: Failures, *, machine_wide: bool, meanwhile: Callable[[], None]) -> None:
        loaded = self._loaded
        functions = [] if failures is Failures.NO else self._functions()
        at_a_price = failures is Failures.YES or (failures is Failures.AUTO and not machine_wide)
        # The longest first. Of two for one hook the kernel takes the second where it refuses the first.
        names = ["syscall_returns"] if at_a_price and not functions else []
        names += ["sched_prepare_exec", *_ALWAYS, "sched_process_exit", "existing", "who_reads"]
        found = loaded.load_all(names, meanwhile)
        calls = found.pop("syscall_returns", None)
        wanted = [*_ALWAYS, *(name for name in ("sched_prepare_exec", "sched_process_exit") if not found[name])]
        self.group_dead = "sched_process_exit" in wanted
        if isinstance(found.pop("sched_prepare_exec"), MissingHookError):  # Linux before 6.10
            self.without.append("late arguments")
        ends = found.pop("sched_process_exit")
        if isinstance(ends, MissingHookError):
            raise ends
        if ends is not None:  # Linux before 6.16: the tracepoint has no second argument
            loaded.load("sched_process_exit_before")
            wanted.append("sched_process_exit_before")
        for problem in found.values():
            if problem is not None:
                raise problem
        loaded.iterate("who_reads")
        for name in wanted:
            loaded.attach(name)
        if functions and self._attach_functions(functions):
            self.calls_seen_by = "functions"
        elif at_a_price:
            self._attach_calls(calls, failures)
        elif failures is not Failures.NO:
            self.unseen_because += "; tracepoints would slow every system call of the machine: --failures yes"

    def _functions(self) -> list[str]:
        """Programs on the functions of calls, loaded: they cost other calls nothing. None where the kernel has none."""
        wanted = [(_RETURNS.get(call, "function_returns"), name) for call, name in functions(self._arch)]
        try:
            for program, function in wanted:
                self._loaded.load(program, function)
        except LoadError as problem:
            self.unseen_because = self.functions_refused = str(problem)
            return []
        return [f"{program} {function}" for program, function in wanted]

    def _attach_functions(self, names: list[str]) -> bool:
        try:
            for name in names:
                self._loaded.attach(name)
        except LoadError as problem:
            self._loaded.detach(names)  # or a call would be told twice
            self.unseen_because = self.functions_refused = str(problem)
            return False
        return True

    def _attach_calls(self, refused: LoadError | None, failures: Failures) -> None:
        try:
            if refused is not None:
                raise refused
            if "syscall_returns" not in self._loaded.programs:
                self._loaded.load("syscall_returns")
            points = [f"sys_exit_{call}" for call in _CALLS]
            self._loaded.attach_tracepoints("syscall_returns", "syscalls", points)
            self.calls_seen_by = "tracepoints"
        except LoadError as problem:
            self.unseen_because = str(problem)
            if failures is Failures.YES:
                raise

    def mark(self, pids: Iterable[Pid]) -> None:
        """Follow these processes and what descends from them: a record of each of their tasks comes first."""
        self._loaded.mark("marked", pids)
        self._loaded.iterate("existing")

    def copy_frames(self, pid: int, interpreter: bytes) -> None:
        """Of whoever makes a child in this process its interpreter's frames are copied. Raises OSError."""
        self._loaded.put("interpreters", struct.pack("=I", pid), interpreter)

    def look(self) -> None:
        """A record of each task that there is and that passes the filter."""
        self._loaded.iterate("existing")

    def wait(self, seconds: float) -> None:
        """Until there is much to read, or so long."""
        self._ring.wait(seconds)

    def wait_for(self, fd: int) -> None:
        """:meth:`wait` ends when this can be read, too: once."""
        self._ring.also(fd)

    def records(self, most: int) -> Iterator[raw.Record]:
        """What is there now, no more than so much."""
        read = self._reader.read
        for record in self._ring.records(most):
            yield read(record)

    def give(self, follower: Follower) -> bool:
        """Have a follower take what is there now, and where code was mapped before. Whether there was any."""
        complete = time.monotonic_ns() - _UNDER_WAY
        end, waiting, given = self._ring.written, deque[raw.Record](), 0
        read_on, reads = 0, 0
        while True:
            late = reads < _READS and len(waiting) < raw.AHEAD and time.monotonic_ns() > read_on
            if late or (not waiting and self._ring.read < end):
                more = self._read_on(follower, raw.AHEAD - len(waiting))
                waiting += more
                given, read_on, reads = given + len(more), time.monotonic_ns() + _READ_ON, reads + 1
            if not waiting:
                break
            record = waiting.popleft()
            self._take_mapped(follower, record.head.time)
            follower.take(record)
        self._take_mapped(follower, complete)
        return given > 0

    def _read_on(self, follower: Follower, most: int) -> list[raw.Record]:
        found = list(self.records(most))
        if self._side is not None:
            self._mapped.extend(self._side.read())
        if follower.stacks is not None:
            follower.stacks.look_ahead(found, follower.family.by_key)
        return found

    def _take_mapped(self, follower: Follower, until: int) -> None:
        due: list[SideRecord] = []
        while self._mapped and self._mapped[0].time <= until:
            due.append(self._mapped.popleft())
        if due and follower.stacks is not None:
            follower.stacks.take(due, follower.family.groups)

    def take_the_rest(self, follower: Follower) -> None:
        """What was written until :meth:`detach`."""
        self.give(follower)

    def lost(self) -> Sequence[int]:
        """Records that found no room, by kind."""
        return struct.unpack(f"={_KINDS}Q", self._loaded.variable("lost"))

    @property
    def given(self) -> int:
        """How many records there were, with those that were lost."""
        return self._loaded.number("numbers")

    @property
    def alive(self) -> int:
        """How many tasks are followed and have not ended."""
        return self._loaded.number("alive")

    @property
    def overlooked(self) -> int:
        """How many tasks found no room among those that are followed."""
        return self._loaded.number("overlooked")

    def missed(self) -> dict[str, int]:
        """How often each program was not run."""
        return self._loaded.missed()

    def tell_what_is_missing(self, notes: Follower, t: int) -> None:
        """Say which events no record was made of, if there were any."""
        for name, count in self.missed().items():
            notes.note(t, f"{count} events of {name}", "its program was running on that processor already")
        if self.overlooked:
            notes.note(t, f"{self.overlooked} of the tasks", "more tasks were alive than the programs have room for")

    def detach(self) -> None:
        """Nothing more is written."""
        self._loaded.detach()

    def close(self) -> None:
        """Nothing is left of it in the kernel."""
        if self._side is not None:
            self._side.close()
        self._ring.close()
        self._loaded.close()

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _where: TracebackType | None
    ) -> None:
        self.close()


def _side_records() -> SideRecords:
    try:
        return SideRecords()
    except OSError as problem:
        raise LoadError(f"{_perf_refused(problem)}; --no-stack does without") from problem


_MOST_PARANOID: Final = 2
"""Above that the kernels of some distributions let nobody use perf_event_open without CAP_SYS_ADMIN."""


def _perf_refused(problem: OSError) -> str:
    level = paranoid() or 0
    if problem.errno == errno.EACCES and level > _MOST_PARANOID:
        return (
            f"{_WHERE_CODE_LIES}: {os.strerror(errno.EACCES)}: kernel.perf_event_paranoid is {level}, with which"
            " this kernel wants CAP_SYS_ADMIN, not just CAP_PERFMON: sysctl kernel.perf_event_paranoid=2"
        )
    return explained(problem, _WHERE_CODE_LIES)


def _filtering(wanted: Filter) -> dict[str, int | bytes]:
    found: dict[str, int | bytes] = {"everything": 1}
    if wanted.uid is not None:
        found |= {"by_uid": 1, "only_uid": wanted.uid}
    if wanted.cgroup is not None:
        found["only_cgroup"] = wanted.cgroup
    if wanted.comm is not None:
        found |= {"by_comm": 1, "only_comm": wanted.comm[:15]}
    return found


def cgroups(tid: Tid) -> list[ev.Text] | Unavailable:
    """The lines of /proc/TID/cgroup: read late, and not at all of one that has ended."""
    found = proc.read_file(f"/proc/{tid}/cgroup")
    return found if isinstance(found, Unavailable) else [ev.text(line) for line in found.splitlines()]
