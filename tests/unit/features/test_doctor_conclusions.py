"""From a machine's answers to what a user is told: each lack names what is lost and what to do."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from forklore.abi.units import Pid, Unavailable
from forklore.features.doctor.conclusions import (
    BpfFacts,
    Check,
    CheckState,
    Facts,
    PerfFacts,
    by_ptrace,
    can_trace,
    judge,
)
from forklore.features.doctor.text import verdict

REFUSED = Unavailable(errno.EPERM, "it: Operation not permitted")

ROOT = Facts(
    bpf=BpfFacts(loads=True, prepare_exec=True, group_dead=True, calls_seen_by="functions", functions=True),
    perf=PerfFacts(opens=True, whole_machine=True, tracepoints=True),
    kernel="6.12.0", machine="x86_64", user="root", uid=0, python="3.12.1", capabilities=(1 << 41) - 1,
    tracer=Pid(0), tracer_name="", yama=1, seize=True, syscall_info=True, registers=True, read_memory=True,
    filter_plain=True,
    filter_no_new_privs=True, seccomp_mode=0, seccomp_filters=0, seccomp_actions=("kill", "trace", "allow"),
    no_new_privs=False, clone3=True, kcmp=True, pagemap=True, page_frames=True, soft_dirty=True,
    new_user_ns=True, container=(), first_pid_ns=True, first_user_ns=True, hidepid="off", tracefs=True,
    abis={"i386": True}, limits={"threads_max": 10000, "threads_now": 100},
)  # fmt: skip


def check(name: str, **change: Any) -> Check:
    (found,) = (one for one in judge(replace(ROOT, **change)) if one.name == name)
    return found


def test_root_on_a_plain_machine_lacks_nothing() -> None:
    assert {one.state for one in judge(ROOT)} == {CheckState.OK}


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"yama": 3}, "at boot"),
        ({"yama": 2, "capabilities": 0}, "sysctl kernel.yama.ptrace_scope=1"),
        ({"tracer": Pid(7), "tracer_name": "strace"}, "outside of strace (pid 7)"),
        ({"container": ("/.dockerenv exists",)}, "--cap-add=SYS_PTRACE"),
        ({"seccomp_mode": 2}, "--cap-add=SYS_PTRACE"),
        ({"seize": Unavailable(errno.ENOSYS, "no")}, "use another one"),
        ({}, "security module"),
    ],
)
def test_a_refused_ptrace_names_the_cause_that_applies(change: dict[str, Any], remedy: str) -> None:
    facts = replace(ROOT, **{"seize": REFUSED, "yama": 0, **change})
    checks = judge(facts)
    assert not by_ptrace(checks)
    assert remedy in next(one.remedy for one in checks if one.name == "ptrace")


@pytest.mark.parametrize(
    ("yama", "capabilities", "state"),
    [
        (None, 0, CheckState.OK),
        (0, 0, CheckState.OK),
        (1, 0, CheckState.LIMITED),
        (1, 1 << 19, CheckState.OK),
        (2, 0, CheckState.BLOCKED),
        (2, 1 << 19, CheckState.OK),
        (3, 1 << 19, CheckState.BLOCKED),
    ],
)
def test_each_ptrace_scope(yama: int | None, capabilities: int, state: CheckState) -> None:
    assert check("ptrace-scope", yama=yama, capabilities=capabilities).state is state


@pytest.mark.parametrize(
    ("change", "state", "said"),
    [
        ({}, CheckState.OK, "at the calls of interest"),
        ({"no_new_privs": True}, CheckState.OK, "no_new_privs is set already"),
        ({"filter_plain": REFUSED}, CheckState.LIMITED, "with no_new_privs only"),
        ({"filter_plain": REFUSED, "filter_no_new_privs": REFUSED}, CheckState.LIMITED, "not permitted"),
        ({"seccomp_actions": ("kill", "allow")}, CheckState.LIMITED, "not trace"),
        ({"seccomp_actions": ()}, CheckState.OK, "at the calls of interest"),
    ],
)
def test_the_filter(change: dict[str, Any], state: CheckState, said: str) -> None:
    found = check("seccomp", **change)
    assert (found.state, said in found.found) == (state, True)
    assert bool(found.remedy) is (state is not CheckState.OK)


@pytest.mark.parametrize("old", [False, Unavailable(errno.EIO, "PTRACE_GET_SYSCALL_INFO: I/O error")])
def test_a_kernel_without_syscall_info_cannot_be_used(old: bool | Unavailable) -> None:
    assert not by_ptrace(judge(replace(ROOT, syscall_info=old)))


@pytest.mark.parametrize(
    ("limits", "state"),
    [
        ({}, CheckState.OK),
        ({"rlimit_nproc": 300}, CheckState.OK),
        ({"rlimit_nproc": 300, "user_tasks": 100}, CheckState.OK),
        ({"rlimit_nproc": 300, "user_tasks": 101}, CheckState.LIMITED),
        ({"pids_max": 50, "pids_current": 60}, CheckState.LIMITED),
    ],
)
def test_a_limit_counts_only_against_what_is_used(limits: dict[str, int], state: CheckState) -> None:
    assert check("limits", limits=limits).state is state


ANSWERS = st.sampled_from([True, False, REFUSED, Unavailable(errno.ENOSYS, "it: not implemented")])
TRIED = (
    "seize", "syscall_info", "registers", "read_memory", "filter_plain", "filter_no_new_privs", "clone3", "kcmp",
    "pagemap", "soft_dirty", "new_user_ns", "tracefs",
)  # fmt: skip


@settings(max_examples=100)
@given(
    st.fixed_dictionaries(dict.fromkeys(TRIED, ANSWERS)),
    st.sampled_from([None, 0, 1, 2, 3]),
    st.integers(0, 1 << 41),
    st.booleans(),
)
def test_whatever_is_lost_comes_with_a_remedy(
    answers: dict[str, Any], yama: int | None, capabilities: int, inside: bool
) -> None:
    facts = replace(
        ROOT, **answers, yama=yama, capabilities=capabilities, first_pid_ns=inside, first_user_ns=not inside,
        seccomp_mode=2 * inside, hidepid="2" if inside else "off",
    )  # fmt: skip
    checks = judge(facts)
    assert len({one.name for one in checks}) == len(checks)
    for one in checks:
        assert bool(one.loses) is (one.state in (CheckState.LIMITED, CheckState.BLOCKED)), one
        assert one.remedy or not one.loses, one
        assert one.found
    assert by_ptrace(checks) is (
        facts.seize is True
        and facts.syscall_info is True
        and not (yama == 3 or (yama == 2 and not capabilities >> 19 & 1))
    )


@pytest.mark.parametrize(
    ("bpf", "said"),
    [
        (BpfFacts(loads=Unavailable(2, "no hook"), btf=False), "CONFIG_DEBUG_INFO_BTF"),
        (BpfFacts(loads=Unavailable(1, "refused"), lockdown="confidentiality"), "confidentiality"),
        (BpfFacts(loads=Unavailable(1, "refused")), "CAP_BPF and CAP_PERFMON"),
        (BpfFacts(loads=Unavailable(22, "unknown")), "report it"),
    ],
)
def test_without_bpf_the_other_engine_is_left_and_the_reason_told(bpf: BpfFacts, said: str) -> None:
    checks = judge(replace(ROOT, bpf=bpf))
    (check,) = [check for check in checks if check.name == "bpf engine"]
    assert check.state is CheckState.LIMITED
    assert said in check.remedy
    assert can_trace(checks)


def test_a_kernel_that_is_too_old_is_named() -> None:
    checks = judge(replace(ROOT, kernel="5.10.0-30-amd64", bpf=BpfFacts(loads=Unavailable(22, "unknown"))))
    (check,) = [check for check in checks if check.name == "bpf engine"]
    assert check.remedy == "Linux 5.17 or newer, with BTF: this is 5.10.0-30-amd64"


def test_an_older_kernel_is_told_by_what_it_lacks() -> None:
    bpf = BpfFacts(loads=True, calls_seen_by="tracepoints", functions=Unavailable(1, "refused"), tracepoints=True)
    checks = {check.name: check for check in judge(replace(ROOT, bpf=bpf))}
    assert "sched_prepare_exec" in checks["bpf: Linux 6.10"].found
    assert "group_dead" in checks["bpf: Linux 6.16"].found
    assert checks["bpf: functions"].found.endswith(": refused")
    assert "bpf: tracepoints" not in checks
    newest = {check.name for check in judge(ROOT)}
    assert not newest & {"bpf: Linux 6.10", "bpf: Linux 6.16", "bpf: functions", "bpf: tracepoints"}


def test_where_refused_calls_cannot_be_seen_at_all_it_is_said() -> None:
    no = Unavailable(1, "mounting tracefs: Operation not permitted")
    checks = {
        check.name: check for check in judge(replace(ROOT, bpf=BpfFacts(loads=True, functions=no, tracepoints=no)))
    }
    assert checks["bpf: tracepoints"].state is CheckState.LIMITED
    assert "nor are tracepoints" in checks["bpf: functions"].found


def test_where_ptrace_is_refused_the_other_engines_are_left() -> None:
    refused = replace(ROOT, yama=3, seize=Unavailable(1, "refused"))
    no_bpf = BpfFacts(loads=Unavailable(1, "no"))
    no_perf = PerfFacts(opens=Unavailable(1, "no"))
    for facts, said in (
        (refused, "--engine bpf or perf alone, and `forklore watch`:"),
        (replace(refused, perf=no_perf), "--engine bpf alone, and `forklore watch`:"),
        (replace(refused, bpf=no_bpf), "--engine perf alone:"),
    ):
        checks = judge(facts)
        assert can_trace(checks)
        assert not by_ptrace(checks)
        assert said in verdict(checks)
    neither = judge(replace(refused, bpf=no_bpf, perf=no_perf))
    assert not can_trace(neither)
