"""Kernels by version, words of history, and lines that were pasted."""

from __future__ import annotations

import argparse
import errno

import pytest

from forklore.abi import flags as f
from forklore.abi.former_flags import FORMER
from forklore.cli import explain as command
from forklore.decode.calls import Setns, Unshare
from forklore.decode.creation import Creation
from forklore.decode.task_states import state_text
from forklore.decode.versions import as_of, read_version, vocabulary
from forklore.features.explain.answers import AskError, CallExplained, TermExplained, explain
from forklore.features.explain.terms import NAMES
from forklore.features.explain.text import to_text


def one(*what: str | int, **options: object) -> CallExplained:
    answer = explain(*what, **options)  # type: ignore[arg-type]
    assert isinstance(answer, CallExplained)
    return answer


def term(word: str) -> str:
    answer = explain(word)
    assert isinstance(answer, TermExplained), word
    return to_text(answer)


def fate(answer: CallExplained, resource: str) -> str:
    return next(fate.outcome for fate in answer.fates if fate.resource == resource)


@pytest.mark.parametrize(
    ("text", "version"),
    [("6.1", (6, 1)), ("6.18.44-custom", (6, 18)), ("2.6.32-754.el6", (2, 6, 32)), ("4.20", (4, 20)), ("7.3", (7, 3))],
)
def test_versions_that_there_are(text: str, version: tuple[int, ...]) -> None:
    assert read_version(text) == version


@pytest.mark.parametrize("text", ["2.6.99", "2.6.40", "3.20", "4.21", "5.20", "6.20", "2.7.1", "2.6", "1.2.13", "new"])
def test_versions_that_there_are_not(text: str) -> None:
    with pytest.raises(ValueError, match=r"\d|new"):
        read_version(text)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--kernel", text, "fork"])


def test_the_python_interface_refuses_them_too() -> None:
    with pytest.raises(AskError, match=r"6\.20"):
        explain("fork", kernel=(6, 20))


def test_a_newer_kernel_is_judged_as_the_last_that_is_followed_and_said_to_be() -> None:
    assert any("9.9 is newer than 7.3" in note for note in one("fork", kernel=(9, 9)).notes)
    assert not any("newer" in note for note in one("fork", kernel=(7, 3)).notes)


@pytest.mark.parametrize(
    ("bit", "kernel", "name"),
    [
        (0x1000, (2, 4, 20), "CLONE_PID"),
        (0x1000, (2, 6, 9), "CLONE_IDLETASK"),
        (0x1000, (4, 19), None),
        (0x1000, (5, 1), None),
        (0x1000, (5, 2), "CLONE_PIDFD"),
        (0x2000000, (2, 6, 37), "CLONE_STOPPED"),
        (0x2000000, (2, 6, 38), None),
        (0x2000000, (4, 5), None),
        (0x2000000, (4, 6), "CLONE_NEWCGROUP"),
        (0x40000000, (2, 6, 10), None),
        (0x40000000, (2, 6, 24), "CLONE_NEWNET"),
        (0x100000, (2, 5, 40), "CLONE_SETTID"),
        (0x100000, (2, 5, 49), "CLONE_PARENT_SETTID"),
    ],
)
def test_what_a_bit_meant(bit: int, kernel: tuple[int, ...], name: str | None) -> None:
    answer = one(hex(bit | 17), kernel=kernel)
    assert [flag.name for flag in answer.flags] == ([] if name is None else [name])
    assert answer.unknown == (0 if name else bit)
    assert any("does not know" in note for note in answer.notes) is (name is None)


def test_a_bit_that_a_kernel_ignores_does_nothing_there() -> None:
    word = hex(f.CLONE_NEWNET | 17)
    assert fate(one(word), "net_ns") == "new"
    assert fate(one(word, kernel=(2, 6, 10)), "net_ns") == "inherited"
    # A former flag's bit does not do what it does today.
    assert fate(one(hex(f.CLONE_NEWCGROUP | 17), kernel=(2, 6, 30)), "cgroup_ns") == "inherited"
    pidfd = one(hex(f.CLONE_PIDFD | f.CLONE_PARENT_SETTID | 17), kernel=(5, 1))
    assert not pidfd.refused
    assert one(hex(f.CLONE_PIDFD | f.CLONE_PARENT_SETTID | 17), kernel=(5, 2)).refused


