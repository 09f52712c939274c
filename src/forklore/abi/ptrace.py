"""ptrace(2): requests, options, events, and the structs that its requests fill.

Enums here name values; a hot loop does well to bind the ``int`` of the few that it compares.
"""

from __future__ import annotations

import struct
from typing import Final

from forklore.abi._generated_ptrace import Event as Event
from forklore.abi._generated_ptrace import Option as Option
from forklore.abi._generated_ptrace import RegisterSet as RegisterSet
from forklore.abi._generated_ptrace import Request as Request
from forklore.abi._generated_ptrace import SyscallInfoOp as SyscallInfoOp

ASKING: Final = (Request.TRACEME, Request.ATTACH, Request.SEIZE)
"""The requests by which a task gets a tracer."""

SYSCALL_STOP_BIT: Final = 0x80
"""Or-ed into SIGTRAP in the wait status of a syscall-stop under PTRACE_O_TRACESYSGOOD (ptrace(2))."""

SYSCALL_INFO_HEADER: Final = struct.Struct("<BxHIQQ")
"""The start of struct ptrace_syscall_info, filled at any stop: op, flags (always zero), arch (AUDIT_ARCH_*),
instruction pointer, stack pointer. What follows at SYSCALL_INFO_HEADER.size depends on op."""
SYSCALL_INFO_ENTRY: Final = struct.Struct("<7Q")
"""After the header, for ENTRY: the number and six arguments."""
SYSCALL_INFO_EXIT: Final = struct.Struct("<q?")
"""After the header, for EXIT: the return value, and whether it is an error."""
SYSCALL_INFO_SECCOMP: Final = struct.Struct("<7QI")
"""After the header, for SECCOMP: the number, six arguments, the low 16 bits of what the filter returned."""
SYSCALL_INFO_SIZE: Final = 88
"""sizeof(struct ptrace_syscall_info). The kernel fills at most this, and returns how much it had to say."""
