"""For each rule of `forklore check`: programs that show it, and programs that look like it and are right."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from types import MappingProxyType
from typing import Final

import pytest
from hanging import made
from msgspec import Struct
from programs import SOURCES, Missing
from tracing import Program

from forklore.model.tasks import Trace

Words = tuple[str | Path, ...]


class Ground(Struct, frozen=True):
    """Where a case is run."""

    program: Program
    folder: Path


class Case(Struct, frozen=True):
    """A program and what is said of it."""

    command: Callable[[Ground], Words]
    says: str = ""
    """What its sentence is, as a regular expression; a group ``t0`` is the tid of the first task that it names, ``t1``
    of the second. Empty for a program that is right."""
    tasks: tuple[str, ...] = ()
    """The names of those tasks, as many as are to be looked at."""
    severity: str = ""
    sure: bool = True
    function: str = ""
    """The function that did it, where its line is to be known."""
    others: frozenset[str] = frozenset()
    """What else is found of that program."""
    times: float | None = None
    """By how much the times of its trace are multiplied before it is judged; None: not at all if it is wrong, and by
    a hundredth if it is right, so that it is right on a machine that stands still for seconds, too."""
    too_slow: Callable[[Trace], bool] | None = None
    """Whether the machine stood still for so long that nothing is to be found."""
    options: tuple[str, ...] = ()
    """Of `forklore run`."""
    cgroup: tuple[str, str] = ("", "")
    """A limit that it runs under, and its value: ``pids.max``, ``memory.max``."""


def c(source: str, *words: str) -> Callable[[Ground], Words]:
    """A program of tests/programs/findings."""
    more = ("-g", "-O1", "-fno-inline")
    return lambda ground: (ground.program(f"findings/{source}", more=more), *words)


def wrong(what: str) -> Callable[[Ground], Words]:
    """``wrong WHAT``."""
    return c("wrong", what)


def cxx(what: str) -> Callable[[Ground], Words]:
    """``beside_thread WHAT``, in C++."""

    def command(_ground: Ground) -> Words:
        try:
            return made(SOURCES / "findings" / "beside_thread.cc"), what
        except Missing as missing:
            pytest.skip(str(missing))

    return command


def python(what: str) -> Callable[[Ground], Words]:
    """``beside_thread WHAT``, in Python."""
    return lambda _ground: (sys.executable, SOURCES / "findings" / "beside_thread.py", what)


def need(name: str, package: str) -> str:
    """The path of a program; the test is skipped where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} on this machine (package: {package})")
    return path


def executes_late(trace: Trace) -> bool:
    """Whether the first child took half a second for its exec, from when it was made."""
    child = next(task for task in trace.tasks.values() if task.creator is not None)
    assert child.created is not None
    assert child.images[0].t is not None
    return child.images[0].t - child.created >= 500_000_000


_SUB: Final = "all: a b c\na b c: ; @/bin/true $@\n"


def make(call: str) -> Callable[[Ground], Words]:
    """A make with -j2 that starts another one by that line; @ is the path of make."""

    def command(ground: Ground) -> Words:
        path = need("make", "make")  # and not by PATH, which may be long
        (ground.folder / "Makefile").write_text(f"all: ; @{call.replace('@', path)}\n")
        (ground.folder / "sub.mk").write_text(_SUB)
        return path, "-sj2"

    return command


def set_id(*before: str) -> Callable[[Ground], Words]:
    """`id -u` as a set-user-id program of another user."""

    def command(ground: Ground) -> Words:
        if os.geteuid() != 0:
            pytest.skip("only root can make a set-id file of another user")
        if os.statvfs(ground.folder).f_flag & os.ST_NOSUID:
            pytest.skip(f"{ground.folder} is mounted nosuid")
        need("setpriv", "util-linux")
        file = ground.folder / "id"
        shutil.copy("/usr/bin/id", file)
        os.chown(file, 65534, 65534)
        file.chmod(0o4755)
        return *before, file, "-u"

    return command


_CGROUPS: Final = {
    "pids.max": (("pids.max", "/sys/fs/cgroup/pids"), ("pids.max", "/sys/fs/cgroup")),
    "memory.max": (("memory.limit_in_bytes", "/sys/fs/cgroup/memory"), ("memory.max", "/sys/fs/cgroup")),
}
"""The file of a limit and where its hierarchy is mounted, by the first version of cgroups and by the second."""


