"""Why bpf(2) refuses, told by what this process has and what the kernel's mode is."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forklore.abi.capabilities import NAMES
from forklore.linux import proc, tracefs
from forklore.linux.bpf import loader, rights
from forklore.sources.bpf import kernel


def capabilities(*names: str) -> int:
    return sum(1 << NAMES.index(name) for name in names)


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        ((), ["CAP_BPF", "CAP_PERFMON"]),
        (("CAP_BPF",), ["CAP_PERFMON"]),
        (("CAP_PERFMON", "CAP_SYS_PTRACE"), ["CAP_BPF"]),
        (("CAP_BPF", "CAP_PERFMON"), []),
        (("CAP_SYS_ADMIN",), []),  # include/linux/capability.h: bpf_capable, perfmon_capable
    ],
)
def test_what_lacks_is_named(held: tuple[str, ...], missing: list[str]) -> None:
    assert rights.lacking(capabilities(*held)) == missing


@given(st.sampled_from([[], ["CAP_BPF"], ["CAP_PERFMON"], ["CAP_BPF", "CAP_PERFMON"]]), st.booleans(),
       st.sampled_from(["", "none", "integrity", "confidentiality"]))  # fmt: skip
def test_the_first_thing_that_is_in_the_way_is_told(missing: list[str], first: bool, mode: str) -> None:
    told = rights.explain(missing, first_user_ns=first, mode=mode)
    if missing:
        assert told.startswith(f"forklore lacks {' and '.join(missing)}:")
    elif not first:
        assert "user namespace" in told
    elif mode == "confidentiality":
        assert told == rights.LOCKED
    else:
        assert "forklore has CAP_BPF and CAP_PERFMON" in told


def test_a_helper_that_lockdown_takes_away_is_explained_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    log = "12: (85) call bpf_probe_read_kernel#113\nprogram of this type cannot use helper bpf_probe_read_kernel#113\n"
    refusal = OSError(errno.EINVAL, "Invalid argument", "the BPF program x")
    for mode, said in (("confidentiality", True), ("integrity", False)):
        monkeypatch.setattr(loader, "lockdown", lambda mode=mode: mode)
        assert (rights.LOCKED in loader.explained(refusal, "task_newtask", log)) is said


@pytest.mark.parametrize(("paranoid", "said"), [(3, "perf_event_paranoid is 3"), (2, "forklore "), (None, "forklore ")])
def test_a_kernel_that_wants_more_for_perf_events_says_so(
    monkeypatch: pytest.MonkeyPatch, paranoid: int | None, said: str
) -> None:
    monkeypatch.setattr(proc, "setting", lambda _path: paranoid)
    assert said in kernel._perf_refused(OSError(errno.EACCES, "Permission denied"))


def test_no_tracefs_is_mounted_where_to_unmount_it_is_an_oops(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(tracefs, "_PLACES", ())

    def mounted(kind: str) -> int:
        tried.append(kind)
        return os.open("/", os.O_PATH)

    monkeypatch.setattr(tracefs, "mounted", mounted)
    monkeypatch.setattr(tracefs, "lockdown", lambda: "confidentiality")
    with pytest.raises(PermissionError, match="confidentiality"):
        tracefs.Tracefs()
    assert tried == []
    monkeypatch.setattr(tracefs, "lockdown", lambda: "integrity")
    tracefs.Tracefs().close()
    assert tried == ["tracefs"]
