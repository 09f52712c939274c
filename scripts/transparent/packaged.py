"""Tests that bash and perl bring along for themselves, from the unpacked sources of their packages.

Debian packages them nowhere else: ``cd /usr/src; apt source bash perl`` fetches them. ``FORKLORE_SOURCES`` names
another folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from shlex import quote
from typing import Final

from transparent.workload import Workload, lacks

SOURCES: Final = Path(os.environ.get("FORKLORE_SOURCES", "/usr/src"))

_BASH: Final = (
    "builtins", "comsub", "comsub-eof", "comsub-posix", "coproc", "dbg-support", "dbg-support2", "dynvar", "errors",
    "execscript", "exportfunc", "func", "heredoc", "herestr", "history", "input-test", "invert", "jobs", "lastpipe",
    "mapfile", "parser", "posixpipe", "procsub", "read", "redir", "rsh", "set-e", "set-x", "shopt", "test", "trap",
    "type", "varenv", "vredir",
)  # fmt: skip
"""Those of its ``run-*`` scripts that start, end, signal or redirect something."""

_PERL: Final = {
    "t": (
        "op/alarm", "op/die_exit", "op/exec", "op/fork", "op/getpid", "op/getppid", "op/kill0", "op/sigdispatch",
        "op/sigsystem", "op/select", "op/sselect", "op/sleep", "op/threads", "op/waitpid", "io/closepid", "io/dup",
        "io/errno", "io/errnosig", "io/fflush", "io/inplace", "io/msg", "io/open", "io/openpid", "io/pipe", "io/sem",
        "io/shm", "io/socket", "io/socketpair",
    ),
    "ext/POSIX": ("t/posix", "t/sigaction", "t/sigset", "t/termios", "t/waitpid"),
    "ext/IPC-Open3": ("t/IPC-Open2", "t/IPC-Open3", "t/fd"),
    "dist/threads": ("t/basic", "t/end", "t/exit", "t/join", "t/kill", "t/kill2", "t/kill3", "t/libc", "t/stack",
                     "t/state", "t/thread"),
}  # fmt: skip
"""By the folder that each is run in."""


def _unpacked(package: str, folder: str) -> tuple[Path | None, str]:
    found = SOURCES.glob(f"{package}-[0-9]*/{folder}")
    newest = max(found, key=lambda path: [int(word) for word in re.findall(r"\d+", str(path))], default=None)
    if newest:
        return newest, ""
    return None, f"no sources of {package} in {SOURCES} (Debian: cd {SOURCES}; apt source {package})"


def bash_tests() -> list[Workload]:
    """What differs from the results that bash's authors expect, and all that their tests print."""
    tests, needs = _unpacked("bash", "tests")
    root = quote(str(tests and tests.parent))
    script = f"""
    cp -r {root}/tests . && cd tests || exit
    for name in recho zecho printenv xcase; do
        env -u LD_PRELOAD gcc -w -I{root} -I{root}/include -o $name {root}/support/$name.c || exit
    done
    export THIS_SH=/bin/bash BASH_TSTOUT=$PWD/../out TMPDIR=$PWD/.. PATH=.:$PATH
    sh ./run-$0 2> /dev/null; cat ../out 2> /dev/null; rm -f ../out
    """
    return [
        Workload(
            f"bash's run-{name}", ("sh", "-c", script, name), needs=needs or lacks("gcc", "gcc libc6-dev"), limit=400.0
        )
        for name in _BASH
    ]


def perl_tests() -> list[Workload]:
    """Perl's tests, a file each, by the installed interpreter and its modules."""
    tests, needs = _unpacked("perl", "t")
    root = quote(str(tests and tests.parent))
    # Left to themselves, they find only the modules of a perl that was built in place.
    script = f"""
    cp -r {root}/t . && mkdir -p $1 || exit
    [ $1 = t ] || cp -r {root}/$1/t $1
    sed -i 's/^sub set_up_inc {{/& return;/' t/test.pl && cd $1 && TMPDIR=$PWD perl $(head -1 $0 | grep -o -- -T) $0
    """
    needs = needs or lacks("perl", "perl")
    return [
        Workload(
            f"perl's {folder} {file}", ("sh", "-c", script, f"{file}.t", folder), needs=needs, limit=240.0,
            environment={"PERL_CORE": "1"},
        )
        for folder, files in _PERL.items()
        for file in files
    ]  # fmt: skip