@contextmanager
def limited(limit: str, value: str) -> Iterator[Path]:
    """A cgroup with a limit: the file that takes pids. The test is skipped where none can be made."""
    problems = []
    for name, root in _CGROUPS[limit]:
        try:
            group = Path(mkdtemp(prefix="forklore-", dir=root))
        except OSError as problem:
            problems.append(str(problem))
            continue
        try:
            (group / name).write_text(value)
        except OSError as problem:
            group.rmdir()
            problems.append(str(problem))
            continue
        try:
            yield group / "cgroup.procs"
        finally:
            group.rmdir()
        return
    pytest.skip(f"no cgroup with {limit} can be made here: {'; '.join(problems)}")


QUICK: Final = 0.01
OTHER_USER: Final = str(70000 + os.getpid() % 10000)
"""Who has no task."""
_VFORK: Final = ("--vfork-writes",)
_ALL_CALLS: Final = ("--stops=syscalls",)
_WRITES: Final = frozenset({"vfork-child-writes"})
# A raw clone that is no fork() and no exec is told by a rule of its own.
_STALE: Final = frozenset({"stale-thread-descriptor"})
_WRONG: Final = ("wrong", "wrong")
_SPAN: Final = r"[\d.]+ (?:ms|s|µs|min)(?: \d+ s)?"

