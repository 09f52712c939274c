"""What a child with a stack of its own is given to run: function and argument as they are at the system call.

clone() and clone3() of a C library keep both in registers or on the child's stack, and the code behind the system call
instruction, which the child runs first, takes them from there: that code tells which library it is, in a static and
stripped program, too. For threads, the function is the library's own, and what the program wants to run is found
through its argument: glibc's struct pthread (:mod:`forklore.elf.image.thread_descriptors`), musl's struct start_args.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.abi.arch import Arch
from forklore.abi.clone_args import VER0, reader
from forklore.abi.flags import CLONE_DETACHED, CLONE_PARENT_SETTID, CLONE_SETTLS, CLONE_THREAD, CLONE_VM
from forklore.abi.registers import LAYOUTS
from forklore.abi.units import Unavailable
from forklore.decode.creation import clone_order
from forklore.events import records as ev
from forklore.linux.tracing import seccomp
from forklore.linux.tracing.ptrace import Registers
from forklore.sources.ptrace.tracee import EnteredCall
from forklore.sources.stacks.language_threads import Named, given

if TYPE_CHECKING:
    from forklore.elf.image.thread_descriptors import PthreadLayout

Read = Callable[[int, int], bytes | None]
"""Bytes of the creator's memory at an address, so many; None where they cannot be read."""
Layout = Callable[[], "PthreadLayout | Unavailable"]

_NPTL: Final = CLONE_VM | CLONE_THREAD | CLONE_SETTLS | CLONE_PARENT_SETTID
_TLS_IS_DESCRIPTOR: Final = frozenset({Arch.X86_64, Arch.X32})
"""Where the thread pointer is the descriptor's address. i386's is a struct user_desc, others' points behind it."""
_DESCRIPTOR_LIMIT: Final = 1 << 16
_clone3_words: Final = reader("flags", "parent_tid", "stack", "stack_size", "tls")
_DESCRIPTOR: Final = 4096
"""Bytes of a thread's descriptor that are kept where it is not known yet which are of use, …"""
_ROUTINES: Final = 8
"""… so many pointers to code in it, …"""
_GIVEN: Final = 256
"""… and bytes of what stands beside each, the routine's argument."""
CODE: Final = 96
"""How much of the code behind the call is looked at: glibc 2.17 and Go set their threads up before they call."""

_UNREADABLE: Final = Unavailable(0, "the child's stack could not be read")
_RAW: Final = Unavailable(
    0, "the call is not made by a clone() that is known here: the child runs on behind it, on a stack of its own"
)
_NO_CODE: Final = Unavailable(0, "the code behind the call, which tells where its function is, could not be read")
_NO_ROUTINE: Final = Unavailable(0, "the thread's descriptor could not be read")
_OTHER_DESCRIPTOR: Final = Unavailable(
    0, "the thread's descriptor is not laid out as the C library's description of it says"
)
_OLD_MUSL: Final = Unavailable(
    0, "this musl passes its thread descriptor, which it does not describe; newer ones pass routine and argument"
)


class _Wrapper(Struct, frozen=True):
    """The clone() of a library: the code that its child begins with, and from where that takes what it calls."""

    how: ev.RunsHow
    call: str
    code: tuple[bytes, ...]
    """Parts of the code behind the system call, in this order."""
    fn: str | int
    """A register, or an offset from the stack pointer that the child gets."""
    arg: str | int


