"""JSON of tracexec: execs, and neither creations nor ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_events import events_of, only, read, tree

from forklore.abi.units import Unavailable
from forklore.events.check import Checker
from forklore.events.lines import TraceError
from forklore.events.records import Begin, Exec, ExecFail
from forklore.sources.files import open_any

META = {"version": "0.17.0", "generator": "tracexec_exporter_json", "baseline": {"cwd": "/", "env": {"A": "}\n{"}}}


def execve(pid: int, *argv: str, **more: Any) -> dict[str, Any]:
    return {
        "id": 3, "pid": pid, "syscall": "execve", "exec_pid": pid, "cwd": "/", "comm_before_exec": "sh", "result": 0,
        "filename": argv[0], "argv": {"result": "success", "value": list(argv)},
        "env": {"result": "error", "value": "EPERM"}, "fdinfo": {"fdinfo": {}}, "timestamp": 1_795_000_000_000_000_000,
        "cgroup": {"kind": "v2", "path": "/"}, **more,
    }  # fmt: skip


EVENTS = [
    execve(10, "/bin/a", "x y"),
    execve(10, "/bin/none", result=-2, timestamp=1_795_000_000_000_000_500),
    execve(10, "/bin/b", exec_pid=12, timestamp=1_795_000_000_000_001_000),
]
FORMS = {
    "json-stream": "".join(json.dumps(each) + "\n" for each in [META, *EVENTS]),
    "json-stream --pretty": "\n".join(json.dumps(each, indent=2) for each in [META, *EVENTS]),
    "json": json.dumps({**META, "events": EVENTS}) + "\n",
    "json --pretty": json.dumps({**META, "events": EVENTS}, indent=2),
    "json, compact": json.dumps({**META, "events": EVENTS}, separators=(",", ":")),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form(form: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(FORMS[form])
    trace = open_any(tmp_path / "f")
    assert (trace.header.source.tool, trace.header.source.version) == ("tracexec", "0.17.0")
    assert trace.header.clock.wall == 1_795_000_000_000_000_000
    events = events_of(trace)
    assert trace.warnings == []
    assert tree(events) == {1: None, 2: None}
    assert [e.comm for e in only(events, Begin)] == ["sh", "sh"]
    assert [(e.t, e.task, e.path, e.argv, e.former_tid) for e in only(events, Exec)] == [
        (0, 1, "/bin/a", ["/bin/a", "x y"], None), (1000, 2, "/bin/b", ["/bin/b"], 12)
    ]  # fmt: skip
    assert [(e.t, e.path, e.errno) for e in only(events, ExecFail)] == [(500, "/bin/none", 2)]


def test_what_tracexec_could_not_read_is_not_known(tmp_path: Path) -> None:
    bad = execve(10, "[err: failed to inspect]", argv={"result": "error", "value": "EFAULT"})
    events, _ = read(tmp_path / "f", json.dumps(META) + "\n" + json.dumps(bad) + "\n")
    (image,) = only(events, Exec)
    assert isinstance(image.path, Unavailable)
    assert isinstance(image.argv, Unavailable)
    assert "EFAULT" in image.argv.why


def test_a_stream_that_is_cut_off_is_read_to_there(tmp_path: Path) -> None:
    events, warnings = read(tmp_path / "f", FORMS["json-stream"][:-30] + "}\n")
    assert len(only(events, Exec)) == 1
    assert warnings == [f"{tmp_path / 'f'}:4: objects that are no exec of tracexec, or cut off"]


def test_json_that_is_cut_off_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(FORMS["json --pretty"][:-30])
    with pytest.raises(TraceError, match=r"expected JSON of tracexec collect; found in the object from line 1 on: "):
        open_any(tmp_path / "f")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FORMS)), st.data())
def test_damaged_files(tmp_path: Path, form: str, data: st.DataObject) -> None:
    text = bytearray(FORMS[form].encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        words = st.sampled_from([b"null", b"{", b"}", b"[", b'"', b"1e999", b"-5", b"\xff"])
        text[at : at + data.draw(st.integers(0, 30))] = data.draw(st.one_of(st.binary(max_size=8), words))
    (tmp_path / "f").write_bytes(text)
    check, refused = Checker(), None
    try:
        trace = open_any(tmp_path / "f")
        for event in trace:
            check(event)
    except TraceError as error:
        refused = error
    if refused is not None:
        assert str(tmp_path / "f") in str(refused)
        assert refused.expected
        return
    assert check.end is not None
    assert all(line.isprintable() for line in trace.warnings)
