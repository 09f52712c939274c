"""The ways in which strace can write a log, for scripts/strace-variants and the live test."""

from __future__ import annotations

from typing import Final

from log_variants import Variant

from forklore.model.tasks import Trace


def _log(*words: str) -> Variant:
    return Variant(("strace", "-f", "-o", "{log}", *words))


def _stderr(*words: str) -> Variant:
    return Variant(("strace", "-f", *words))


def _injected(trace: Trace) -> str | None:
    marks = sum(each.injected for task in trace.tasks.values() for each in task.failures)
    marks += sum(each.injected for task in trace.tasks.values() for each in task.calls)
    return None if marks == 1 else f"{marks} results are told to be injected, not one"


def _with_injection(expression: str) -> Variant:
    return Variant(("strace", "-f", "-o", "{log}", "-e", f"inject={expression}"), expected=_injected)


_PROCESS: Final = "trace=process,unshare,setns,close_range,setsid"

VARIANTS: Final = (
    _log(),
    *map(_log, ("-r", "-T", "-t", "-tt", "-ttt", "-y", "-yy", "-Y", "-n", "-i", "-x", "-xx", "-v", "-k", "-z", "-Z")),
    *(_log("-X", how) for how in ("raw", "abbrev", "verbose")),
    *(_log("-a", columns) for columns in ("1", "120")),
    *(_log("-s", size) for size in ("0", "4096")),
    *map(_log, ("-D", "-DD", "-DDD", "-q", "-qq", "-qqq", "-C")),
    *(_log(f"--decode-pids={what}") for what in ("comm", "pidns", "comm,pidns")),
    *(_log("-e", f"raw={calls}") for calls in ("clone,clone3", "all")),
    *(_log("-e", f"verbose={calls}") for calls in ("none", "clone,clone3")),
    *(_log("-e", f"abbrev={calls}") for calls in ("none", "execve")),
    *(_log("-e", f"trace={calls}") for calls in ("process", "clone,clone3,fork,vfork", "execve,exit_group")),
    _log("-e", _PROCESS),
    *(_log("-e", each) for each in ("signal=none", "quiet=all", "status=successful", "status=failed,unfinished")),
    _log("--seccomp-bpf", "-e", _PROCESS),
    _log("-r", "-T", "-tt", "-y", "-i", "-n", "-v", "-s", "100"),
    _log("-ttt", "-T", "-y", "-s", "4096", "--decode-pids=pidns"),
    _log("-z", "-e", _PROCESS),
    _log("-z", "-ttt", "-T", "-y"),
    *(_log(f"--absolute-timestamps={how}") for how in ("format:unix,precision:s", "format:time,precision:ns")),
    _log("--relative-timestamps=ns", "--syscall-times=ns"),
    _with_injection("setns:error=EBADF"),
    _with_injection("unshare:retval=0"),
    _with_injection("clone3:error=EINVAL:when=5"),
    _log("-e", "inject=clone,clone3,vfork:delay_enter=2000:delay_exit=2000"),
    Variant(("strace", "-ff", "-ttt", "-o", "{log}"), after=("strace-log-merge", "{log}")),
    Variant(("strace", "-ff", "-ttt", "-T", "-o", "{log}", "-e", _PROCESS), after=("strace-log-merge", "{log}")),
    *map(_stderr, ("-q", "-t", "-ttt", "-y", "-z", "-Y")),
    _stderr("-e", _PROCESS),
    _stderr("-e", "trace=process"),
)  # fmt: skip
