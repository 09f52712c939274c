"""The refusal rules against the running kernel: for a grid of calls, its error is the one that the rules
predict.

Each call is made raw, by root and by an ordinary user, in a child of its own.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import platform
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from forklore.abi import flags as f
from forklore.abi import syscalls
from forklore.abi.arch import Arch
from forklore.decode.calls import decode_call
from forklore.decode.creation import decode_creation
from forklore.decode.rules.table import Context, reasons, refusals

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the probe's machine code is x86_64's"),
]

PROBE = Path(__file__).with_name("kernel_probe.py")
NOBODY = 65534
KERNEL = tuple(int(part) for part in platform.release().split(".")[:2])
CAPS = {"CAP_SYS_ADMIN": 21, "CAP_SYS_RESOURCE": 24, "CAP_CHECKPOINT_RESTORE": 40}
SIGCHLD = 17
DESCRIPTOR = 9
BUFFER, BUFFER2, TIDS = 0x1000, 0x1008, 0x2000  # what stands for the probe's addresses when we decode

NAMESPACES = [
    f.CLONE_NEWNS,
    f.CLONE_NEWUTS,
    f.CLONE_NEWIPC,
    f.CLONE_NEWUSER,
    f.CLONE_NEWPID,
    f.CLONE_NEWCGROUP,
]
SHARED = [f.CLONE_VM, f.CLONE_FS, f.CLONE_FILES, f.CLONE_SIGHAND, f.CLONE_THREAD, f.CLONE_SYSVSEM, f.CLONE_IO]
OTHERS = [
    f.CLONE_PIDFD,
    f.CLONE_VFORK,
    f.CLONE_PARENT,
    f.CLONE_PARENT_SETTID,
    f.CLONE_DETACHED,
    f.CLONE_CHILD_SETTID,
]
CLONE3_ONLY = [
    f.CLONE_NEWTIME, f.CLONE_CLEAR_SIGHAND, f.CLONE_AUTOREAP, f.CLONE_NNP, f.CLONE_PIDFD_AUTOKILL,
    f.CLONE_EMPTY_MNTNS, 1 << 40, 0x11,
]  # fmt: skip
SIZES = (0, 1, 63, 64, 65, 72, 80, 87, 88, 89, 96, 4096, 4097, 1 << 40)
THREAD = f.CLONE_VM | f.CLONE_SIGHAND | f.CLONE_THREAD


@dataclass(frozen=True)
class Case:
    """One call, for the probe and for the decoder."""

    name: str
    args: tuple[int | str | tuple[str, ...], ...]
    struct: tuple[int | str, ...] = ()
    set_tid: tuple[int, ...] = ()
    size: int = 88
    may: tuple[str, ...] = field(default=())
    """Rules that only the machine can judge, one of which decides (before any that is certain) or has to
    fit."""

    def request(self) -> dict[str, Any]:
        return {
            "nr": syscalls.number(Arch.X86_64, self.name), "creates": self.name.startswith("clone"),
            "args": self.args, "struct": self.struct, "set_tid": self.set_tid,
        }  # fmt: skip

    def decoded(self) -> Any:
        stand_in = {"buffer": BUFFER, "buffer2": BUFFER2, "set_tid": TIDS, "struct": BUFFER}
        given = (DESCRIPTOR if isinstance(a, tuple) else a for a in self.args)
        args = tuple(stand_in[a] if isinstance(a, str) else a for a in given)
        nr = syscalls.number(Arch.X86_64, self.name)
        if not self.name.startswith("clone"):
            return decode_call(Arch.X86_64, nr, args)
        words = b"".join(struct.pack("<Q", stand_in[w] if isinstance(w, str) else w) for w in self.struct)
        data = words.ljust(8192, b"\0")[: self.size]
        tids = struct.pack(f"<{len(self.set_tid)}i", *self.set_tid)
        return decode_creation(Arch.X86_64, nr, args, data if self.struct else None, tids)


def clone3(
    flags: int, signal: int = 0, *, stack: int | str = 0, stack_size: int = 0, set_tid: tuple[int, ...] = (),
    set_tid_pointer: int | str | None = None, set_tid_size: int | None = None, cgroup: int = 0, tls: int = 0,
    pidfd: int | str = "buffer", parent_tid: int | str = "buffer2", size: int = 88,
    tail: tuple[int, ...] = (), may: tuple[str, ...] = (),
) -> Case:  # fmt: skip
    pointer: int | str = ("set_tid" if set_tid else 0) if set_tid_pointer is None else set_tid_pointer
    count = len(set_tid) if set_tid_size is None else set_tid_size
    words = (flags, pidfd, 0, parent_tid, signal, stack, stack_size, tls, pointer, count, cgroup, *tail)
    return Case("clone3", ("struct", size), words, set_tid, size, may)


def clone(flags: int, *, tls: int = 0, may: tuple[str, ...] = ()) -> Case:
    return Case("clone", (flags, 0, "buffer", 0, tls), may=may)


def subsets(flags: list[int], most: int) -> Iterator[int]:
    for count in range(most + 1):
        for chosen in itertools.combinations(flags, count):
            yield sum(chosen)


def grid_clone3() -> list[Case]:
    every = [*SHARED, *OTHERS, *NAMESPACES, *CLONE3_ONLY]
    cases = [clone3(flags) for flags in subsets(every, 2)]
    cases += [clone3(flags, SIGCHLD) for flags in subsets(every, 1)]
    cases += [clone3(THREAD | flags) for flags in subsets([*OTHERS, *NAMESPACES, *CLONE3_ONLY, f.CLONE_FS], 2)]
    draw = random.Random(1)
    cases += [clone3(sum(draw.sample(every, 5)), draw.choice((0, SIGCHLD))) for _ in range(150)]
    cases += [clone3(f.CLONE_NEWNET), clone3(f.CLONE_NEWNET | f.CLONE_NEWUSER)]
    return cases


def edge_clone3() -> list[Case]:
    settls = THREAD | f.CLONE_SETTLS
    return [
        *(clone3(0, SIGCHLD, size=size) for size in SIZES),
        clone3(0, SIGCHLD, size=96, tail=(1,)), clone3(0, SIGCHLD, size=104, tail=(0, 1)),
        Case("clone3", (0, 88), (), size=88),
        *(clone3(0, signal) for signal in (0, 1 << 8, 1 << 32, 65, 145, 200, 255)),
        clone3(0, stack="buffer"), clone3(0, stack_size=4096), clone3(0, stack=1 << 62, stack_size=1 << 12),
        clone3(0, stack=4096, stack_size=(1 << 64) - 4096), clone3(f.CLONE_VM, stack=4096, stack_size=4096),
        clone3(f.CLONE_PIDFD | f.CLONE_PARENT_SETTID, pidfd="buffer", parent_tid="buffer"),
        clone3(f.CLONE_PIDFD, pidfd=0), clone3(f.CLONE_PIDFD, pidfd=1, may=("pidfd-pointer",)),
        clone3(0, set_tid_size=33, set_tid_pointer="buffer"), clone3(0, set_tid_size=1, set_tid_pointer=0),
        clone3(0, set_tid_size=0, set_tid_pointer="buffer"),
        clone3(0, set_tid_size=1, set_tid_pointer=8, may=("clone3-set-tid-unreadable",)),
        clone3(0, set_tid=(0,)), clone3(0, set_tid=(-5,)), clone3(0, set_tid=(1 << 22,)),
        clone3(0, set_tid=(1,), may=("set-tid-taken",)),
        clone3(0, set_tid=(1,) * 32, may=("set-tid-value",)),
        clone3(f.CLONE_INTO_CGROUP, cgroup=1 << 31), clone3(f.CLONE_INTO_CGROUP, cgroup=3, size=80),
        clone3(f.CLONE_INTO_CGROUP, cgroup=900, may=("cgroup-descriptor",)),
        clone3(f.CLONE_INTO_CGROUP | f.CLONE_SIGHAND, cgroup=900),
        clone3(settls, tls=0), clone3(settls, tls=(1 << 47) - 8192),
        clone3(settls, tls=1 << 63), clone3(settls, tls=1 << 56),
        clone3(0, SIGCHLD, parent_tid=8),
        clone3(f.CLONE_PARENT_SETTID | f.CLONE_CHILD_SETTID, SIGCHLD, parent_tid=8),
    ]  # fmt: skip


def grid_clone() -> list[Case]:
    every = [*SHARED, *OTHERS, *NAMESPACES]
    cases = [clone(flags | SIGCHLD) for flags in subsets(every, 2)]
    cases += [clone(flags | signal) for flags in subsets(every, 1) for signal in (0, 65, 145, 255)]
    cases += [clone(THREAD | flags) for flags in subsets([*OTHERS, *NAMESPACES], 2)]
    cases += [clone(SIGCHLD | 1 << 32), clone(SIGCHLD | 1 << 40), clone(SIGCHLD | 1 << 63)]
    cases += [clone(f.CLONE_SETTLS | SIGCHLD, tls=1 << 63), clone(f.CLONE_SETTLS | SIGCHLD, tls=4096)]
    return cases


def grid_unshare() -> list[Case]:
    every = [
        f.CLONE_VM, f.CLONE_FS, f.CLONE_FILES, f.CLONE_SIGHAND, f.CLONE_THREAD, f.CLONE_SYSVSEM, *NAMESPACES,
        f.CLONE_NEWTIME, f.UNSHARE_EMPTY_MNTNS, f.CLONE_PIDFD, f.CLONE_IO, f.CLONE_PARENT, 1,
        1 << 32, 1 << 40,
    ]  # fmt: skip
    return [Case("unshare", (flags,)) for flags in subsets(every, 2)]


def capabilities() -> frozenset[str]:
    """The caller's own effective ones (of those that the rules ask about)."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    return frozenset(name for name, bit in CAPS.items() if mask >> bit & 1)


