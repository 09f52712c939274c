"""How fast a log of strace is read, and in how much memory: a made log, each reader a process, rounds interleaved.

    scripts/bench/logs                             a log of 1 GB with all calls, then one of 100 MB with processes only
    scripts/bench/logs --size 200 --kind calls     of that many MB, one kind
    scripts/bench/logs --against DIR --rounds 7    beside another checkout of forklore
    scripts/bench/logs --write FILE --size 10      only make the log

The log is that of a build: ``make -j8`` starts programs, which are linked and read and write, ``calls`` lines for each
on average, their lines mixed. In ``processes`` there is what ``-e trace=process`` leaves. ``events`` is reading alone,
``show`` the tree on the screen. Time is the processor's. Exit status: 0 done.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from bench.measure import HERE

_MB: Final = 1_000_000
_JOBS: Final = 8
_PATIENCE: Final = 3600
_KINDS: Final = {"calls": 1000, "processes": 100}
"""How many MB a log of each kind has by default."""
_SOURCE: Final = HERE.parent.parent

_LINKED: Final = (
    "brk(NULL)                               = 0x557e016cc000",
    'access("/etc/ld.so.preload", R_OK)      = -1 ENOENT (No such file or directory)',
    'openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3',
    'newfstatat(3, "", {st_mode=S_IFREG|0644, st_size=43415, ...}, AT_EMPTY_PATH) = 0',
    "mmap(NULL, 43415, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f7d36bed000",
    "close(3)                                = 0",
    'openat(AT_FDCWD, "/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY|O_CLOEXEC) = 3',
    r'read(3, "\177ELF\2\1\1\3\0\0\0\0\0\0\0\0\3\0>\0\1\0\0\0\20t\2\0\0\0\0\0"..., 832) = 832',
    "mmap(0x7f7d36be9000, 4096, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 0x1000) = 0x7f7d36be9000",
    "mprotect(0x7f7d36bcb000, 16384, PROT_READ) = 0",
    "set_tid_address(0x7f7d36a50a10)         = {tid}",
    "munmap(0x7f7d36bed000, 43415)           = 0",
)
_WORK: Final = (
    'openat(AT_FDCWD, "/usr/include/x86_64-linux-gnu/bits/types.h", O_RDONLY|O_NOCTTY) = 4',
    'newfstatat(4, "", {st_mode=S_IFREG|0644, st_size=8474, ...}, AT_EMPTY_PATH) = 0',
    r'read(4, "/* bits/types.h -- definitions o"..., 8474) = 8474',
    'readlink("/usr/lib/gcc/x86_64-linux-gnu", 0x7ffc4a2e9d20, 1023) = -1 EINVAL (Invalid argument)',
    "brk(0x1fbd000)                          = 0x1fbd000",
    "mmap(NULL, 266240, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f1c3fbf6000",
    r'write(5, "\t.file\t\"f12.c\"\n\t.text\n\t.globl\tf"..., 4096) = 4096',
    "rt_sigaction(SIGINT, {sa_handler=SIG_IGN, sa_mask=[], sa_flags=0}, {sa_handler=SIG_DFL}, 8) = 0",
    "close(4)                                = 0",
    "futex(0x7f7d36bc3a18, FUTEX_WAKE_PRIVATE, 2147483647) = 0",
)
_EXECUTED: Final = (
    'execve("/usr/lib/gcc/x86_64-linux-gnu/12/cc1", ["/usr/lib/gcc/x86_64-linux-gnu/12"..., "-quiet", "-imultiarch", '
    '"x86_64-linux-gnu", "f{tid}.c", "-quiet", "-dumpbase", "f{tid}.c", "-mtune=generic", ...], 0x2b1c7c0 /* 23 vars */'
    ") = 0"
)
_MADE: Final = (
    "clone3({{flags=CLONE_VM|CLONE_VFORK|CLONE_CLEAR_SIGHAND, exit_signal=SIGCHLD, stack=0x7f4d2b9b5000, "
    "stack_size=0x9000}}, 88"
)
_SIGNAL: Final = (
    "--- SIGCHLD {{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid={tid}, si_uid=0, si_status=0, si_utime=1, si_stime=0}}"
    " ---"
)


def made(kind: str, size: int, seed: int = 1) -> Iterator[str]:
    """The lines of a log of about ``size`` bytes."""
    random = Random(seed)
    maker, tid, clock, written = 1000, 1000, 1_795_000_000.0, 0
    running: dict[int, Iterator[str]] = {}
    yield f'{maker} {clock:.6f} execve("/usr/bin/make", ["make", "-j8"], 0x7fff68a4b738 /* 39 vars */) = 0\n'
    yield f"{maker} {clock:.6f} {_LINKED[1]}\n"
    while written < size or running:
        clock += 0.000023
        if written < size and (len(running) < _JOBS):
            tid = tid + 1 if tid < 4_194_303 else 301
            tid += tid == maker
            running[tid] = _child(kind, tid, random)
            lines = [(maker, f"{_MADE.format()} <unfinished ...>"), (tid, _EXECUTED.format(tid=tid)),
                     (maker, f"<... clone3 resumed>) = {tid}")]  # fmt: skip
        else:
            who = random.choice(list(running))
            text = next(running[who], None)
            if text is None:
                del running[who]
                lines = [(who, "+++ exited with 0 +++"), (maker, _SIGNAL.format(tid=who)),
                         (maker, f"wait4(-1, [{{WIFEXITED(s) && WEXITSTATUS(s) == 0}}], 0, NULL) = {who}")]  # fmt: skip
            else:
                lines = [(who, text)]
        for whose, text in lines:
            line = f"{whose} {clock:.6f} {text}\n"
            written += len(line)
            yield line
    yield f"{maker} {clock:.6f} exit_group(0)                           = ?\n"
    yield f"{maker} {clock:.6f} +++ exited with 0 +++\n"


def _child(kind: str, tid: int, random: Random) -> Iterator[str]:
    if kind == "calls":
        yield from (text.format(tid=tid) if "{tid}" in text else text for text in _LINKED)
        for _ in range(random.randrange(200, 1800)):
            text = random.choice(_WORK)
            if random.random() < 0.2:
                name, _, rest = text.partition("(")
                yield f"{name}({rest.partition(',')[0]} <unfinished ...>"
                yield f"<... {name} resumed>) = 0"
            else:
                yield text
    yield "exit_group(0)                           = ?"


_READ: Final = """
import json, os, re, sys, time
sys.path.insert(0, sys.argv[1])
begun = time.process_time()
if sys.argv[2] == "show":
    from forklore.cli.main import main
    sys.stdout = open(os.devnull, "w")
    main(["show", "--color", "never", sys.argv[3]])
    count = None
