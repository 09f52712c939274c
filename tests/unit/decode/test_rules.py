"""Why a call was refused."""

from __future__ import annotations

import errno

import pytest

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.abi.errors import errno_number
from forklore.decode.creation import decode_creation, from_flags
from forklore.decode.rules.table import RULES, Context, reasons, refusals

X86 = Arch.X86_64
FORK = decode_creation(X86, 57, ())


def rules(call: object, number: int, context: Context = Context()) -> list[tuple[str, bool]]:  # noqa: B008
    return [(reason.rule, reason.certain) for reason in reasons(call, number, context)]  # type: ignore[arg-type]


def test_arguments_that_prove_the_rule() -> None:
    thread = from_flags(X86, "clone", f.CLONE_THREAD, 0)
    assert rules(thread, errno.EINVAL)[-1] == ("thread-without-sighand", True)
    assert reasons(thread, -errno.EINVAL) == reasons(thread, errno.EINVAL)


def test_all_certain_rules_in_the_kernels_order() -> None:
    call = from_flags(X86, "clone3", f.CLONE_NEWNS | f.CLONE_FS | f.CLONE_THREAD, 17)
    assert [r.rule for r in refusals(call)] == ["clone3-exit-signal-of-kin", "newns-and-fs", "thread-without-sighand"]


def test_limits_word_the_numbers_that_decided() -> None:
    context = Context(uid=1000, limits={"rlimit_nproc": 20, "user_tasks": 20, "pids_max": 100, "pids_current": 7})
    first = reasons(FORK, errno.EAGAIN, context)[0]
    assert (first.rule, first.certain) == ("rlimit-nproc", True)
    assert "RLIMIT_NPROC is 20 and user 1000 has 20 tasks" in first.text
    assert "pids-max" not in [rule for rule, _ in rules(FORK, errno.EAGAIN, context)]


def test_a_limit_nearly_reached_stays_possible() -> None:
    near = Context(uid=1000, limits={"rlimit_nproc": 20, "user_tasks": 19})
    assert ("rlimit-nproc", False) in rules(FORK, errno.EAGAIN, near)
    far = Context(uid=1000, limits={"rlimit_nproc": 2000, "user_tasks": 19})
    assert "rlimit-nproc" not in [rule for rule, _ in rules(FORK, errno.EAGAIN, far)]


def test_root_is_not_bound_by_nproc() -> None:
    context = Context(uid=0, limits={"rlimit_nproc": 20, "user_tasks": 20})
    assert "rlimit-nproc" not in [rule for rule, _ in rules(FORK, errno.EAGAIN, context)]


def test_privilege_decides_namespaces() -> None:
    call = from_flags(X86, "clone", f.CLONE_NEWNET, 17)
    nobody = Context(caps=frozenset())
    assert ("namespace-privilege", True) in rules(call, errno.EPERM, nobody)
    with_user = from_flags(X86, "clone", f.CLONE_NEWNET | f.CLONE_NEWUSER, 17)
    assert "namespace-privilege" not in [rule for rule, _ in rules(with_user, errno.EPERM, nobody)]


@pytest.mark.parametrize(("kernel", "refused"), [((6, 18), False), ((7, 2), True), ((7, 3), True), ((5, 10), False)])
def test_clones_exit_signal_by_kernel(kernel: tuple[int, int], refused: bool) -> None:
    call = decode_creation(X86, 56, (0x91, 0, 0, 0, 0))
    assert bool(refusals(call, Context(kernel=kernel))) is refused


def test_between_those_kernels_it_is_possible() -> None:
    call = decode_creation(X86, 56, (0x91, 0, 0, 0, 0))
    for context in (Context(), Context(kernel=(7, 0))):
        assert ("clone-exit-signal-invalid", False) in rules(call, errno.EINVAL, context)
        assert not refusals(call, context)


def test_flags_newer_than_the_kernel() -> None:
    call = from_flags(X86, "clone3", f.CLONE_AUTOREAP, 0)
    assert [r.rule for r in refusals(call, Context(kernel=(6, 18)))] == ["clone3-flag-too-new"]
    assert refusals(call, Context(kernel=(7, 1))) == ()
    thread = f.CLONE_THREAD | f.CLONE_VM | f.CLONE_SIGHAND | f.CLONE_PIDFD
    assert refusals(from_flags(X86, "clone", thread, 0), Context(kernel=(6, 8)))
    assert not refusals(from_flags(X86, "clone", thread, 0), Context(kernel=(6, 9)))


def test_what_is_not_a_failure() -> None:
    for flags in (f.CLONE_DETACHED, f.CLONE_NEWPID | f.CLONE_PARENT, f.CLONE_NEWUSER | f.CLONE_PARENT):
        assert refusals(from_flags(X86, "clone", flags, 17), Context(kernel=(6, 18))) == ()
    assert refusals(decode_creation(X86, 56, (f.CLONE_PARENT_SETTID | 17, 0, 8, 0, 0))) == ()
    assert rules(FORK, -513) == [("restarted", True)]


def test_an_error_without_a_rule_says_so() -> None:
    only = reasons(FORK, 95)
    assert [(r.rule, r.certain) for r in only] == [("unexplained", False)]
    assert "EOPNOTSUPP" in only[0].text


def test_enosys() -> None:
    clone3 = from_flags(X86, "clone3", 0, 17)
    assert rules(clone3, errno.ENOSYS, Context(kernel=(5, 2)))[0] == ("clone3-unknown", True)
    assert "clone3-unknown" not in [r for r, _ in rules(clone3, errno.ENOSYS, Context(kernel=(6, 1)))]
    assert [r for r, _ in rules(FORK, errno.ENOSYS)] == ["seccomp-enosys", "seccomp-no-tracer"]


def test_the_table_is_sound() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert errno_number(rule.errno), rule.id
        assert rule.calls
        assert not rule.text.endswith(".")
        assert rule.source
        assert rule.since is None or rule.until is None or rule.since < rule.until


def test_a_flag_that_older_kernels_may_have_by_a_backport() -> None:
    call = from_flags(X86, "clone3", f.CLONE_NEWTIME, 0)
    assert refusals(call, Context(kernel=(5, 4)))
    assert ("clone3-flag-too-new", False) in rules(call, errno.EINVAL, Context(kernel=(6, 1)))
    assert "clone3-flag-too-new" not in [rule for rule, _ in rules(call, errno.EINVAL, Context(kernel=(6, 3)))]


def test_no_limit_is_never_reached() -> None:
    context = Context(uid=1000, limits={"rlimit_nproc": -1, "user_tasks": 20})
    assert "rlimit-nproc" not in [rule for rule, _ in rules(FORK, errno.EAGAIN, context)]


def test_the_caller_as_its_numbers_tell() -> None:
    numbers = {"rlimit_nproc": 20, "user_tasks": 20, "uid": 1000, "cap_eff": 0}
    first = reasons(FORK, errno.EAGAIN, Context(limits=numbers))[0]
    assert first.certain
    assert "user 1000 has 20 tasks" in first.text
    privileged = Context(limits={**numbers, "cap_eff": 1 << 21})
    assert "rlimit-nproc" not in [rule for rule, _ in rules(FORK, errno.EAGAIN, privileged)]