@pytest.mark.parametrize(
    ("what", "kernel", "refused"),
    [
        ("unshare:newuser", (3, 7), "unshare-unknown-flag"),
        ("unshare:newcgroup", (4, 5), "unshare-unknown-flag"),
        ("unshare:newnet", (3, 7), None),
        ("unshare:fs", (2, 6, 15), "unshare-unknown"),
        ("clone3:newnet", (5, 2), "clone3-unknown"),
        ("clone3:clear_sighand", (5, 4), "clone3-flag-too-new"),
        ("SIGHAND", (2, 4, 20), None),
        ("SIGHAND", (2, 6, 0), "sighand-without-vm"),
        ("NEWUSER|FS", (3, 8), None),
        ("NEWUSER|FS", (3, 9), "newuser-and-fs"),
    ],
)
def test_rules_by_version(what: str, kernel: tuple[int, ...], refused: str | None) -> None:
    first = [reason.rule for reason in one(what, kernel=kernel).refused][:1]
    assert first == ([] if refused is None else [refused])


def test_a_kernel_that_is_not_known_is_one_of_today() -> None:
    # Logs do not name it; a rule of 2.6 is no doubt.
    assert [reason.certain for reason in one("EINVAL", "CLONE_SIGHAND").reasons] == [True]


@pytest.mark.parametrize(
    ("rule", "error", "what", "since"),
    [
        ("deadline-parent", "EAGAIN", "fork", (3, 14)),
        ("pids-max", "EAGAIN", "fork", (4, 3)),
        ("newpid-nesting", "ENOSPC", "NEWPID", (3, 7)),
        ("namespace-limit", "ENOSPC", "NEWNET", (4, 9)),
        ("newuser-chrooted", "EPERM", "NEWUSER", (3, 9)),
        ("seccomp-eperm", "EPERM", "NEWUSER", (3, 5)),
        ("thread-after-new-pid", "EINVAL", "VM|SIGHAND|THREAD", (3, 8)),
    ],
)
def test_a_rule_is_none_of_an_older_kernel(rule: str, error: str, what: str, since: tuple[int, int]) -> None:
    before = (since[0], since[1] - 1)
    assert rule in [reason.rule for reason in one(error, what, kernel=since).reasons]
    assert rule not in [reason.rule for reason in one(error, what, kernel=before).reasons]


def test_the_questions_of_old_kernels() -> None:
    assert [r.rule for r in one("EINVAL", "vfork", kernel=(5, 15)).reasons] == ["vm-after-new-time"]
    assert one("EPERM", "CLONE_NEWUSER", kernel=(3, 7)).reasons[0].rule == "newuser-three-capabilities"


@pytest.mark.parametrize("former", FORMER, ids=lambda former: former.name)
def test_former_flags_are_where_the_manual_has_them(former: object) -> None:
    name, value, since, until = former[:4]  # type: ignore[index]
    first = tuple(int(part) for part in since.split("."))
    after = tuple(int(part) for part in until.split("."))
    there = vocabulary("clone", first if len(first) > 2 else (*first, 40)).by_name(name)
    assert there is not None
    assert there.value == value
    gone = vocabulary("clone", after).by_name(name)
    assert gone is None or gone.meaning != there.meaning


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("CLONE_STOPPED", "CLONE_NEWCGROUP, since Linux 4.6"),
        ("clone_pid", "CLONE_PIDFD, since Linux 5.2"),
        ("CLONE_IDLETASK", "not verified"),
        ("CLONE_SIGNAL", "CLONE_SIGHAND|CLONE_THREAD"),
        ("CSIGNAL", "0xff"),
        ("exec", "signal handlers"),
        ("execve()", "no task is made"),
        ("do_fork", "kernel_clone since 5.10"),
        ("forkall", "every thread"),
        ("fork1", "one thread"),
        ("forkx(FORK_NOSIGCHLD|FORK_WAITPID)", "FORK_WAITPID (0x2)"),
        ("forkx(1)", "FORK_NOSIGCHLD (0x1)"),
        ("forkallx:nosigchld", "every thread"),
        ("vforkx", "FORK_WAITPID"),
        ("FORK_WAITPID", "wait for this very child"),
        ("pid-cache", "2.25"),
        ("vfork-rules", "_exit"),
        ("fields", "parent_tid"),
        ("aio", "CLONE_VM"),
        ("states", "zombie"),
    ],
)
def test_words_of_history(word: str, says: str) -> None:
    text = " ".join(term(word).split()).lower()
    assert says.lower() in text


def test_clone_beside_clone3_has_the_fields() -> None:
    text = to_text(explain("clone", "clone3"))
    assert "Which argument is which field" in text
    assert "stack, stack_size" in text
    assert "Which argument" not in to_text(explain("fork", "clone3"))
    assert max(map(len, text.splitlines())) <= 80


