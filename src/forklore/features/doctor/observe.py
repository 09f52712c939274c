"""What this machine and user allow: read from /proc, and tried on children of our own.

Each trial leaves nothing behind. What fails is :class:`Unavailable` with the error of the call that failed.
:mod:`forklore.features.doctor.conclusions` says what it means.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import re
import resource
import signal
import struct
from collections.abc import Callable
from typing import Final

import psutil

from forklore.abi import ptrace as pt
from forklore.abi import seccomp as sc
from forklore.abi import syscalls
from forklore.abi.arch import X32_SYSCALL_BIT, Arch
from forklore.abi.units import Address, Pid, Tid, Unavailable
from forklore.features.doctor.conclusions import Answer, Facts
from forklore.linux import limits, memory, proc, ptrace
from forklore.linux.libc import fail, function, prctl, syscall
from forklore.linux.this_process import effective_capabilities

_FIRST_PID_NS: Final = 0xEFFFFFFC
_FIRST_USER_NS: Final = 0xEFFFFFFD
_OPTIONS: Final = (
    pt.Option.TRACESYSGOOD | pt.Option.TRACEFORK | pt.Option.TRACEVFORK | pt.Option.TRACECLONE
    | pt.Option.TRACEEXEC | pt.Option.TRACEVFORKDONE | pt.Option.TRACEEXIT | pt.Option.TRACESECCOMP
    | pt.Option.EXITKILL
)  # fmt: skip
_CLONE_NEWUSER: Final = 0x10000000
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_KCMP_VM: Final = 1
_WALL: Final = 0x40000000

_unshare: Final = function("unshare", ctypes.c_int, ctypes.c_int)


def _refused(problem: OSError) -> Unavailable:
    number = problem.errno or 0
    return Unavailable(number, f"{problem.filename or 'it'}: {os.strerror(number)}")


def _attempt(trial: Callable[[], bool]) -> Answer:
    try:
        return trial()
    except OSError as problem:
        return _refused(problem)


def _in_child(trial: Callable[[], bool]) -> Answer:
    """Try what would change this process in a child of it, which ends right after."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            answer = _attempt(trial)
            told = (answer.errno, answer.why) if isinstance(answer, Unavailable) else (-1, str(answer))
            os.write(write_end, f"{told[0]} {told[1]}".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answers:
        number, _, text = answers.read().decode(errors="replace").partition(" ")
    _, status = os.waitpid(pid, 0)
    if not number:
        return Unavailable(0, f"the child that tried it was ended by {_signal(status)}")
    return text == "True" if number == "-1" else Unavailable(int(number), text)


def _signal(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return signal.Signals(-code).name if code < 0 else f"exit {code}"


def _address(pointer: ctypes.Array[ctypes.c_char]) -> int:
    return ctypes.addressof(pointer)


class _Tracing:
    """What can be done with a seized child of our own: the answers hold for programs that we start."""

    def __init__(self, machine: Arch | None) -> None:
        self._machine = machine
        self.seize: Answer = False
        self.syscall_info: Answer = Unavailable(0, "no child could be traced")
        self.registers: Answer = Unavailable(0, "no child could be traced")
        self.read_memory: Answer = Unavailable(0, "no child could be traced")
        self.kcmp: Answer = Unavailable(0, "no child could be made")
        gate_read, gate_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.close(gate_write)
            os.read(gate_read, 1)
            os._exit(0)
        os.close(gate_read)
        try:
            self.kcmp = _attempt(lambda: self._compares(pid))
            self.seize = _attempt(lambda: self._seizes(pid))
            if self.seize is True:
                self.syscall_info = _attempt(lambda: self._tells(pid))
                self.registers = _attempt(lambda: self._agrees(pid))
                self.read_memory = self._reads(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.close(gate_write)
            while os.WIFSTOPPED(os.waitpid(pid, _WALL)[1]):
                # A killed tracee still stops once, at PTRACE_EVENT_EXIT.
                ptrace.cont(Tid(pid))

    def _compares(self, pid: int) -> bool:
        number = syscalls.number(self._machine, "kcmp") if self._machine else None
        if number is None:
            return False
        own = os.getpid()
        for other, differs in ((own, False), (pid, True)):
            result = syscall(number, own, other, _KCMP_VM, 0, 0, 0)
            if result == -1:
                raise OSError(ctypes.get_errno(), "", "kcmp")
            if bool(result) != differs:
                return False
        return True

    def _seizes(self, pid: int) -> bool:
        ptrace.seize(Tid(pid), _OPTIONS)
        ptrace.interrupt(Tid(pid))
        _, status = os.waitpid(pid, _WALL)
        return os.WIFSTOPPED(status)

    def _tells(self, pid: int) -> bool:
        _, audit, _, _ = ptrace.syscall_info(Tid(pid))
        return self._machine is None or audit == self._machine.audit

    def _agrees(self, pid: int) -> bool:
        # python-ptrace has a register struct of its own for every machine: a second reading of the same stop.
        from ptrace.binding import ptrace_getregs

        ours, theirs = ptrace.registers(Tid(pid)), ptrace_getregs(pid)
        names = [name for name in ours.layout.names if hasattr(theirs, name)]
        return bool(names) and all(getattr(theirs, name) == ours[name] for name in names)

    def _reads(self, pid: int) -> Answer:
        found = memory.read(Tid(pid), Address(_address(_mark)), len(_mark))
        return found if isinstance(found, Unavailable) else found == _mark.raw


# A forked child has it at the same address.
_mark: Final = ctypes.create_string_buffer(b"forklore")


def _installs(no_new_privs: bool) -> Callable[[], bool]:
    """A filter of one instruction that allows everything, installed by a child that ends right after."""

    def trial() -> bool:
        if no_new_privs and prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1:
            raise fail("prctl(PR_SET_NO_NEW_PRIVS)")
        allow = ctypes.create_string_buffer(sc.FILTER.pack(sc.RETURN, 0, 0, sc.Action.ALLOW))
        program = ctypes.create_string_buffer(struct.pack("@HP", 1, _address(allow)))
        # prctl(2)'s older form: it needs no call number, and means the same as seccomp(2) without flags.
        if prctl(_PR_SET_SECCOMP, sc.Mode.FILTER, _address(program), 0, 0) == -1:
            raise fail("a seccomp filter")
        return True

    return trial


def _reaches_clone3(machine: Arch | None) -> Callable[[], bool]:
    """Whether clone3 gets past filters: a struct of size 0 gets EINVAL from the kernel itself."""

    def trial() -> bool:
        number = syscalls.number(machine, "clone3") if machine else None
        if number is None:
            return False
        syscall(number, 0, 0, 0, 0, 0, 0)
        problem = fail("clone3")
        if problem.errno != errno.EINVAL:
            raise problem
        return True

    return trial


def _unshares_user() -> bool:
    if _unshare(_CLONE_NEWUSER) == -1:
        raise fail("unshare(CLONE_NEWUSER)")
    return True


_PRESENT: Final = 1 << 63
_SOFT_DIRTY: Final = 1 << 55
_FRAME: Final = (1 << 55) - 1


def _own_page() -> int:
    """The pagemap entry of a page that was just written (Documentation/admin-guide/mm/pagemap.rst)."""
    with mmap.mmap(-1, mmap.PAGESIZE) as page, open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        page[0] = 1
        at = ctypes.c_char.from_buffer(page)
        address = ctypes.addressof(at)
        del at
        pagemap.seek(address // mmap.PAGESIZE * 8)
        return int(struct.unpack("=Q", pagemap.read(8))[0])


def _pagemap() -> tuple[Answer, bool, Answer]:
    """Whether pagemap tells of a page, shows frame numbers, and a written page as soft-dirty."""
    try:
        entry = _own_page()
    except OSError as problem:
        refused = _refused(problem)
        return refused, False, refused
    dirty: Answer = True if entry & _SOFT_DIRTY else Unavailable(0, "a page just written does not read as dirty")
    return bool(entry & _PRESENT), bool(entry & _FRAME), dirty


# mov eax, 1 (exit); xor ebx, ebx; int 0x80
_EXIT_I386: Final = bytes.fromhex("b801000000 31db cd80")


def _tiny_i386() -> bytes:
    """A static ELF program of the i386 ABI that exits with 0 (elf(5): Elf32_Ehdr, Elf32_Phdr)."""
    base, headers = 0x08048000, 52 + 32
    size = headers + len(_EXIT_I386)
    header = struct.pack(
        "<16sHHIIIIIHHHHHH", b"\x7fELF\x01\x01\x01", 2, 3, 1, base + headers, 52, 0, 0, 52, 32, 1, 0, 0, 0
    )
    return header + struct.pack("<8I", 1, 0, base, base, size, size, 5, 0x1000) + _EXIT_I386


def _runs_i386() -> bool:
    fd = os.memfd_create("forklore-i386", os.MFD_CLOEXEC)
    try:
        os.write(fd, _tiny_i386())
        pid = os.posix_spawn(f"/proc/self/fd/{fd}", ["i386"], {})
    finally:
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == 0


def _runs_x32() -> bool:
    """getpid with the x32 bit in its number: a 64-bit process may call it where the kernel has the ABI."""
    number = syscalls.number(Arch.X32, "getpid")
    if number is None or not number & X32_SYSCALL_BIT:
        return False
    if syscall(number, 0, 0, 0, 0, 0, 0) == -1:
        raise fail("a call with the x32 bit")
    return True


def _container() -> tuple[str, ...]:
    """Signs of a container, each a phrase; none of them is proof."""
    signs = [f"{path} exists" for path in ("/.dockerenv", "/run/.containerenv") if os.path.exists(path)]
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        signs.append("KUBERNETES_SERVICE_HOST is set")
    entries = proc.environment(Tid(1))
    if not isinstance(entries, Unavailable):
        signs += [f"pid 1 has {os.fsdecode(entry)}" for entry in entries if entry.startswith(b"container=")]
    groups = proc.read_file("/proc/self/cgroup")
    if not isinstance(groups, Unavailable):
        engines = sorted(set(re.findall(rb"docker|kubepods|libpod|lxc|containerd", groups)))
        signs += [f"the cgroup's path has {engine.decode()}" for engine in engines]
    return tuple(signs)


def _inode(namespace: str) -> int | None:
    try:
        return os.stat(f"/proc/self/ns/{namespace}").st_ino
    except OSError:
        return None


def _hidepid(mounts: list[psutil._common.sdiskpart]) -> str:
    options = ",".join(mount.opts for mount in mounts if mount.mountpoint == "/proc" and mount.fstype == "proc")
    found = re.search(r"(?:^|,)hidepid=(\w+)", options)
    return found[1] if found else "off"


def _tracefs(mounts: list[psutil._common.sdiskpart]) -> Answer:
    places = [mount.mountpoint for mount in mounts if mount.fstype == "tracefs"]
    if not places:
        return Unavailable(0, "tracefs is not mounted")
    event = f"{places[0]}/events/task/task_newtask/id"
    answer = proc.read_file(event)
    return answer if isinstance(answer, Unavailable) else True


def _limits() -> dict[str, int]:
    found = limits.deciding(Tid(os.getpid()))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        found["rlimit_nofile"] = soft
    return found


def _name(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name()) if pid else ""
    except psutil.Error:
        return "a process out of sight"


def collect() -> Facts:
    """Read and try everything. Takes some hundredths of a second and a few short-lived children."""
    machine = proc.machine()
    status = proc.status(os.getpid())
    fields = {} if isinstance(status, Unavailable) else status
    tracer = proc.number(fields, b"TracerPid") or 0
    tracing = _Tracing(machine)
    pagemap, frames, soft_dirty = _pagemap()
    mounts = psutil.disk_partitions(all=True)
    actions = proc.read_file("/proc/sys/kernel/seccomp/actions_avail")
    own = psutil.Process()
    return Facts(
        kernel=platform.release(),
        machine=platform.machine(),
        user=own.username(),
        uid=own.uids().effective,
        python=platform.python_version(),
        capabilities=effective_capabilities(),
        tracer=Pid(tracer),
        tracer_name=_name(tracer),
        yama=proc.setting("/proc/sys/kernel/yama/ptrace_scope"),
        seize=tracing.seize,
        syscall_info=tracing.syscall_info,
        registers=tracing.registers,
        read_memory=tracing.read_memory,
        filter_plain=_in_child(_installs(no_new_privs=False)),
        filter_no_new_privs=_in_child(_installs(no_new_privs=True)),
        seccomp_mode=proc.number(fields, b"Seccomp") or 0,
        seccomp_filters=proc.number(fields, b"Seccomp_filters"),
        seccomp_actions=() if isinstance(actions, Unavailable) else tuple(actions.decode().split()),
        no_new_privs=proc.number(fields, b"NoNewPrivs") == 1,
        clone3=_in_child(_reaches_clone3(machine)),
        kcmp=tracing.kcmp,
        pagemap=pagemap,
        page_frames=frames,
        soft_dirty=soft_dirty,
        new_user_ns=_in_child(_unshares_user),
        container=_container(),
        first_pid_ns=_inode("pid") == _FIRST_PID_NS,
        first_user_ns=_inode("user") == _FIRST_USER_NS,
        hidepid=_hidepid(mounts),
        tracefs=_tracefs(mounts),
        abis={"i386": _attempt(_runs_i386), "x32": _attempt(_runs_x32)} if machine is Arch.X86_64 else {},
        limits=_limits(),
    )
