"""The flags that C libraries and runtimes pass, as their sources have them."""

from __future__ import annotations

from typing import Final

from forklore.abi import flags as f
from forklore.abi.arch import Arch

GO_THREAD: Final = f.CLONE_VM | f.CLONE_FS | f.CLONE_FILES | f.CLONE_SIGHAND | f.CLONE_THREAD | f.CLONE_SYSVSEM
"""Go runtime/os_linux.go; CLONE_SETTLS beside it on some arches."""
PTHREAD: Final = GO_THREAD | f.CLONE_SETTLS | f.CLONE_PARENT_SETTID | f.CLONE_CHILD_CLEARTID
"""glibc nptl/pthread_create.c; musl adds CLONE_DETACHED."""
SPAWN: Final = f.CLONE_VM | f.CLONE_VFORK
"""glibc sysdeps/unix/sysv/linux/spawni.c to 2.37, musl src/process/posix_spawn.c."""
SPAWN_CLEAR: Final = SPAWN | f.CLONE_CLEAR_SIGHAND
"""The same of glibc 2.38 and later."""
NAMESPACES: Final = (
    f.CLONE_NEWNS | f.CLONE_NEWUTS | f.CLONE_NEWIPC | f.CLONE_NEWUSER | f.CLONE_NEWPID | f.CLONE_NEWNET
    | f.CLONE_NEWCGROUP
)  # fmt: skip
"""What sandboxes and container tools ask for, in any choice."""
WITHOUT_VFORK: Final = frozenset({Arch.AARCH64, Arch.RISCV64})
"""Arches whose system call table has neither fork nor vfork."""
