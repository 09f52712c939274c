"""Programs that no ptrace engine can serve run under the bpf engine as without it, and are told whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from bpf_here import needed
from ordinary_user import BECOME
from tracing import ENVIRONMENT, FORKLORE, TIMEOUT, Program

from forklore.abi.flags import CLONE_UNTRACED
from forklore.events import jsonl
from forklore.events import records as ev

LEAKS = """\
#include <stdlib.h>
int main(void) { return malloc(7) == NULL; }
"""


@pytest.fixture(autouse=True)
def _bpf() -> None:
    needed()


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine (package: {name})")
    return found


def alike(folder: Path, *command: str) -> list[ev.Event]:
    """What a command does is the same with and without forklore but for numbers and the order of lines; its trace."""
    file = folder / "trace.jsonl"
    under = [*FORKLORE, "run", "--engine", "bpf", "--no-stack", "-q", "-o", str(file), "--"]
    ran = [
        subprocess.run(
            [*words, *command], capture_output=True, text=True, env=ENVIRONMENT, timeout=TIMEOUT, check=False
        )
        for words in ([], under)
    ]
    said = [
        (done.returncode, *(_lines(out) for out in (done.stdout, done.stderr))) for done in ran
    ]
    assert said[0] == said[1]
    return list(jsonl.read(str(file)))


def _lines(said: str) -> list[str]:
    return sorted(re.sub(r"0x[0-9a-f]+|\d{2,}", "N", said).splitlines())


def test_gdb_runs_a_program(tmp_path: Path, program: Program) -> None:
    inferior = program("vfork_exec")
    events = alike(tmp_path, tool("gdb"), "-nx", "-q", "-batch", "-ex", "run", "--args", str(inferior))
    execs = [event.exe for event in events if isinstance(event, ev.Exec)]
    assert str(inferior.resolve()) in execs


def test_strace_runs_a_program(tmp_path: Path, program: Program) -> None:
    events = alike(tmp_path, tool("strace"), "-f", "-o", str(tmp_path / "log"), str(program("fork_tree")))
    followed = (tmp_path / "log").read_text()
    made = {str(event.tid) for event in events if isinstance(event, ev.Create)}
    of_strace = {line.split()[0] for line in followed.splitlines()}
    assert len(of_strace) > 1
    assert of_strace <= made


@pytest.mark.parametrize("way", ["me", "seize"])
def test_a_program_traces_its_own_child(way: str, tmp_path: Path, program: Program) -> None:
    events = alike(tmp_path, str(program("guest_traces")), way)
    assert any(isinstance(event, ev.Create) for event in events)


def test_the_leak_sanitizer_finds_what_it_finds(tmp_path: Path) -> None:
    source, leaks = tmp_path / "leaks.c", tmp_path / "leaks"
    source.write_text(LEAKS)
    built = subprocess.run(
        ["gcc", "-O0", "-fsanitize=leak", str(source), "-o", str(leaks)], capture_output=True, text=True, check=False
    )
    if built.returncode:
        pytest.skip(f"gcc cannot build with -fsanitize=leak: {built.stderr.strip().splitlines()[-1]}")
    events = alike(tmp_path, str(leaks))
    (tracer,) = (event for event in events if isinstance(event, ev.Create))
    assert (tracer.args[0] or 0) & CLONE_UNTRACED


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user and become one")
def test_a_set_uid_program_of_an_ordinary_user_gains_its_privilege(open_folder: Path) -> None:
    own = open_folder / "id"
    shutil.copy(tool("id"), own)
    own.chmod(0o4755)
    if os.statvfs(own).f_flag & os.ST_NOSUID:
        pytest.skip(f"{open_folder} is mounted nosuid")
    said = open_folder / "said"
    events = alike(open_folder, tool("sh"), "-c", f"setpriv {' '.join(BECOME)} {own} -u >{said}; cat {said}")
    assert said.read_text() == "0\n"
    ids = [event for event in events if isinstance(event, ev.Exec) and event.exe == str(own)]
    ends = {event.task: event.status for event in events if isinstance(event, ev.Exit)}
    assert [ends[each.task] for each in ids] == [0]