def ask(cases: list[Case], uid: int | None) -> list[int]:
    document = json.dumps({"uid": uid, "calls": [case.request() for case in cases]})
    done = subprocess.run(
        [sys.executable, "-I", str(PROBE)],
        input=document,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[int] = json.loads(done.stdout)
    return answers


@pytest.fixture(params=["as-we-are", "ordinary-user"])
def who(request: pytest.FixtureRequest) -> tuple[int | None, Context]:
    """The uid to change to, and what the rules may know of it."""
    kernel = (KERNEL[0], KERNEL[1])
    if request.param == "as-we-are":
        return None, Context(kernel=kernel, uid=os.getuid(), caps=capabilities(), threads=1)
    if os.getuid() != 0:
        pytest.skip("becoming another user needs root")
    return NOBODY, Context(kernel=kernel, uid=NOBODY, caps=frozenset(), threads=1)


@pytest.mark.parametrize("make", [grid_clone3, edge_clone3, grid_clone, grid_unshare])
def test_the_kernel_answers_as_the_rules_say(make: Any, who: tuple[int | None, Context]) -> None:
    uid, context = who
    cases = make()
    wrong = []
    refused = 0
    for case, answer in zip(cases, ask(cases, uid), strict=True):
        call = case.decoded()
        certain = refusals(call, context)
        expected = certain[0].errno if certain else 0
        refused += bool(answer)
        if answer and case.may:
            fitting = {reason.rule for reason in reasons(call, answer, context)}
            if fitting & set(case.may):
                continue
        if answer != expected:
            name = errno.errorcode.get(answer, str(answer))
            rules = [reason.rule for reason in certain]
            wrong.append(f"{call.text()}: the kernel says {name}, the rules {rules}; {case}")
    assert not wrong, "\n".join(wrong[:40]) + f"\n{len(wrong)} of {len(cases)}"
    assert refused, "a grid without a refusal proves nothing"
    assert any(not refusals(case.decoded(), context) for case in cases), "a grid without a success neither"


@pytest.mark.parametrize("make", [grid_clone3, edge_clone3, grid_clone, grid_unshare])
def test_every_refusal_is_explained_without_knowing_the_caller(make: Any, who: tuple[int | None, Context]) -> None:
    uid, _ = who
    cases = make()[::7]
    for case, answer in zip(cases, ask(cases, uid), strict=True):
        if answer:
            found = reasons(case.decoded(), answer)
            assert all(reason.rule != "unexplained" for reason in found), (case, answer)