# glibc sysdeps/unix/sysv/linux/ARCH/clone.S and clone3.S, musl src/thread/ARCH/clone.s, Go runtime/sys_linux_ARCH.s.
_X86_64: Final = (
    _Wrapper("clone", "clone3", (b"\x89\xc7\xff\xd2",), "rdx", "r8"),  # mov %r8, %rdi; call *%rdx
    _Wrapper("clone", "clone", (b"\x58\x5f\xff\xd0",), 0, 8),  # pop %rax; pop %rdi; call *%rax
    _Wrapper("musl", "clone", (b"\x5f\x41\xff\xd1",), "r9", 0),  # pop %rdi; call *%r9
    _Wrapper("go", "clone", (b"\x48\x89\xf4", b"\x41\xff\xd4"), "r12", "r13"),  # mov %rsi, %rsp; … call *%r12
)
_I386: Final = (
    _Wrapper("clone", "clone3", (b"\x56\xff\xd2",), "edx", "esi"),  # push %esi; call *%edx
    _Wrapper("clone", "clone", (b"\x89\xf5", b"\xff\xd3"), 8, 12),  # mov %esi, %ebp; … call *%ebx
    _Wrapper("musl", "clone", (b"\x31\xed\xff\xd0",), "ebp", 0),  # xor %ebp, %ebp; call *%eax
    _Wrapper("go", "clone", (b"\x81\xfd\xd2\x04\x00\x00",), 8, 0),  # cmp $1234, %ebp
)
_AARCH64: Final = (
    _Wrapper("clone", "clone3", (b"\xe0\x03\x0c\xaa\x60\x01\x3f\xd6",), "x11", "x12"),  # mov x0, x12; blr x11
    _Wrapper("clone", "clone", (b"\xe0\x03\x0c\xaa\x40\x01\x3f\xd6",), "x10", "x12"),  # mov x0, x12; blr x10
    # ldp x1, x0, [sp], #16; blr x1: glibc before 2.24 has it, too.
    _Wrapper("musl", "clone", (b"\xe1\x03\xc1\xa8\x20\x00\x3f\xd6",), 0, 8),
    _Wrapper("go", "clone", (b"\x40\x9a\x80\xd2",), -24, -8),  # mov x0, #1234
)
_RISCV64: Final = (
    _Wrapper("clone", "clone3", (b"\x36\x85\x02\x96",), "a2", "a3"),  # mv a0, a3; jalr a2
    _Wrapper("musl", "clone", (b"\x82\x65\x22\x65\x82\x95",), 0, 8),  # ld a1, 0(sp); ld a0, 8(sp); jalr a1
    _Wrapper("clone", "clone", (b"\x82\x65\x22\x65\x82\x95",), 0, 8),  # the same in glibc
    _Wrapper("go", "clone", (b"\x13\x05\x20\x4d",), -24, -8),  # li a0, 1234
)
_WRAPPERS: Final = {
    Arch.X86_64: _X86_64, Arch.X32: _X86_64, Arch.I386: _I386, Arch.AARCH64: _AARCH64, Arch.RISCV64: _RISCV64,
}  # fmt: skip
_AS_MUSL: Final = frozenset({Arch.AARCH64, Arch.RISCV64})
"""Where glibc's clone() goes on as musl's does: on aarch64 before 2.24."""


class _Call(Struct, frozen=True):
    """The words of a call that matter here. ``stack`` is the stack pointer that the child gets; 0: its creator's."""

    name: str
    flags: int
    stack: int
    parent_tid: int
    tls: int


