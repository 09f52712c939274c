"""Capabilities: which suffice, which are kept, and that the traced program keeps its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from bpf_here import needed
from ordinary_user import environment, forklore_as
from tracing import ENVIRONMENT, FORKLORE

from forklore.abi.capabilities import NAMES
from forklore.events import jsonl
from forklore.events import records as ev

TWO = ("--inh-caps=+bpf,+perfmon", "--ambient-caps=+bpf,+perfmon")
"""Options of setpriv: what a service is to have."""
SHOW = "cat /proc/self/status; echo ---; cat /proc/$PPID/status"


@pytest.fixture(autouse=True)
def _bpf() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give and take capabilities")
    needed()


def held(status: str, which: str) -> set[str]:
    """The names in a capability set of /proc/PID/status."""
    (word,) = [line.split()[1] for line in status.splitlines() if line.startswith(f"{which}:")]
    return {name for bit, name in enumerate(NAMES) if int(word, 16) >> bit & 1}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--engine", "bpf"], ["CAP_KILL", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]),
        (["--engine", "bpf", "--no-stack"], ["CAP_KILL"]),
        (["--engine", "perf"], ["CAP_KILL"]),
    ],
    ids=" ".join,
)
def test_forklore_gives_up_what_it_needs_no_more_and_the_program_nothing(options: list[str], kept: list[str]) -> None:
    bare = subprocess.run(["sh", "-c", SHOW], capture_output=True, text=True, check=True)
    done = subprocess.run(
        [*FORKLORE, "run", *options, "-q", "--", "sh", "-c", SHOW], capture_output=True, text=True, env=ENVIRONMENT,
        check=True,
    )  # fmt: skip
    mine, ours = done.stdout.split("---\n")
    without = bare.stdout.split("---\n")[0]
    for which in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert held(mine, which) == held(without, which)
    assert "NoNewPrivs:\t0" in mine
    had = held(without, "CapPrm")
    assert held(ours, "CapPrm") == held(ours, "CapEff") == had.intersection(kept)
    assert "NoNewPrivs:\t1" in ours


def test_files_that_are_still_to_be_made_can_be_made(tmp_path: Path) -> None:
    # In a directory of another user, which root may write to by CAP_DAC_OVERRIDE alone.
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    os.chown(folder, 65534, 65534)
    subprocess.run(
        [*FORKLORE, "run", "--engine", "bpf", "-o", str(folder / "t.jsonl"), "--rotate", "4K", "--html",
         str(folder / "page.html"), "-q", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do true | cat; done"],
        env=ENVIRONMENT, check=True,
    )  # fmt: skip
    assert (folder / "t.jsonl.1").exists()
    assert (folder / "page.html").stat().st_size > 1000


def test_two_capabilities_suffice_to_watch_a_machine(open_folder: Path, tmp_path: Path) -> None:
    file, go = open_folder / "home" / "trace.jsonl", tmp_path / "go"
    os.mkfifo(go)
    with (
        subprocess.Popen(["sh", "-c", f"read line < {go}; /bin/true; exit 3"]) as target,
        subprocess.Popen(
            [*forklore_as(open_folder, *TWO), "watch", "--log", "-o", str(file)], env=environment(open_folder),
            cwd="/", stderr=subprocess.PIPE, text=True,
        ) as tracer,
    ):  # fmt: skip
        assert tracer.stderr is not None
        line = ""
        while str(target.pid) not in line:
            line = tracer.stderr.readline()
            assert line, "it ended before it had begun"
        go.write_text("go\n")
        assert target.wait(timeout=60) == 3
        while "exit 3" not in line or str(target.pid) not in line:
            line = tracer.stderr.readline()
            assert line, "it ended before the program had"
        tracer.send_signal(signal.SIGINT)
        tracer.stderr.read()
        assert tracer.wait(timeout=60) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    events = list(jsonl.read(str(file)))
    (begin,) = [event for event in events if isinstance(event, ev.Begin) and event.tid == target.pid]
    (made,) = [event for event in events if isinstance(event, ev.Create) and event.task == begin.task]
    (execs,) = [event for event in events if isinstance(event, ev.Exec) and event.task == made.child]
    assert execs.argv == ["/bin/true"]
    header = json.loads(file.read_text().splitlines()[0])
    told = [each["why"] for each in header["blind"] if "execs that fail" in each["what"]]
    assert header["options"]["calls_seen_by"] == "functions" or told


def test_without_them_it_says_which_are_missing(open_folder: Path) -> None:
    one = ("--inh-caps=+bpf", "--ambient-caps=+bpf")
    for options, lacking in (((), "CAP_BPF and CAP_PERFMON"), (one, "CAP_PERFMON")):
        done = subprocess.run(
            [*forklore_as(open_folder, *options), "watch", "--duration", "1"], env=environment(open_folder), cwd="/",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 125
        assert f"forklore lacks {lacking}:" in done.stderr


def test_the_kill_of_a_program_that_is_another_users_by_now(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("no setpriv on this machine (package: util-linux)")
    done = subprocess.run(
        [*FORKLORE, "run", "--engine", "bpf", "-q", "--timeout", "1", "--",
         "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "tail", "-f", "/dev/null"],
        env=ENVIRONMENT, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 124