def test_all_words_fit_a_terminal() -> None:
    for name in (*NAMES, *(former.name for former in FORMER if f.CLONE.by_name(former.name) is None)):
        assert [line for line in term(name).splitlines() if len(line) > 80 or line != line.rstrip()] == [], name


def test_a_bit_with_a_past_says_so_and_vfork_how_its_child_behaves() -> None:
    assert any("CLONE_STOPPED" in note for note in one("NEWCGROUP|SIGCHLD").notes)
    assert any("must not return" in note for note in one("vfork").notes)
    assert not one("pthread_create").notes


@pytest.mark.parametrize(
    ("line", "text", "failed"),
    [
        ("clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x7f00)",
         "clone(CLONE_CHILD_CLEARTID|SIGCHLD)", None),
        ("[pid  4242] clone(child_stack=0x7f, flags=CLONE_VM|CLONE_VFORK|SIGCHLD) = 11", ("clone(CLONE_VM|CLONE_VFORK|"
         "SIGCHLD)"), None),
        (("12:00:01.5 clone3({flags=CLONE_NEWUSER|CLONE_FS, exit_signal=SIGCHLD, stack=NULL, stack_size=0}, 88) = -1 "
         "EINVAL (Invalid argument)"), "clone3(CLONE_FS|CLONE_NEWUSER, exit SIGCHLD)", "newuser-and-fs"),
        ("vfork( <unfinished ...>", "vfork()", None),
        ("fork() = -1 EAGAIN (Resource temporarily unavailable)", "fork()", "rlimit-nproc"),
        ("SYS_clone(0x1200011, 0, 0, 0x7fe3cf8339d0, 0) = 5967", ("clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|"
         "SIGCHLD)"), None),
        ("clone@SYS(0x1200011, 0, 0, 0x7fe3cf8339d0, 0) = 5967", ("clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|"
         "SIGCHLD)"), None),
        ("SYS_clone(0x1200011, 0, 0, 0x7fe3cf8339d0) = -11", "clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD)",
         "rlimit-nproc"),
        ("8750 SYS_435(0x7ffc56334050, 88, 0x7f1b05b86d50, 8) = 8757", "clone3(?, exit ?)", None),
        (("26903 clone(CLONE_SIGHAND|0x11,child_stack=0x0000000000000000,parent_tidptr=0x0000000000000000,"
          "tls=0x0000000000000000,child_tidptr=0x0000000000000000) = -1 errno=22 (Invalid argument)"),
         "clone(CLONE_SIGHAND|SIGCHLD)", "sighand-without-vm"),
        ("26903 setns(4294967295,1073741824,-128,274920201560,274919872392,1) = -1 errno=9 (Bad file descriptor)",
         "setns(-1, CLONE_NEWNET)", "setns-descriptor"),
        ("unshare(CLONE_NEWPID) = -1 EPERM (Operation not permitted)", "unshare(CLONE_NEWPID)", "unshare-privilege"),
        ("setns(3</proc/1/status>, CLONE_NEWNET) = -1 EINVAL (Invalid argument)", "setns(3, CLONE_NEWNET)",
         "setns-thing"),
    ],
)  # fmt: skip
def test_a_line_of_strace_ltrace_or_qemu(line: str, text: str, failed: str | None) -> None:
    answer = one(line)
    assert answer.call.text() == text
    assert (answer.reasons[0].rule if answer.reasons else None) == failed


def test_what_looks_like_a_line_and_is_a_question() -> None:
    assert one("clone(VM|SIGCHLD)").call.text() == "clone(CLONE_VM|SIGCHLD)"
    assert isinstance(one("unshare(NEWNS)").call, Unshare)
    assert isinstance(one("setns:newnet").call, Setns)
    assert isinstance(one("fork()").call, Creation)
    assert any("returned 11" in note for note in one("fork() = 11").notes)
    assert one("EAGAIN", "fork()").errno == errno.EAGAIN


def test_states_in_words() -> None:
    assert state_text("Ss") == "asleep until an event or a signal, leads a session"
    assert state_text("R+") == "running, or ready to run, is of the foreground process group of its terminal"
    assert state_text("Q?") == "Q, ?"


def test_calls_without_a_version_are_as_they_are() -> None:
    call = one("NEWNET|SIGCHLD").call
    assert as_of(call, None) is call
    assert as_of(call, (6, 18)) is call