class Routines:
    """Finds what a creation gives its child to run, while the creator is held in the call."""

    def __init__(self, machine: Arch) -> None:
        self._wrappers = {arch: _WRAPPERS.get(arch, ()) for arch in seccomp.host_arches(machine)}

    def of(
        self,
        entry: EnteredCall,
        registers: Registers,
        layout: Layout,
        read: Read,
        libc: str,
        named: Named | None = None,
    ) -> ev.Runs | None:
        """What the child runs; None for one without a stack of its own, which returns from the call like its creator.

        ``layout`` is asked for threads that glibc seems to make; ``libc`` (glibc, musl, go, or empty) for code that
        two libraries have. ``named`` tells code by its address: with it, what a thread of Rust or C++ runs is found
        behind the function of their standard library (:mod:`forklore.sources.stacks.language_threads`).
        Reads the creator's memory once for a thread of glibc's (twice where it uses clone) and at most three times
        otherwise, and up to four times for what is behind. ``fn_place`` and ``routine_place`` are left to the caller.
        """
        runs = self._of(entry, registers, layout, read, libc)
        if runs is None or runs.routine is None or named is None:
            return runs
        return given(runs, registers.layout.word, read, named)

    def copies(
        self, entry: EnteredCall, registers: Registers, some: Callable[[int, int], bytes],
        is_code: Callable[[int], bool],
    ) -> tuple[tuple[int, bytes], ...]:
        """The memory that :meth:`of` may ask for, with its addresses, of a creator that is about to go on.

        ``some`` gives up to so many bytes at an address; ``is_code`` tells whether code is mapped there.
        """
        call = _call(entry)
        if call is None or call.stack in (0, registers[registers.layout.sp]):
            return ()
        if LAYOUTS[entry.arch] is not registers.layout:
            return ()
        size = registers.layout.word
        found: dict[int, bytes] = {}

        def keep(address: int, length: int) -> bytes:
            if address not in found:
                found[address] = some(address, length)
            return found[address]

        def exactly(address: int, length: int) -> bytes | None:
            return keep(address, length)[:length]

        for wrapper in self._wrappers.get(entry.arch, ()):
            values = _values(wrapper, call, registers, exactly) if wrapper.call == call.name else None
            if values is None:
                continue
            words = list(_all_words(keep(values[1], _DESCRIPTOR), size))
            routines = [at for at, word in enumerate(words[:-1]) if is_code(word)][:_ROUTINES]
            for at in routines:
                behind = list(_all_words(keep(words[at + 1], _GIVEN), size))
                for word in behind[:3]:
                    keep(word, 4 * size)
        return tuple((address, content) for address, content in found.items() if content)

    def _of(self, entry: EnteredCall, registers: Registers, layout: Layout, read: Read, libc: str) -> ev.Runs | None:
        call = _call(entry)
        if call is None or call.stack in (0, registers[registers.layout.sp]):
            return None
        arch = entry.arch
        wrappers = self._wrappers.get(arch, ())
        if LAYOUTS[arch] is not registers.layout:  # int $0x80 in a 64-bit program: no library makes that
            return ev.Runs(how="raw", unknown=_RAW)
        thread = None
        if call.flags & (_NPTL | CLONE_DETACHED) == _NPTL:  # musl sets CLONE_DETACHED, glibc does not
            thread = _nptl(call, arch, wrappers, registers, layout, read)
            if thread is not None and (thread.unknown is None or arch in _TLS_IS_DESCRIPTOR):
                return thread
        found = _by_code(call, arch, wrappers, registers, read, libc)
        return thread if thread is not None and (thread.fn, thread.arg) == (found.fn, found.arg) else found


def _call(entry: EnteredCall) -> _Call | None:
    if entry.name == "clone3":
        raw = entry.struct
        if not isinstance(raw, bytes) or len(raw) < VER0:
            return None
        flags, parent_tid, stack, size, tls = _clone3_words(raw)
        return _Call("clone3", flags, stack + size, parent_tid, tls)
    if entry.name == "clone" and entry.words[1]:  # a stack, which is the second word on every architecture here
        words = dict(zip(clone_order(entry.arch), entry.words, strict=False))
        return _Call("clone", entry.flags, words["stack"], words["parent_tid"], words["tls"])
    return None


def _nptl(
    call: _Call, arch: Arch, wrappers: tuple[_Wrapper, ...], registers: Registers, layout: Layout, read: Read
) -> ev.Runs | None:
    found = None
    for wrapper in wrappers:
        if wrapper.how == "clone" and wrapper.call == call.name:
            found = _values(wrapper, call, registers, read)
            break
    if found is None:
        return None
    fn, descriptor = found
    # What the child is given is its descriptor, and in it the kernel stores its number (glibc nptl/pthread_create.c:
    # create_thread).
    if not 0 < call.parent_tid - descriptor < _DESCRIPTOR_LIMIT:
        return None
    if arch in _TLS_IS_DESCRIPTOR and call.tls != descriptor:
        return None
    described = layout()
    if isinstance(described, Unavailable):
        return ev.Runs(how="nptl", fn=fn, arg=descriptor, unknown=described)
    if call.parent_tid - descriptor != described.tid:
        return ev.Runs(how="nptl", fn=fn, arg=descriptor, unknown=_OTHER_DESCRIPTOR)
    size = described.pointer
    raw = read(descriptor + described.start_routine, 2 * size)
    if raw is None or len(raw) < 2 * size:
        return ev.Runs(how="nptl", fn=fn, arg=descriptor, unknown=_NO_ROUTINE)
    routine, argument = _words(raw, size)
    return ev.Runs(how="nptl", fn=fn, arg=descriptor, routine=routine, routine_arg=argument)


