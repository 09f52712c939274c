"""Compiles the C programs of ``tests/programs`` for the live tests, once each for a source and its flags.

A test that needs one asks for it, and is skipped with the reason where the machine lacks the compiler::

    try:
        program = build("fork_tree", libc="musl")
    except Missing as missing:
        pytest.skip(str(missing))
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

Libc = Literal["glibc", "musl"]

SOURCES: Final = Path(__file__).resolve().parent.parent / "programs"
HEADERS: Final = tuple(sorted(SOURCES.glob("*.h")))
FLAGS: Final = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread")

NEEDS_ROOT: Final = frozenset({"set_tid"})
"""Programs that the kernel refuses to an ordinary user."""

WITH_OR_WITHOUT: Final = (("with",), ("without",), ("with", "user"), ("without", "user"))
"""What a ``flag_*`` program takes: to set the flag or not; ``user`` becomes an ordinary user if it is root."""
_IO: Final = (("with", "set"), ("with", "unset"), ("without", "set"), ("without", "unset"))

_ACTIONS: Final = ("kill", "trap", "errno", "notify", "trace")


def _each(words: str) -> tuple[tuple[str, ...], ...]:
    """What a ``later_*`` program takes: each of the words, as whoever runs it and as an ordinary user."""
    return tuple((word, *user) for user in ((), ("user",)) for word in words.split())


BARE: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "attach_births": ((), ("3", "2")),
        "attach_execs": ((), ("3",)),
        "attach_signals": ((),),
        "attach_waits": ((),),
        "clone3_sizes": ((),),
        "clone_failures": ((),),
        "clone_fn": ((),),
        "clone_parent": ((),),
        "close_range_unshare": ((),),
        "container_style": ((), ("user",)),
        "cow_pages": ((), ("101", "23", "7"), ("101", "0", "0", "exec"), ("53", "53")),
        "deep_chain": ((), ("7",)),
        "die_early": (("23", "child"), ("7", "parent")),
        "env_status": ((), ("one", "two words")),
        "exec_chain": ((), ("7",)),
        "exec_nonleader": (("others",), ("leader-alive",), ("leader-gone",), ("leader",)),
        "execfail_variants": ((),),
        "execveat_forms": ((),),
        "exit_signal_usr1": ((),),
        "exit_signal_zero": ((),),
        "falls": (("segv",), ("abort",), ("handled",)),
        "fds_leak": ((),),
        "fds_pipe_hang": ((),),
        "fds_thread_gone": (("thread",), ("leader",)),
        "flag_clear_sighand": WITH_OR_WITHOUT,
        "flag_files": WITH_OR_WITHOUT,
        "flag_fs": WITH_OR_WITHOUT,
        "flag_io": tuple((*words, *user) for words in _IO for user in ((), ("user",))),
        "flag_newcgroup": WITH_OR_WITHOUT,
        "flag_newipc": WITH_OR_WITHOUT,
        "flag_newnet": WITH_OR_WITHOUT,
        "flag_newns": WITH_OR_WITHOUT,
        "flag_newpid": WITH_OR_WITHOUT,
        "flag_newtime": WITH_OR_WITHOUT,
        "flag_newuser": WITH_OR_WITHOUT,
        "flag_newuts": WITH_OR_WITHOUT,
        "flag_parent": WITH_OR_WITHOUT,
        "flag_sighand": WITH_OR_WITHOUT,
        "flag_sysvsem": WITH_OR_WITHOUT,
        "flag_thread": WITH_OR_WITHOUT,
        "flag_vm": WITH_OR_WITHOUT,
        "fork_race": (("53", "fork"), ("53", "vfork"), ("53", "thread")),
        "fork_tree": ((), ("3", "2")),
        "group_signal": ((),),
        "guest_faults": ((),),
        "guest_filters": (
            ("thread",), ("log",), ("tsync", "unshare"),
            *((action, call) for action in _ACTIONS for call in ("fork", "clone3", "execve", "unshare")),
        ),
        "guest_groups": (("kill",), ("own",), ("deathsig",), ("terminal",)),
        "guest_ids": (("undumpable",), ("drop",), ("chroot",), ("setid",)),
        "guest_image": (("memfd",), ("deleted",), ("nothing",)),
        "guest_init": (("kill",), ("term",)),
        "guest_interrupted": tuple(
            (call,)
            for call in (
                "poll", "sleep", "msgrcv", "futex", "read", "epoll-endless", "sigwait-endless", "semop-endless",
            )
        ),
        "guest_traces": (),
        "handler_counts": (("31",),),
        "interrupted_fork": (("101",),),
        "kills": (("kill",), ("pidfd",)),
        "later_close_range": ((), ("user",)),
        "later_exec": _each("mm files sighand fs sysvsem io uts ipc mnt net user cgroup time"),
        "later_exit": _each("files sysvsem fs mm"),
        "later_setns": _each("uts ipc mnt net user cgroup pid time"),
        "later_unshare": _each("fs files sysvsem uts ipc mnt net user cgroup pid time"),
        "leader_exits_first": ((),),
        "many_births": ((),),
        "many_processes": (("101",), ("101", "alive")),
        "many_threads": (("101",), ("101", "alive")),
        "nproc_eagain": ((),),
        "orphan_unannounced": (("5",),),
        "path_search": ((),),
        "pidns": ((),),
        "posix_spawn_one": ((),),
        "pthread_one": ((),),
        "runs_clone": ((),),
        "runs_helpers": ((),),
        "runs_threads": ((),),
        "reaping": (("waits",), ("ignores",), ("autoreaps",), ("inherited",)),
        "self_stop": ((),),
        "self_timed": (("2", "5"),),
        "set_tid": ((),),
        "setsid_daemon": ((),),
        "signals_exit": (("trap",), ("stop",)),
        "subreaper": ((),),
        "titled": ((),),
        "unwaited": ((),),
        "sharing_io_uring": ((),),
        "sharing_many": (("101",), ("101", "processes")),
        "sharing_namespaces": ((), ("user",)),
        "sharing_partly": ((),),
        "stack_broken": (("pointer",), ("overwritten",), ("astray",), ("recursive",), ("generated",)),
        "stack_calls": ((),),
        "stack_inlines": ((), ("7",)),
        "stack_kinds": ((),),
        "stack_shapes": tuple(
            (word,)
            for word in (
                "fork", "vfork", "clone", "syscall", "spawn", "system", "popen", "pthread", "thread", "handler",
                "altstack",
            )
        ),
        "textbook_clone": (("vm",), ("copy",)),
        "textbook_fork": ((),),
        "textbook_thread": ((),),
        "textbook_vfork": ((),),
        "thread_names": ((),),
        "thread_vfork": ((),),
        "threads_exit_group": ((),),
        "unshare_setns": ((),),
        "untraced": ((),),
        "vdso_busy": (("1009",),),
        "vfork_exec": ((),),
        "vfork_missing_exec": ((),),
        "vfork_names": ((),),
        "vm_writes": tuple((what, end) for what in ("something", "nothing") for end in ("exit", "exec", "kill")),
        "vfork_threads": (("exit",), ("exec",), ("kill",)),
        "vfork_writes": tuple((who, end) for who in ("vfork", "fork", "none") for end in ("exit", "exec", "kill")),
    }
)
"""Every program with the argument lists by which it ends with status 0 and a line that begins with "ok"."""

NOTICES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = MappingProxyType(
    {
        "guest_filters": (("strict",),),
        "guest_groups": (("pidfd",),),
        "guest_init": (("segv",), ("abort",)),
        "guest_interrupted": tuple((call,) for call in ("epoll", "sigwait", "semop")),
        "guest_traces": (("me",), ("attach",), ("seize",)),
    }
)
"""More lists, by which a program notices its tracer or the tracer loses sight of a task: docs/transparency.md."""


class Missing(Exception):  # noqa: N818 - tests read it as a state of the machine, not as an error
    """A tool that this machine lacks; the text names it and the Debian package that brings it."""


class CompileError(Exception):
    """A test program that its compiler refused: a mistake in the program, whatever the machine."""


def build(
    name: str, *, static: bool = False, libc: Libc = "glibc", m32: bool = False, more: tuple[str, ...] = ()
) -> Path:
    """The executable of ``tests/programs/NAME.c``, compiled now unless an earlier call or run left it.

    It lies in ``FORKLORE_BUILD_DIR``, or in a directory of the user's under the system's temporary one, in a
    folder named after the sources and flags, so that its own name (and so its comm) is NAME. ``m32`` makes an
    i386 program; ``more``: further words for the compiler.

    Raises :class:`Missing` where a compiler or its libraries are not installed, :class:`CompileError` with
    the compiler's own messages, and ValueError for musl with ``m32``, for which there is no compiler driver.
    """
    if libc == "musl" and m32:
        raise ValueError("musl-gcc makes programs of the host's own word size only: build with glibc for m32")
    compiler = _compiler(libc, static=static, m32=m32)
    source = SOURCES / f"{name}.c"
    base = source.stem
    command = (*compiler, *FLAGS, f"-I{SOURCES}", *more)
    parts = [os.fsencode(word) for word in command]
    parts += [_identity(compiler[0]), *(header.read_bytes() for header in HEADERS), source.read_bytes()]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    target = build_directory() / f"{base}-{key}" / base
    if not target.exists():
        _compile(command, source, target)
    return target


@functools.cache
def musl_version() -> tuple[int, ...]:
    """Of the musl that programs are built with; empty where there is none."""
    for library in Path("/lib").glob("ld-musl-*.so.1"):
        said = subprocess.run([library], capture_output=True, text=True, check=False).stderr
        version = re.search(r"Version (\d+)\.(\d+)\.(\d+)", said)
        assert version is not None, said
        return tuple(map(int, version.groups()))
    return ()


def musl_forks() -> str | None:
    """Why musl's vfork is a fork here; None if it is not: 1.2.5 has one for each machine, 1.2.3 only for some."""
    if os.uname().machine == "x86_64" or musl_version() >= (1, 2, 5):
        return None
    return f"musl before 1.2.5 ({musl_version()}) has no vfork for this machine, but a fork (src/process/vfork.c)"