else:
    from forklore.sources.files import open_any
    count = sum(1 for _ in open_any(sys.argv[3]))
took = time.process_time() - begun
peak = int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
json.dump({"took": took, "peak": peak, "events": count}, sys.__stdout__)
"""


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench/logs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kind", choices=_KINDS, action="append", help="which log (default: both)")
    parser.add_argument("--size", type=int, metavar="MB", help="how large")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each (default: 3)")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, read in turn with this one")
    parser.add_argument("--view", choices=("events", "show"), action="append", help="what is read (default: events)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="only make the log")
    options = parser.parse_args()
    kinds = options.kind or list(_KINDS)
    if options.write is not None:
        with options.write.open("w") as log:
            log.writelines(made(kinds[0], (options.size or _KINDS[kinds[0]]) * _MB))
        return 0
    checkouts = [_SOURCE] if options.against is None else [options.against, _SOURCE]
    with tempfile.TemporaryDirectory(prefix="forklore-logs-", dir="/var/tmp") as folder:
        for kind in kinds:
            path = Path(folder) / kind
            with path.open("w") as log:
                log.writelines(made(kind, (options.size or _KINDS[kind]) * _MB))
            for view in options.view or ["events"]:
                _compared(path, view, checkouts, options.rounds)
            path.unlink()
    return 0


def _compared(path: Path, view: str, checkouts: list[Path], rounds: int) -> None:
    size = path.stat().st_size
    runs: dict[Path, list[dict[str, int | None]]] = {each: [] for each in checkouts}
    for _ in range(rounds):
        for checkout in checkouts:
            command: list[str] = [sys.executable, "-I", "-c", _READ, str(checkout / "src"), view, str(path)]
            ran = subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE)
            runs[checkout].append(json.loads(ran.stdout))
    for checkout, each in runs.items():
        took = statistics.median(run["took"] or 0 for run in each)
        peak = statistics.median(run["peak"] or 0 for run in each)
        events = "" if each[0]["events"] is None else f", {each[0]['events']} events"
        print(
            f"{path.name} {view}: {size / _MB / took:.1f} MB/s ({size / _MB:.0f} MB in {took:.2f} s{events}), "
            f"at most {peak // 1024} MiB  [{checkout}]",
            flush=True,
        )
