"""Hangs that people have reported, rebuilt as small programs: the first line says what they found out by hand.

CPython's subprocess, Go's os/exec and cargo's are in test_why_languages.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hanging import SOURCES, answered, hanging

from forklore.features.why.conclude import Certainty, conclude
from forklore.features.why.observe.observe import observe
from forklore.features.why.sentences import headline


def said(command: list[str], root: str = "held") -> str:
    with hanging(command) as found:
        graph, answer = answered(found, root, Certainty.OPEN)
        return headline(graph, answer.chain)


def need(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


READER = "sh -c 'echo ask $$ 0 >&2; exec cat >/dev/null'"


def test_pg_ctl_start_behind_a_pipe() -> None:
    # `pg_ctl start | cat`: the server that it starts keeps the pipe as its standard output.
    text = said(["sh", "-c", f"(sleep 10000 & echo kill $! >&2; echo server started) | {READER}"])
    assert re.fullmatch(
        r"\d+ cat waits for data or the end of pipe:\[\d+\], which is empty: \d+ sleep \(started .* ago\) still holds"
        r" its write end \(fd 1\) and sleeps, (?:for .*|with a timeout\.)",
        text,
    ), text


def test_bats_and_the_third_descriptor() -> None:
    # bats(7): a process in the background that does not close fd 3 keeps bats from ending.
    text = said(["sh", "-c", f"(exec 3>&1; sleep 10000 >/dev/null 2>&1 & echo kill $! >&2) | {READER}"])
    assert " sleep (started" in text
    assert "still holds its write end (fd 3)" in text


def test_node_exec_waits_for_close() -> None:
    # nodejs, libuv: "close" comes when the last who has the pipe, a socket here, has closed it.
    text = said([need("node", "nodejs"), str(SOURCES / "exec.js")])
    assert " sleep (started" in text, text
    assert "has the other end (fd" in text


def test_java_waits_for_a_process_whose_output_nobody_reads() -> None:
    text = said([need("java", "default-jre-headless"), "-Xint", str(SOURCES / "Undrained.java")])
    assert " head to end, and in the end for room in pipe:[" in text, text
    assert re.search(r": \d+ java \(started .* ago\) still holds its read end \(fd \d+\) and waits for ", text), text


def test_make_waits_for_a_token_that_a_job_keeps() -> None:
    make = need("make", "make")
    version = subprocess.run([make, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.match(r"GNU Make (\d+)\.(\d+)", version)
    if number is None or (int(number[1]), int(number[2])) >= (4, 4):
        pytest.skip(f"not a GNU make before 4.4, which has a pipe for its jobserver: {version.splitlines()[0]}")
    text = said([sys.executable, str(SOURCES / "jobserver.py"), str(SOURCES / "jobserver.mk")])
    assert re.search(
        r"make waits for data or the end of pipe:\[\d+\], which is empty: \d+ sleep .*holds its write end", text
    ), text


def cgroup_folder(kind: str) -> Path:
    """Where control groups can be made that can be frozen, of version 1 or 2 (cgroups(7))."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _source, place, version, options, *_rest = line.split()
        if version == kind and (kind == "cgroup2" or "freezer" in options.split(",")):
            return Path(place)
    pytest.skip(f"no {kind} with a freezer is mounted here")


@contextmanager
def frozen(pid: int, kind: str) -> Iterator[Path]:
    """A process in a control group that is frozen because the one above it is: that one."""
    file, freeze, thaw = {"cgroup": ("freezer.state", "FROZEN", "THAWED"), "cgroup2": ("cgroup.freeze", "1", "0")}[kind]
    above = cgroup_folder(kind) / f"forklore-{os.getpid()}"
    below = above / "below"
    try:
        below.mkdir(parents=True)
    except OSError as problem:
        pytest.skip(f"no control group can be made at {above}: {problem.strerror} (it takes root)")
    try:
        (below / "cgroup.procs").write_text(str(pid))
        (above / file).write_text(freeze)
        settled = {"cgroup": ("freezer.state", "FROZEN"), "cgroup2": ("cgroup.events", "frozen 1")}[kind]
        nothing = select.poll()
        while settled[1] not in (below / settled[0]).read_text():
            nothing.poll(1)
        yield above
    finally:
        (above / file).write_text(thaw)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        below.rmdir()
        above.rmdir()


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_a_frozen_control_group(kind: str) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    try:
        with frozen(child.pid, kind) as folder:
            graph = observe([child.pid])
            (answer,) = conclude(graph)
            text = headline(graph, answer.chain)
    finally:
        child.kill()
        child.wait()
    assert answer.chain.root == "frozen", text
    assert f"{child.pid} sleep is frozen, and waits for its control group {folder} to be thawed" in text
    assert text.endswith("What ends it: whoever thaws it.")


def done(*command: str | Path) -> str:
    """What is wrong with it; empty: nothing."""
    ran = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    return (ran.stderr.strip() or f"{command[0]} ends with {ran.returncode}") if ran.returncode else ""


@contextmanager
def file_system(folder: Path) -> Iterator[Path]:
    """One of its own, mounted."""
    for name, package in (("mkfs.ext4", "e2fsprogs"), ("fsfreeze", "util-linux"), ("mount", "mount")):
        need(name, package)
    image, place = folder / "image", folder / "place"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    problem = done("mkfs.ext4", "-q", image) or done("mount", "-o", "loop", image, place)
    if problem:
        pytest.skip(f"no file system can be mounted from a file here: {problem}")
    try:
        yield place
    finally:
        assert done("umount", place) == ""


def test_a_write_to_a_frozen_file_system_hears_no_signal(tmp_path: Path) -> None:
    with file_system(tmp_path) as place:
        assert done("fsfreeze", "-f", place) == ""
        writes = subprocess.Popen(["sh", "-c", f"echo x > {place}/file"])
        try:
            nothing = select.poll()
            while "State:\tD" not in Path(f"/proc/{writes.pid}/status").read_text():
                nothing.poll(1)
            graph = observe([writes.pid])
            (answer,) = conclude(graph)
            text = headline(graph, answer.chain)
        finally:
            assert done("fsfreeze", "-u", place) == ""
            assert writes.wait() == 0
    (task,) = graph.tasks.values()
    assert (task.state, answer.chain.certainty, answer.chain.root) == ("D", Certainty.OPEN, "kernel"), text
    assert text == f"{writes.pid} sh waits for the kernel to finish openat ({place}/file to be opened)."
