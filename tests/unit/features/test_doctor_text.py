"""The doctor's report: 80 columns, nothing that steers a terminal, and the same facts as JSON."""

from __future__ import annotations

import json

import pytest

from forklore.abi.units import Pid, Unavailable
from forklore.features.doctor import text
from forklore.features.doctor.conclusions import Check, CheckState, Facts

FACTS = Facts(
    kernel="6.12.0", machine="x86_64", user="ann", uid=1000, python="3.12.1", capabilities=0, tracer=Pid(7),
    tracer_name="\x1b[2J", yama=1, seize=True, syscall_info=True, registers=True, read_memory=True,
    filter_plain=Unavailable(13, "a seccomp filter: Permission denied"), filter_no_new_privs=True,
    seccomp_mode=0, seccomp_filters=None, seccomp_actions=("trace",), no_new_privs=False, clone3=True,
    kcmp=True, pagemap=True, page_frames=False, soft_dirty=False, new_user_ns=True, container=("a", "b"),
    first_pid_ns=True, first_user_ns=True, hidepid="off", tracefs=False, abis={"x32": False},
    limits={"pid_max": 9},
)  # fmt: skip

CHECKS = [
    Check("ptrace", CheckState.OK, "a child was seized"),
    Check("traced", CheckState.LIMITED, "by \x1b[2J\nevil " + "x" * 100, "a tracer of its own " * 8, "run it outside"),
]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (CheckState.OK, "without limits."),
        (CheckState.INFO, "without limits."),
        (CheckState.LIMITED, "with limits: it."),
        (CheckState.BLOCKED, "cannot trace"),
    ],
)
def test_the_verdict_is_one_sentence(state: CheckState, said: str) -> None:
    assert said in text.verdict([Check("it", state, "so")])


def test_the_text_fits_a_terminal_and_cannot_steer_it() -> None:
    lines = list(text.lines(FACTS, CHECKS))
    assert max(map(len, lines)) <= 80
    assert all(line.isprintable() for line in lines)
    assert lines[0] == "Linux 6.12.0 x86_64, uid 1000 (ann), Python 3.12.1"
    assert lines[2] == "ok       ptrace  a child was seized"
    assert r"\x1b[2J\nevil" in text.text(FACTS, CHECKS)


def test_the_text_is_its_lines() -> None:
    assert text.text(FACTS, CHECKS).splitlines() == list(text.lines(FACTS, CHECKS))


def test_the_json_has_the_checks_and_what_they_were_made_from() -> None:
    whole = json.loads(text.document(FACTS, CHECKS))
    assert whole["format"] == {"name": "forklore-doctor", "version": [1, 0]}
    assert whole["can_trace"] is True
    assert whole["checks"][0] == {
        "name": "ptrace", "state": "ok", "found": "a child was seized", "loses": "", "remedy": "",
    }  # fmt: skip
    assert whole["facts"]["filter_plain"] == {"errno": 13, "why": "a seccomp filter: Permission denied"}
    assert whole["facts"]["container"] == ["a", "b"]
    assert whole["facts"]["tracer_name"] == "\x1b[2J"
