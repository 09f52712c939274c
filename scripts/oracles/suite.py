"""Real programs to compare trees on. Each runs in a directory of its own, made anew for each run."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import sources
from .errors import OracleError
from .record import Program


@dataclass(frozen=True, slots=True)
class Workload:
    """``setup`` fills a directory once and returns the command, which runs in copies of that directory."""

    name: str
    needs: dict[str, str]
    """Commands that it uses, and the Debian package of each."""
    setup: Callable[[Path], list[str]]
    user: str | None = None
    """Run as this user where we are root, for a program that refuses root."""

    def missing(self) -> str | None:
        """What this machine lacks for the workload, and the package that brings it."""
        lacking = {command: package for command, package in self.needs.items() if find(command) is None}
        if not lacking:
            return None
        return ", ".join(f"no {command} (package: {package})" for command, package in lacking.items())

    def program(self, scratch: Path) -> Program:
        """The workload as a program to run; all of its files stay below ``scratch``."""
        template = scratch / self.name
        template.mkdir()
        command = self.setup(template)
        numbers = itertools.count(1)
        owner = self._owner()

        def fresh() -> Path:
            copy = scratch / f"{self.name}.{next(numbers)}"
            shutil.copytree(template, copy, symlinks=True)
            if owner:
                scratch.chmod(0o711)
                _give(copy, owner)
            return copy

        return Program([*_as_user(owner), *command], fresh)

    def _owner(self) -> pwd.struct_passwd | None:
        if self.user is None or os.geteuid() != 0:
            return None
        for name in (self.user, "nobody"):
            try:
                return pwd.getpwnam(name)
            except KeyError:
                continue
        raise OracleError(f"{self.name} refuses root, and there is no user {self.user} or nobody to run it as")


def _as_user(owner: pwd.struct_passwd | None) -> list[str]:
    if owner is None:
        return []
    if shutil.which("setpriv") is None:
        raise OracleError("no setpriv to leave root with (package: util-linux)")
    return ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", "--"]


def _give(directory: Path, owner: pwd.struct_passwd) -> None:
    for entry in (directory, *directory.rglob("*")):
        os.chown(entry, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def find(command: str) -> Path | None:
    """The path of a command; PostgreSQL's server commands are looked for where Debian hides them, too."""
    if found := shutil.which(command):
        return Path(found)
    hidden = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{command}"), key=lambda path: path.parts[-3])
    return hidden[-1] if hidden else None


def _script(name: str, text: str, *command: str) -> Callable[[Path], list[str]]:
    def setup(directory: Path) -> list[str]:
        (directory / name).write_text(text)
        return [*command, name]

    return setup


def _make(directory: Path) -> list[str]:
    names = ["alpha", "beta", "gamma", "delta", "main"]
    for name in names[:-1]:
        (directory / f"{name}.c").write_text(f"int {name}(int n) {{ return n + {len(name)}; }}\n")
    calls = " + ".join(f"{name}(1)" for name in names[:-1])
    declared = "".join(f"int {name}(int);\n" for name in names[:-1])
    (directory / "main.c").write_text(f"{declared}int main(void) {{ return {calls} == 0; }}\n")
    objects = " ".join(f"{name}.o" for name in names)
    (directory / "Makefile").write_text(sources.MAKEFILE.format(objects=objects))
    return ["make", "-j2"]


def _java(directory: Path) -> list[str]:
    (directory / "Family.java").write_text(sources.JAVA)
    compiler = ["javac", "Family.java"]
    done = subprocess.run(compiler, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OracleError(f"javac failed: {done.stderr}")
    # The JVM sizes its thread pools by load and by the clock; a fixed number can be compared between runs.
    steady = ["-XX:+UseSerialGC", "-XX:-UseDynamicNumberOfCompilerThreads"]
    return ["java", *steady, "Family"]


def _postgres(directory: Path) -> list[str]:
    server = find("initdb")
    if server is None:
        raise OracleError("initdb has gone")
    (directory / "postgres.sh").write_text(sources.POSTGRES.replace("@BIN@", str(server.resolve().parent)))
    return ["sh", "postgres.sh"]


_PYTHON: Final = {sys.executable: "python3"}
"""The interpreter itself: a version manager's python3 is a script that starts a dozen processes first."""

WORKLOADS: Final[Sequence[Workload]] = (
    Workload("sh", {"sh": "dash"}, _script("pipelines.sh", sources.SHELL, "sh")),
    Workload("make", {"make": "make", "gcc": "gcc"}, _make),
    Workload("git", {"git": "git"}, _script("history.sh", sources.GIT, "sh")),
    Workload("python-subprocess", _PYTHON, _script("run.py", sources.PYTHON_SUBPROCESS, sys.executable)),
    Workload("python-threading", _PYTHON, _script("run.py", sources.PYTHON_THREADING, sys.executable)),
    *(
        Workload(
            f"python-{how}",
            _PYTHON,
            _script("run.py", sources.PYTHON_MULTIPROCESSING.replace("@HOW@", how), sys.executable),
        )
        for how in ("fork", "spawn", "forkserver")
    ),
    Workload("node", {"node": "nodejs"}, _script("family.js", sources.NODE, "node")),
    Workload("java", {"java": "default-jre-headless", "javac": "default-jdk-headless"}, _java),
    Workload("perl", {"perl": "perl"}, _script("family.pl", sources.PERL, "perl")),
    Workload(
        "postgres",
        {"initdb": "postgresql", "pg_ctl": "postgresql", "psql": "postgresql-client"},
        _postgres,
        user="postgres",
    ),
)
"""In the order in which ``--suite`` runs them."""
