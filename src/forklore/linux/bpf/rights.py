"""What the kernel asks of whoever loads BPF programs, and what of it this process has not: capabilities, lockdown."""

from __future__ import annotations

import os
from typing import Final

from forklore.abi.capabilities import NAMES
from forklore.abi.units import NsInode, Tid
from forklore.linux.lockdown import lockdown
from forklore.linux.namespaces import namespaces
from forklore.linux.ours.this_process import effective_capabilities

NEEDED: Final = ("CAP_BPF", "CAP_PERFMON")
"""For programs that trace and read the kernel's memory; CAP_SYS_ADMIN stands for both (include/linux/capability.h:
bpf_capable, perfmon_capable)."""
FIRST_USER_NS: Final = NsInode(0xEFFFFFFD)
"""include/linux/proc_ns.h: PROC_USER_INIT_INO."""
BTF: Final = "/sys/kernel/btf/vmlinux"


def lacking(capabilities: int) -> list[str]:
    """Which of :data:`NEEDED` a set has not, by its bits (capabilities(7))."""
    if capabilities >> NAMES.index("CAP_SYS_ADMIN") & 1:
        return []
    return [name for name in NEEDED if not capabilities >> NAMES.index(name) & 1]


def why_refused() -> str:
    """What a refusal for want of a right (EPERM, EACCES) comes from, as far as this process can see, and what to do."""
    return explain(
        lacking(effective_capabilities()),
        first_user_ns=namespaces(Tid(os.getpid()), ("user",))["user"] == FIRST_USER_NS,
        mode=lockdown(),
    )


def explain(missing: list[str], *, first_user_ns: bool, mode: str) -> str:
    """The same from what was found out: the capabilities that lack, whose they would be, and the lockdown mode."""
    if missing:
        return f"forklore lacks {' and '.join(missing)}: run it as root, or give it {' and '.join(NEEDED)}"
    if not first_user_ns:
        return (
            f"{' and '.join(NEEDED)} count in the machine's first user namespace alone, and forklore is in another: run"
            " it outside of the container"
        )
    if mode == "confidentiality":
        return LOCKED
    return (
        f"forklore has {' and '.join(NEEDED)}, so that a container's seccomp profile, a security module or what this"
        " kernel was built with forbids it"
    )


LOCKED: Final = (
    "kernel lockdown is in confidentiality mode, in which no program may read the kernel's memory until the next boot:"
    " lockdown=integrity, or none, on the kernel's command line"
)
"""Of that mode, which forbids bpf_probe_read_kernel (LOCKDOWN_BPF_READ_KERNEL) and tracefs."""
