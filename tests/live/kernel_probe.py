"""Makes raw system calls and reports what the kernel answers; the other half of test_rules_kernel.py and of
scripts/refusals.

Reads one JSON document from stdin, ``{"uid": N or null, "calls": [{"nr", "args", "struct", "set_tid"}]}``,
where an argument may be ``"buffer"`` (the address of writable memory), ``"struct"``, or ``["open", PATH]`` and
``["pidfd"]`` (a new descriptor). Writes the list of errors, 0 for success. Each call is made in a forked child, because
a successful one changes its caller. ``"first"`` and ``"each"`` name what is done before: once, and in every child, by
the functions of :data:`STEPS`. With ``"pids"``, each error is a pair with the child's pid.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import resource
import signal
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

Stub = Callable[..., int]

WALL = 0x40000000

# long stub(nr, a1 .. a5): make the call; where it returns 0 in rax and CHILD_EXITS, exit at once, with no
# use of the stack: a child may run on its parent's.
ENTER = bytes.fromhex("4889f8 4889f7 4889d6 4889ca 4d89c2 4d89c8 4d31c9 0f05".replace(" ", ""))
CHILD_EXITS = bytes.fromhex("4885c0 7509 b83c000000 31ff 0f05".replace(" ", ""))
RET = b"\xc3"


def assemble(code: bytes) -> Stub:
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    KEPT.append(memory)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return ctypes.CFUNCTYPE(ctypes.c_long, *[ctypes.c_ulong] * 6)(address)


KEPT: list[object] = []


def opened(value: Any) -> Any:
    """A descriptor for what asks for one."""
    if not isinstance(value, list):
        return value
    return os.open(value[1], os.O_RDONLY) if value[0] == "open" else os.pidfd_open(os.getpid())


def word(value: int | str | None, buffer: int, area: int) -> int:
    return {"buffer": buffer, "struct": area}.get(value, 0) if isinstance(value, str) else value or 0


def attempt(call: dict[str, Any], creates: Stub, plain: Stub) -> int:
    target = ctypes.create_string_buffer(64)
    buffer = ctypes.addressof(target)
    tids = struct.pack(f"<{len(call['set_tid'])}i", *call["set_tid"])
    tid_area = ctypes.create_string_buffer(tids, len(tids) or 1)
    words = {"buffer": buffer, "buffer2": buffer + 8, "set_tid": ctypes.addressof(tid_area)}
    data = b"".join(struct.pack("<Q", words[w] if isinstance(w, str) else w) for w in call["struct"])
    area = ctypes.create_string_buffer(data + bytes(8192), len(data) + 8192)
    args = [word(a, buffer, ctypes.addressof(area)) for a in call["args"]]
    stub = creates if call["creates"] else plain
    result = stub(call["nr"], *(args + [0] * (5 - len(args))))
    return -result if result < 0 else 0


def unshare(flags: int) -> None:
    if LIBC.unshare(flags):
        raise OSError(ctypes.get_errno(), f"unshare({flags:#x})")


def put(path: str, text: str) -> None:
    # Without codecs: another user may not be able to load Python's modules any more.
    target = os.open(path, os.O_WRONLY)
    os.write(target, text.encode())
    os.close(target)


def user_namespace() -> None:
    """A user namespace in which the caller is root."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(0x10000000)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        put(f"/proc/self/{name}", text)


def no_namespaces() -> None:
    """None of any type in this user namespace, but of those that there are."""
    for name in ("mnt", "uts", "ipc", "user", "pid", "net", "cgroup", "time"):
        put(f"/proc/sys/user/max_{name}_namespaces", "0")


def no_more_tasks() -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))


def no_more_descriptors() -> None:
    last = os.dup(0)
    os.close(last)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last, last))


def second_thread() -> None:
    threading.Thread(target=signal.pause, daemon=True).start()


def dead_init() -> None:
    """The children's pid namespace is a new one, whose init has ended."""
    unshare(0x20000000)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def deadline() -> None:
    """SCHED_DEADLINE: struct sched_attr of sched_setattr(2)."""
    attributes = struct.pack("<IIQiIQQQ", 48, 6, 0, 0, 0, 1_000_000, 10_000_000, 10_000_000)
    if LIBC.syscall(314, 0, attributes, 0):
        raise OSError(ctypes.get_errno(), "sched_setattr")


def elsewhere() -> None:
    os.chroot("/usr")


FILTERED = {435: 38, 272: 1, 308: 13, 56: 1}
"""clone3: ENOSYS; unshare and clone: EPERM; setns: EACCES."""


def filter_calls() -> None:
    """A seccomp filter that answers :data:`FILTERED` with these errors."""
    code = struct.pack("<HBBI", 0x20, 0, 0, 0)
    for number, error in FILTERED.items():
        code += struct.pack("<HBBI", 0x15, 0, 1, number) + struct.pack("<HBBI", 0x06, 0, 0, 0x50000 | error)
    code += struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(code, len(code))
    KEPT.append(buffer)
    program = struct.pack("<HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if LIBC.prctl(38, 1, 0, 0, 0) or LIBC.prctl(22, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


LIBC = ctypes.CDLL(None, use_errno=True)
STEPS: dict[str, Callable[[], None]] = {
    "user-namespace": user_namespace, "no-namespaces": no_namespaces, "no-more-tasks": no_more_tasks,
    "no-more-descriptors": no_more_descriptors, "second-thread": second_thread, "dead-init": dead_init,
    "deadline": deadline, "elsewhere": elsewhere, "filter": filter_calls,
}  # fmt: skip


def prepare(steps: list[str]) -> None:
    """Take steps by name; a path is a cgroup that the caller moves to."""
    for step in steps:
        if step.startswith("/"):
            put(f"{step}/cgroup.procs", str(os.getpid()))
        else:
            STEPS[step]()


def main() -> None:
    asked = json.load(sys.stdin)
    creates, plain = assemble(ENTER + CHILD_EXITS + RET), assemble(ENTER + RET)
    if asked["uid"] is not None:
        os.setgroups([])
        os.setresgid(asked["uid"], asked["uid"], asked["uid"])
        os.setresuid(asked["uid"], asked["uid"], asked["uid"])
        LIBC.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: its own files in /proc belong to it again
    signal.alarm(120)
    prepare(asked.get("first", []))
    read, write = os.pipe()
    answers: list[Any] = []
    for call in asked["calls"]:
        child = os.fork()
        if child == 0:
            try:
                call["args"] = [opened(value) for value in call["args"]]
                prepare(asked.get("each", []))
                answer = attempt(call, creates, plain)
            except OSError as problem:
                print(problem, file=sys.stderr, flush=True)
                answer = -1
            os.write(write, struct.pack("<q", answer))
            os._exit(0)
        answer = struct.unpack("<q", os.read(read, 8))[0]
        answers.append([child, answer] if asked.get("pids") else answer)
        try:
            while True:
                os.waitpid(-1, WALL)
        except ChildProcessError:
            pass
    json.dump(answers, sys.stdout)


main()