WRONG: Final[Mapping[str, Mapping[str, Case]]] = MappingProxyType({
    "crash": {
        "segv": Case(wrong("crash"), r"(?P<t0>\d+) wrong crashed: SIGSEGV at 0x10 in fall, wrong\.c:\d+", ("wrong",),
                     "error", function="fall"),
    },
    "killed": {
        "kill": Case(wrong("kill"), r"(?P<t0>\d+) wrong was ended by SIGKILL from \d+ wrong", ("wrong",), "note"),
        "tgkill": Case(wrong("tgkill"), r"(?P<t0>\d+) wrong was ended by SIGKILL from \d+ wrong", ("wrong",), "note"),
        "pidfd": Case(wrong("pidfd"), r"(?P<t0>\d+) wrong was ended by SIGKILL from \d+ wrong", ("wrong",), "note"),
        "by forklore": Case(
            lambda _ground: ("sleep", "99"), r"(?P<t0>\d+) sleep was ended by SIGKILL from forklore, .*", ("sleep",),
            "note", options=("--timeout", "0.2", "--signal", "KILL"),
        ),
        "for want of memory": Case(
            c("refused", "hungry", "64"),
            r"(?P<t0>\d+) refused was ended by SIGKILL: nobody in sight sent it, and the OOM killer ended something"
            r" meanwhile", ("refused",), "error", sure=False, cgroup=("memory.max", "32M"),
        ),
    },
    "left-behind": {
        "child": Case(wrong("left"), rf"(?P<t0>\d+) wrong, which never left its session, lived on for {_SPAN} after"
                      r" \d+ wrong had ended", ("wrong",), "warning", function="child_that"),
        "daemon": Case(wrong("left-daemon"), rf"(?P<t0>\d+) wrong, a daemon by setsid, lived on for {_SPAN} after \d+"
                       " wrong had ended", ("wrong",), "note", function="child_that"),
    },
    "exec-failed-unnoticed": {
        "status 0": Case(wrong("unnoticed"), r"(?P<t0>\d+) wrong could not execute /nowhere/tool \(ENOENT\), and ended"
                         " with exit status 0 all the same: nobody can notice", ("wrong",), "warning"),
    },
    "never-waited": {
        "child": Case(wrong("unwaited"), rf"(?P<t0>\d+) wrong was a zombie for {_SPAN}: (?P<t1>\d+) wrong ended"
                      " without having waited for it", _WRONG, "warning"),
    },
    "zombie-stood-long": {
        "ten seconds": Case(wrong("late"), rf"(?P<t0>\d+) wrong was a zombie for {_SPAN} before (?P<t1>\d+) wrong"
                            " waited for it", _WRONG, "note", times=100),
    },
    "sigchld-ignored": {
        "ignored": Case(wrong("ignored"), r"how (?P<t0>\d+) wrong ended is lost: (?P<t1>\d+) wrong ignores SIGCHLD",
                        _WRONG, "note"),
    },
    "descriptor-survived-exec": {
        "socket": Case(wrong("leak"), r"socket:\[\d+\] at 3, open in (?P<t1>\d+) wrong without close-on-exec,"
                       r" survived the exec of (?P<t0>\d+) true", ("true", "wrong"), "note"),
    },
    "pipe-held-by-bystander": {
        "write end": Case(wrong("pipe"), r"(?P<t1>\d+) wrong could not see the end of the data in pipe:\[\d+\]:"
                          rf" (?P<t0>\d+) wrong held its write end, which survived its exec, for {_SPAN} after all"
                          " others that held it had ended", _WRONG, "error", sure=False),
        "by fork": Case(wrong("pipe-forked"), r"(?P<t1>\d+) wrong could not see the end of the data in pipe:\[\d+\]:"
                        rf" (?P<t0>\d+) wrong held its write end, which it got by fork, for {_SPAN} after all others"
                        " that held it had ended", _WRONG, "error", sure=False),
    },
    "fork-with-threads": {
        "C": Case(wrong("threads-fork"), r"(?P<t0>\d+) wrong was forked by fork while 1 other thread of (?P<t1>\d+)"
                  rf" ran, and ran for {_SPAN}", _WRONG, "warning", function="child_that"),
        "C++": Case(cxx("fork"), r"(?P<t0>\d+) beside_thread was forked by fork while 1 other thread of (?P<t1>\d+)"
                    rf" ran, and ran for {_SPAN}", ("beside_thread", "beside_thread"), "warning", function="forked"),
        "Python": Case(python("fork"), r"(?P<t0>\d+) python\S* was forked by os\.fork while 1 other thread of"
                       rf" (?P<t1>\d+) \((?:worker|python\S*)\) ran, and ran for {_SPAN}", (), "warning",
                       function="forked"),
    },
    "stale-thread-descriptor": {
        "raw clone": Case(wrong("raw"), r"(?P<t0>\d+) wrong was made by syscall\(\), past the C library's fork\(\), and"
                          r" executed nothing: what the library has for its thread still says (?P<t1>\d+)", _WRONG,
                          "warning", function="bare_clone"),
    },
    "costly-fork": {
        "1 GiB": Case(c("often", "large"), r"fork of (?P<t1>\d+) often, whose process had up to 1\.\d GB resident,"
                      rf" took {_SPAN} for a child that only executes true; what posix_spawn would take is not known,"
                      " for no call here shares memory", ("true", "often"), "note", function="large",
                      too_slow=executes_late),
        "beside posix_spawn": Case(
            c("often", "large-both"), r"fork of (?P<t1>\d+) often, whose process had up to 1\.\d GB resident,"
            rf" took {_SPAN} for a child that only executes true; calls that share memory, as posix_spawn's, took"
            rf" (?:less than 1 ms|{_SPAN}) here", ("true", "often"), "note", function="large",
            too_slow=executes_late,
        ),
    },
    "vfork-child-exits": {
        "exit": Case(wrong("vfork-exit"), r"(?P<t0>\d+) wrong, a vfork child, called exit\(\): atexit's handlers ran"
                     r" and stdio's buffers were written out in the memory of (?P<t1>\d+) wrong, which does so again at"
                     " its own end", _WRONG, "error", function="vfork_that", others=_WRITES, options=_VFORK),
    },
    "vfork-child-returns": {
        "return": Case(wrong("vfork-return"), r"(?P<t0>\d+) wrong, a vfork child, returned from returns_twice, which"
                       r" had called vfork: what it called next overwrote the stack on which (?P<t1>\d+) wrong was to"
                       " go on", _WRONG, "error", others=_WRITES, options=_VFORK),
    },
    "vfork-child-writes": {
        "variable": Case(wrong("vfork-write"), r"(?P<t0>\d+) wrong, a vfork child, changed 1 place of (?P<t1>\d+)'s"
                         " memory: shared 0 → 7", _WRONG, "warning", function="vfork_that", options=_VFORK),
    },
    "vfork-child-runs-long": {
        "sleep": Case(wrong("vfork-long"), r"(?P<t0>\d+) wrong, a vfork child, kept (?P<t1>\d+) wrong waiting for"
                      rf" {_SPAN} and executed nothing", _WRONG, "warning", function="vfork_that"),
    },
    "exit-signal": {
        "SIGUSR1": Case(wrong("signal"), r"(?P<t0>\d+) wrong sends SIGUSR1 to (?P<t1>\d+) wrong when it ends, and not"
                        " SIGCHLD: wait without __WALL or __WCLONE does not see it", _WRONG, "warning"),
        "none": Case(wrong("signal-none"), r"(?P<t0>\d+) wrong sends nothing to (?P<t1>\d+) wrong when it ends, and not"
                     " SIGCHLD: wait without __WALL or __WCLONE does not see it", _WRONG, "note"),
    },
    "newtime-in-clone": {
        "clone": Case(wrong("newtime"), r"clone\(2\) of (?P<t1>\d+) wrong was given CLONE_NEWTIME, which is a part of"
                      r" the exit signal there: (?P<t0>\d+) wrong is in no new time namespace, and sends its creator"
                      " nothing where SIGCHLD was meant", _WRONG, "error"),
    },
    "fs-shared-over-exec": {
        "clone": Case(wrong("fs"), r"(?P<t0>\d+) wrong shares root, working directory and umask with (?P<t1>\d+) wrong"
                      " beyond its exec: chdir of one moves the other, and set-id programs get no privilege", _WRONG,
                      "warning"),
    },
    "handlers-shared": {
        "clone": Case(wrong("handlers"), r"(?P<t0>\d+) wrong, a process of its own, has its signal handlers in common"
                      r" with (?P<t1>\d+) wrong: sigaction of one changes the other", _WRONG, "note", others=_STALE),
    },
    "clone3-refused": {
        "ENOSYS": Case(
            c("refused", "clone3-enosys"), r"clone3 of (?P<t0>\d+) refused was refused with ENOSYS \(a seccomp filter"
            r" answers the call with ENOSYS; .*\); clone was called instead and made (?P<t1>\d+) refused",
            ("refused", "refused"), "note", options=_ALL_CALLS,
        ),
        "EPERM": Case(
            c("refused", "clone3-eperm"), r"clone3 of (?P<t0>\d+) refused was refused with EPERM \(a seccomp filter"
            r" answers clone3 with EPERM, .*\), and no other call was made instead", ("refused",), "error",
            options=_ALL_CALLS,
        ),
    },
    "task-limit-reached": {
        "RLIMIT_NPROC": Case(
            lambda ground: (ground.program("nproc_eagain"), OTHER_USER, "5"), r"(?P<t0>\d+) nproc_eagain could make no"
            r" child: .* gave EAGAIN: .*RLIMIT_NPROC is 5 and user \d+ has \d+ tasks.*", ("nproc_eagain",), "error",
            others=_STALE,
        ),
        "pids.max": Case(
            c("refused", "too-many", "40"),
            r"(?P<t0>\d+) refused could make no child: clone gave EAGAIN: .*pids\.max.*",
            ("refused",), "error", cgroup=("pids.max", "20"), others=frozenset({"task-limit-near"}),
        ),
    },
    "task-limit-near": {
        "pids.max": Case(
            c("refused", "at-once", "33"),
            r"34 tasks of the trace lived at once, with pids\.max 40 of its cgroup, which had \d+ when .*: \d\d %",
            ("refused",), "warning", cgroup=("pids.max", "40"),
        ),
    },
    "exec-searched-path": {
        "13 directories": Case(
            c("often", "search"),
            r"13 execs failed before 1 program started by (?P<t0>\d+) often were found along PATH; true took 13",
            ("often", "true"), "note",
        ),
    },
    "spawn-storm": {
        "211 at once": Case(
            c("often", "storm"), rf"(?P<t0>\d+) often made 211 processes in {_SPAN}, {_SPAN} each in the middle",
            ("often", "often"), "note", function="storm", times=QUICK,
        ),
    },
    "thread-churn": {
        "211 in turn": Case(
            c("often", "churn"), rf"(?P<t0>\d+) often made 211 threads that lived for {_SPAN} in the middle",
            ("often", "often"), "note", function="threads", times=QUICK,
        ),
    },
    "shell-only-execs": {
        "system": Case(
            c("often", "shells"), r"(?P<t0>\d+) often started 11 shells that did nothing but execute one command of"
            " plain words, first: sh -c (?:-- )?'/bin/true 0'", ("often",), "note", function="shells",
        ),
    },
    "same-command-again": {
        "posix_spawn": Case(
            c("often", "same"), rf"(?P<t0>\d+) often ran the same command 23 times, {_SPAN} together: true 0",
            ("often", "true"), "note", function="commands",
        ),
    },
    "jobserver-lost": {
        "by a shell": Case(
            make("/bin/sh -c 'exec @ -f sub.mk'"), r"(?P<t0>\d+) make ran 3 commands one after the other, below"
            r" (?P<t1>\d+) make with -j2: it has not got the jobserver's pipe", ("make", "make"), "warning", sure=False,
        ),
    },
    "set-id-lost": {
        "no_new_privs": Case(
            set_id("setpriv", "--no-new-privs"),
            r"(?P<t0>\d+) id was to run as user 65534 and not 0, as its file says.*",
            ("id",), "warning",
        ),
    },
})  # fmt: skip
"""Programs that show a rule, by rule and name."""

