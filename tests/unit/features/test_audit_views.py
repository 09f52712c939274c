"""Tables, comparison, seccomp rules and JSON, from the recorded audits."""

from __future__ import annotations

import json

import pytest
from audits import names, recorded
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from forklore.abi.flags import CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID
from forklore.features.audit.conclude import calls
from forklore.features.audit.result import NotAnAuditError, decode, encode
from forklore.features.audit.show import profile, view
from forklore.features.audit.show.compare import compare


def sentences(old: str, new: str) -> list[str]:
    return [change.sentence for change in compare(recorded(old), recorded(new)).changes]


def test_the_comparison_tells_of_clone3() -> None:
    told = sentences("glibc-2.31-x86_64", "glibc-2.36-x86_64")
    ending = "moved from clone(VM|VFORK|SIGCHLD) to clone3(VM|VFORK, exit SIGCHLD)"
    moved = next(line for line in told if line.endswith(ending))
    assert moved.startswith("posix_spawn (")
    assert "system, popen and wordexp" in moved
    assert any(line.startswith("pthread_create") and "to clone3 with the same flags" in line for line in told)
    assert "_Fork came: clone(CHILD_CLEARTID|CHILD_SETTID|SIGCHLD)" in told


def test_the_comparison_tells_of_blocked_signals_and_the_second_fallback() -> None:
    told = sentences("glibc-2.36-x86_64", "glibc-2.41-x86_64")
    assert "fork, _Fork, forkpty and daemon had none of the signals blocked at the call, now all" in told
    assert any("when clone3 answers EINVAL: clone(VM|VFORK|SIGCHLD) (was: fails with EINVAL)" in line for line in told)


@pytest.mark.parametrize("name", names())
def test_nothing_changes_from_a_library_to_itself(name: str) -> None:
    comparison = compare(recorded(name), recorded(name))
    assert comparison.changes == ()
    assert "fork" in comparison.same


def test_what_reads_the_same_is_no_change() -> None:
    # A guard of no bytes is not told, however it was made; nor is a child's identity that is not known.
    old = recorded("glibc-2.36-x86_64")
    row = old.row("fork")
    assert row is not None
    (attempt,) = row.attempts
    stack = structs.replace(attempt.stack, guard=0, guard_by="mprotect")
    other = structs.replace(row, attempts=[structs.replace(attempt, stack=stack)])
    new = structs.replace(old, rows=[other if each.key == row.key else each for each in old.rows])
    assert new != old
    assert compare(old, new).changes == ()


@pytest.mark.parametrize("name", names())
def test_every_view_names_every_function(name: str) -> None:
    audit = recorded(name)
    called = {row.function for row in audit.rows if row.outcome == "called"}
    for shown in (view.details(audit), view.markdown(audit), view.page([audit])):
        assert [function for function in called if function not in shown] == []
    assert all(len(row) == 6 for row in view.table(audit))
    assert recorded(name).library.version in view.text(audit)


@pytest.mark.parametrize("name", names())
def test_json_comes_back(name: str) -> None:
    audit = recorded(name)
    assert decode(encode(audit), name) == audit


def test_the_filter_lets_pass_what_was_seen_and_sends_clone3_back() -> None:
    rules = json.loads(profile.document(recorded("glibc-2.36-x86_64")))["syscalls"]
    values = [rule["args"][0]["value"] for rule in rules if rule["names"] == ["clone"]]
    assert CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | 17 in values
    assert 0x4111 in values
    assert 0x3D0F00 in values
    assert [rule["errnoRet"] for rule in rules if rule["names"] == ["clone3"]] == [38]
    assert {"execve", "rt_sigprocmask", "set_robust_list", "vfork"} <= set(rules[0]["names"])
    assert "fork" not in rules[0]["names"]


@pytest.mark.parametrize(("name", "has", "lacks"), [
    ("glibc-2.36-x86_64", {"madvise", "newfstatat", "prlimit64", "sched_setscheduler"}, {"timer_settime64"}),
    ("glibc-2.36-i386", {"timer_settime64", "fstatat64", "_llseek"}, {"newfstatat"}),
    ("musl-1.2.5-x86_64", {"munmap", "chdir", "pread64", "lseek", "recvfrom"}, {"fstat64"}),
])
def test_the_filter_has_what_comes_after_a_function_returned(name: str, has: set[str], lacks: set[str]) -> None:
    allowed = set(json.loads(profile.document(recorded(name)))["syscalls"][0]["names"])
    assert has <= allowed
    assert not lacks & allowed


def test_the_profile_in_words_says_what_breaks() -> None:
    text = profile.text(recorded("glibc-2.36-x86_64"))
    assert "EPERM instead makes" in text
    assert "clone(VM|VFORK|SIGCHLD)  where clone3 answers ENOSYS" in text
    assert "EPERM" not in profile.text(recorded("glibc-2.31-x86_64"))


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1]", b'{"audit":"forklore","format":1}', b"\xff\xfe", b"[" * 10_000])
def test_what_is_no_audit_is_refused(raw: bytes) -> None:
    with pytest.raises(NotAnAuditError, match="is no audit"):
        decode(raw, "file")


@pytest.mark.parametrize("hostile", [b"\\u001b[2J", b"\\r", b"\xc2\x9b2J", b"\xe2\x80\xae"])
def test_an_audit_that_would_command_a_terminal_is_refused(hostile: bytes) -> None:
    raw = encode(recorded("musl-1.2.5-x86_64"))
    assert raw.count(b"SIGCHLD") > 9
    with pytest.raises(NotAnAuditError, match="holds control characters"):
        decode(raw.replace(b"SIGCHLD", hostile, 1), "file")
    decode(raw.replace(b"SIGCHLD", rb"\\u001b", 1), "file")  # a backslash and letters


def test_another_format_is_refused() -> None:
    raw = encode(recorded("musl-1.2.5-x86_64")).replace(b'"library"', b'"format":2,"library"', 1)
    with pytest.raises(NotAnAuditError, match="format 2; this forklore reads format 1"):
        decode(raw, "file")


@settings(max_examples=100, deadline=None)
@given(st.integers(0, (1 << 64) - 1))
def test_a_mask_is_told_by_its_shorter_side(raw: int) -> None:
    text = calls.mask_text(raw)
    assert text.startswith("all") == (raw.bit_count() > 32)
    assert text.count(",") <= 31