def _by_code(
    call: _Call, arch: Arch, wrappers: tuple[_Wrapper, ...], registers: Registers, read: Read, libc: str
) -> ev.Runs:
    if not wrappers:
        unknown = Unavailable(0, f"where clone() keeps its function on {arch} is not known here")
        return ev.Runs(how="raw", unknown=unknown)
    code = read(registers[registers.layout.ip], CODE)
    if code is None:
        return ev.Runs(how="raw", unknown=_NO_CODE)
    wrapper = next((one for one in wrappers if one.call == call.name and _contains(code, one.code)), None)
    if wrapper is None:
        return ev.Runs(how="raw", unknown=_RAW)
    found = _values(wrapper, call, registers, read)
    if found is None:
        return ev.Runs(how=wrapper.how, unknown=_UNREADABLE)
    fn, arg = found
    if wrapper.how == "musl":
        glibc = libc == "glibc" and arch in _AS_MUSL
        thread = call.flags & CLONE_THREAD and not glibc
        return _musl_thread(fn, arg, call, arch.pointer, read) if thread else ev.Runs(how="clone", fn=fn, arg=arg)
    return ev.Runs(how=wrapper.how, fn=fn, arg=arg)


def _musl_thread(fn: int, arg: int, call: _Call, size: int, read: Read) -> ev.Runs:
    # struct start_args { void *(*start_func)(void *); void *start_arg; … } (musl src/thread/pthread_create.c)
    raw = read(arg, 2 * size)
    if raw is None or len(raw) < 2 * size:
        return ev.Runs(how="musl", fn=fn, arg=arg, unknown=_NO_ROUTINE)
    routine, argument = _words(raw, size)
    if arg in (routine, call.tls):  # struct pthread begins with a pointer to itself
        return ev.Runs(how="musl", fn=fn, arg=arg, unknown=_OLD_MUSL)
    return ev.Runs(how="musl", fn=fn, arg=arg, routine=routine, routine_arg=argument)


def _values(wrapper: _Wrapper, call: _Call, registers: Registers, read: Read) -> tuple[int, int] | None:
    """Function and argument; None where the stack that holds them cannot be read."""
    if isinstance(wrapper.fn, str) and isinstance(wrapper.arg, str):
        return registers[wrapper.fn], registers[wrapper.arg]
    size = registers.layout.word
    offsets = [where for where in (wrapper.fn, wrapper.arg) if isinstance(where, int)]
    stack, base = b"", min(offsets, default=0)
    if offsets:
        length = max(offsets) - base + size
        got = read(call.stack + base, length)
        if got is None or len(got) < length:
            return None
        stack = got
    fn, arg = (
        registers[where] if isinstance(where, str)
        else int.from_bytes(stack[where - base : where - base + size], "little")
        for where in (wrapper.fn, wrapper.arg)
    )  # fmt: skip
    return fn, arg


def _contains(code: bytes, parts: tuple[bytes, ...]) -> bool:
    at = 0
    for part in parts:
        at = code.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def _all_words(raw: bytes, size: int) -> Iterable[int]:
    return memoryview(raw)[: len(raw) // size * size].cast("Q" if size == 8 else "I")


def _words(raw: bytes, size: int) -> tuple[int, int]:
    return int.from_bytes(raw[:size], "little"), int.from_bytes(raw[size : 2 * size], "little")
