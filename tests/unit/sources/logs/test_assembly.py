"""What happened is the same events, be it written by strace or by ltrace: both readers put calls together alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from log_events import read

from forklore.events import records as ev

STRACE = {
    "start": '10 execve("/bin/sh", ["sh"], 0x7ffe /* 35 vars */) = 0',
    "clone(": "clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f00",
    "thread(": "clone(child_stack=0x10, flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SIGHAND|CLONE_THREAD, child_tidptr=0",
    "vfork(": "vfork(",
    "unshare(": "unshare(CLONE_FS",
    "setsid(": "setsid(",
    "exec(": 'execve("/bin/x", ["x"], 0x2 /* 2 vars */',
    "exit(": "exit_group(3",
    "...": " <unfinished ...>",
    "clone resumed": "<... clone resumed>",
    "vfork resumed": "<... vfork resumed>",
    "unshare resumed": "<... unshare resumed>",
    "EAGAIN": "-1 EAGAIN (Resource temporarily unavailable)",
    "ENOENT": "-1 ENOENT (No such file or directory)",
    "again": "? ERESTARTNOINTR (To be restarted)",
    "killed": "+++ killed by SIGKILL +++",
    "exited 3": "+++ exited with 3 +++",
}
LTRACE = {
    "start": "10 SYS_brk(0) = 0x563999829000",
    "clone(": "SYS_clone(0x1000011, 0, 0, 0x7f00, 0",
    "thread(": "SYS_clone(0x10f00, 16, 0, 0x7f00, 0",
    "vfork(": "SYS_vfork(",
    "unshare(": "SYS_unshare(512",
    "setsid(": "SYS_setsid(",
    "exec(": 'SYS_execve("/bin/x", 0x1, 0x2',
    "exit(": "SYS_exit_group(3",
    "...": " <unfinished ...>",
    "clone resumed": "<... SYS_clone resumed> ",
    "vfork resumed": "<... SYS_vfork resumed> ",
    "unshare resumed": "<... SYS_unshare resumed> ",
    "EAGAIN": "-11",
    "ENOENT": "-2",
    "again": "-513",
    "killed": "+++ killed by SIGKILL +++",
    "exited 3": "+++ exited (status 3) +++",
}
HAPPENINGS = {
    "a call and its result": ["10 {clone(}) = 11", "11 {exit(}) = ?", "11 {exited 3}"],
    "the child comes first": ["10 {clone(}{...}", "11 {unshare(}) = 0", "10 {clone resumed}) = 11"],
    "two creators at once, each told by its result": [
        "10 {clone(}) = 11", "10 {clone(}{...}", "11 {vfork(}{...}", "12 {unshare(}) = 0", "13 {unshare(}) = 0",
        "11 {vfork resumed}) = 12", "10 {clone resumed}) = 13",
    ],
    "a creator that is killed in its call": [
        "10 {clone(}) = 11", "11 {clone(}{...}", "12 {unshare(}) = 0", "11 {killed}",
    ],
    "a creator of two that are both killed": [
        "10 {clone(}) = 11", "10 {clone(}{...}", "11 {clone(}{...}", "12 {unshare(}) = 0", "11 {killed}", "10 {killed}",
    ],
    "a refusal": ["10 {clone(}) = {EAGAIN}", "10 {unshare(}{...}", "10 {unshare resumed}) = {EAGAIN}"],
    "a call that is made again": ["10 {clone(}) = {again}", "10 {clone(}) = 11"],
    "an exec that fails": ["10 {exec(}) = {ENOENT}"],
    "a vfork that is over": ["10 {vfork(}{...}", "11 {exec(}) = {ENOENT}", "11 {exited 3}", "10 {vfork resumed}) = 11"],
    "a call begun twice, of which one ends": ["10 {clone(}{...}", "10 {clone(}{...}", "10 {clone resumed}) = 11"],
    "a result without its call": ["10 {clone resumed}) = 11", "10 {unshare resumed}) = 0"],
    "a session whose number is not seen": ["10 {setsid(}) = 0"],
    "no possible pid": ["10 {clone(}) = 99999999"],
    "an end that was announced": ["10 {clone(}) = 11", "11 {exit(}{...}"],
    "a thread ends with its group": ["10 {thread(}) = 11", "11 {exit(}{...}"],
}  # fmt: skip


def told(path: Path, lines: list[str], words: dict[str, str]) -> tuple[list[tuple[object, ...]], list[str]]:
    """What the events say that both tools know of, and the warnings."""
    text = "\n".join([words["start"], *lines]) + "\n"
    for word in sorted(words, key=len, reverse=True):
        text = text.replace("{" + word + "}", words[word])
    events, warnings = read(path, text)
    return [essence(event) for event in events if not isinstance(event, (ev.Exec, ev.Note, ev.End))], warnings


def essence(event: ev.Event) -> tuple[object, ...]:
    kind = type(event).__name__
    match event:
        case ev.Begin():
            return kind, event.task, event.tid, event.how
        case ev.Create():
            return kind, event.task, event.child, event.tid, event.nr, event.args[:1]
        case ev.Fail():
            return kind, event.task, event.nr, event.errno
        case ev.ExecFail():
            return kind, event.task, event.path, event.errno
        case ev.Other():
            return kind, event.task, event.nr, event.args, event.result
        case ev.VforkDone():
            return kind, event.task, event.child
        case ev.Exit():
            return kind, event.task, event.status
        case ev.Gone():
            return kind, event.task, event.why
    raise AssertionError(event)


@pytest.mark.parametrize("lines", HAPPENINGS.values(), ids=HAPPENINGS)
def test_both_tools_tell_it_alike(lines: list[str], tmp_path: Path) -> None:
    strace, ltrace = (told(tmp_path / "log", lines, words) for words in (STRACE, LTRACE))
    assert strace == ltrace


def test_what_goes_on_in_the_next_line_is_one_call(tmp_path: Path) -> None:
    """ltrace's lines by what the program writes in between, strace's by its own notices."""
    strace, _ = read(
        tmp_path / "log",
        '10 execve("/bin/sh", ["sh"], 0x1) = 0\n10 clone(child_stack=NULL, flags=strace: Process 11 attached\n'
        "SIGCHLD) = 11\n11 setsid() = 11\n",
    )
    ltrace, _ = read(tmp_path / "log", "10 SYS_brk(0) = 1\n10 SYS_clone(17, 0\n, 0, 0, 0) = 11\n11 SYS_setsid() = 11\n")
    for events in (strace, ltrace):
        (create,) = (event for event in events if isinstance(event, ev.Create))
        assert (create.task, create.child, create.tid, create.args[0]) == (1, 2, 11, 17)