def build_directory() -> Path:
    """Where :func:`build` puts what it makes: readable by all, writable by this user alone."""
    named = os.environ.get("FORKLORE_BUILD_DIR")
    directory = Path(named) if named else Path(tempfile.gettempdir()) / f"forklore-programs-{os.getuid()}"
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    about = directory.stat()
    if not named and (about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        raise PermissionError(
            f"{directory} belongs to somebody else or is writable by others, so what lies there may not be "
            "ours: remove it, or set FORKLORE_BUILD_DIR to another directory"
        )
    return directory


@functools.cache
def _compiler(libc: Libc, *, static: bool, m32: bool) -> tuple[str, ...]:
    driver, package = ("musl-gcc", "musl-tools") if libc == "musl" else ("gcc", "gcc libc6-dev")
    path = shutil.which(driver)
    if path is None:
        raise Missing(f"{driver} is not installed: apt-get install {package}")
    command = (path, *(("-static",) if static or libc == "musl" else ()), *(("-m32",) if m32 else ()))
    # Of the headers and libraries of another word size, only an attempt tells whether they are there.
    attempt = subprocess.run(
        [*command, "-x", "c", "-", "-o", os.devnull, "-pthread"],
        input='#include <stdio.h>\nint main(void) { return puts("") == EOF; }\n',
        capture_output=True,
        text=True,
        check=False,
    )
    if attempt.returncode != 0:
        needed = "gcc-multilib" if m32 else package
        first = attempt.stderr.strip().splitlines()[:1]
        raise Missing(
            f"{' '.join((driver, *command[1:]))} makes no program ({' '.join(first)}): "
            f"apt-get install {needed}"
        )
    return command


@functools.cache
def _identity(compiler: str) -> bytes:
    return subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout


def _compile(command: tuple[str, ...], source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o755, exist_ok=True)
    # Beside its place and renamed there: another worker may compile the same one now.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        made = Path(scratch) / target.name
        result = subprocess.run(
            [*command, str(source), "-o", str(made)], capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise CompileError(f"{' '.join(command)} {source}:\n{result.stderr}")
        made.chmod(0o755)
        made.replace(target)