_VFORK_RIGHT: Final = Case(wrong("vfork-right"), options=_VFORK)

RIGHT: Final[Mapping[str, Mapping[str, Case]]] = MappingProxyType({
    "crash": {"handled": Case(wrong("crash-handled"))},
    "killed": {
        "handled": Case(wrong("kill-handled")),
        "SIGPIPE": Case(wrong("kill-pipe")),
        "enough memory": Case(c("refused", "hungry", "8"), cgroup=("memory.max", "32M")),
    },
    "left-behind": {"waited for": Case(wrong("waited")), "ends with it": Case(wrong("left-right-after"))},
    "exec-failed-unnoticed": {"127": Case(wrong("noticed"))},
    "never-waited": {"waited for": Case(wrong("waited"))},
    "zombie-stood-long": {"a fifth of a second": Case(wrong("late"), times=0.1)},
    "sigchld-ignored": {"no more": Case(wrong("ignored-no-more"))},
    "descriptor-survived-exec": {
        "close-on-exec": Case(wrong("leak-cloexec")),
        "a file, in a helper that its opener outlives": Case(wrong("leak-file")),
    },
    "pipe-held-by-bystander": {"close-on-exec": Case(wrong("pipe-cloexec"))},
    "fork-with-threads": {
        "C, exec": Case(wrong("threads-exec")),
        "C++, joined": Case(cxx("joined")),
        "C++, posix_spawn": Case(cxx("spawn")),
        "Python, joined": Case(python("joined")),
        "Python, subprocess": Case(python("run")),
    },
    "stale-thread-descriptor": {"exec": Case(wrong("raw-exec"))},
    "costly-fork": {
        "posix_spawn": Case(c("often", "large-spawned")),
        "little memory": Case(c("often", "large", "8")),
    },
    "vfork-child-exits": {"_exit": _VFORK_RIGHT},
    "vfork-child-returns": {"_exit": _VFORK_RIGHT},
    "vfork-child-writes": {"_exit": _VFORK_RIGHT},
    "vfork-child-runs-long": {"fork": Case(wrong("fork-long"), times=1), "_exit": _VFORK_RIGHT},
    "exit-signal": {"exec": Case(wrong("signal-exec"))},
    "newtime-in-clone": {"clone3": Case(wrong("newtime-clone3"), others=_STALE)},
    "fs-shared-over-exec": {"no exec": Case(wrong("fs-end")), "unshare": Case(wrong("fs-unshare"))},
    "handlers-shared": {"exec": Case(wrong("handlers-exec"))},
    "clone3-refused": {"no privilege": Case(c("refused", "clone3-earned"), options=_ALL_CALLS)},
    "task-limit-reached": {"in turn": Case(c("refused", "one-by-one-as-a-user"))},
    "task-limit-near": {"in turn": Case(c("refused", "one-by-one", "33"), cgroup=("pids.max", "40"))},
    "exec-searched-path": {
        "3 directories": Case(c("often", "search", "3")),
        "in vain": Case(c("often", "search-in-vain")),
    },
    "spawn-storm": {"of several": Case(c("often", "storm-of-several"))},
    "thread-churn": {"pool": Case(c("often", "pool"), times=100)},
    "shell-only-execs": {"redirection": Case(c("often", "shells-with-work"))},
    "same-command-again": {"other arguments": Case(c("often", "different"))},
    "jobserver-lost": {"$(MAKE)": Case(make("$(MAKE) -f sub.mk"))},
    "set-id-lost": {"privilege kept": Case(set_id())},
})  # fmt: skip
"""Programs that look like it and are right, by rule and name: nothing is found of them but ``others``."""
