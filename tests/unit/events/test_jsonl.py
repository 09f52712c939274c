"""Trace files in our own form: what is written comes back, and anything else is an error that says where and why."""

from __future__ import annotations

import errno
import gzip
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.units import Unavailable
from forklore.events import jsonl, lines, schema
from forklore.events.lines import TraceError, open_lines
from forklore.events.records import (
    FORMAT_VERSION,
    Begin,
    Clock,
    Create,
    End,
    Event,
    Exec,
    Exit,
    Header,
    Note,
    Source,
    Text,
    VforkDone,
    raw_bytes,
    text,
)

HEADER = Header(source=Source(tool="forklore", version="0.1"), clock=Clock(start=5, wall=7), command=["true"])
BEGIN = Begin(t=0, task=1, tid=10, tgid=10, how="root")
CREATE = Create(
    t=3, task=1, arch=Arch.X86_64, nr=56, args=(0x1200011, 0, 0, 2**64 - 1, None), child=2, tid=11, stop="fork"
)
EVENTS: list[Event] = [BEGIN, CREATE, Exit(t=4, task=2, status=0), Exit(t=None, task=1, status=None)]


def record(path: Path, events: list[Event], *, end: bool = True) -> Path:
    fd = jsonl.open_trace(path)
    writer = jsonl.Writer(fd, HEADER)
    for event in events:
        writer.event(event)
    if end:
        writer.end(9, "root")
    writer.flush()
    os.close(fd)
    assert writer.failure is None
    return path


def write_lines(path: Path, *items: object) -> Path:
    texts = [item if isinstance(item, bytes) else msgspec.json.encode(item) for item in items]
    path.write_bytes(b"".join(line + b"\n" for line in texts))
    return path


def failure(path: Path) -> TraceError:
    with pytest.raises(TraceError) as caught:
        list(jsonl.read(path))
    return caught.value


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    trace = jsonl.read(record(tmp_path / "t.jsonl", EVENTS))
    assert trace.header == HEADER
    assert list(trace) == [*EVENTS, End(t=9, reason="root", events=4)]
    assert trace.warnings == []


def test_a_new_file_is_private_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    new = record(tmp_path / "new", EVENTS)
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    old = tmp_path / "old"
    old.write_text("x" * 10_000)
    old.chmod(0o640)
    record(old, EVENTS)
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert old.read_bytes() == new.read_bytes()


def test_the_descriptor_is_not_inherited(tmp_path: Path) -> None:
    fd = jsonl.open_trace(tmp_path / "t")
    assert not os.get_inheritable(fd)
    os.close(fd)


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_keeps_what_is_there(name: str, tmp_path: Path) -> None:
    program = (
        "import os, sys; from forklore.events import jsonl, records as r; print('before', flush=True);"
        f"fd = jsonl.open_trace({name!r}); assert not os.get_inheritable(fd);"
        "jsonl.Writer(fd, r.Header(source=r.Source(tool='forklore'), clock=r.Clock(start=1, wall=None)))"
    )
    with (tmp_path / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", program], stdout=out, check=True, env={"PYTHONPATH": _source()})
    assert (tmp_path / "out").read_text().splitlines()[0] == "before"
    assert '"format":"forklore-trace"' in (tmp_path / "out").read_text().splitlines()[1]


def _source() -> str:
    return str(Path(jsonl.__file__).resolve().parents[2])


def test_a_fifo_can_be_written_and_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    seen: list[Event] = []
    reader = threading.Thread(target=lambda: seen.extend(jsonl.read(fifo)))
    reader.start()
    record(fifo, EVENTS)
    reader.join(10)
    assert seen[:-1] == EVENTS


def test_every_flushed_line_survives(tmp_path: Path) -> None:
    """As after kill -9: no end record, and only whole lines."""
    fd = jsonl.open_trace(tmp_path / "t")
    writer = jsonl.Writer(fd, HEADER)
    writer.event(BEGIN)
    writer.flush()
    writer.event(CREATE)
    trace = jsonl.read(tmp_path / "t")
    assert list(trace) == [BEGIN]
    assert trace.warnings == [f"{tmp_path / 't'}: no end record: the recording was cut off after 1 events"]
    os.close(fd)


def test_a_full_disk_is_counted_and_reported() -> None:
    fd = jsonl.open_trace("/dev/full")
    writer = jsonl.Writer(fd, HEADER)
    for event in EVENTS:
        writer.event(event)
    writer.end(9, "root")
    os.close(fd)
    assert writer.failure is not None
    assert writer.failure.errno == errno.ENOSPC
    assert (writer.events, writer.lost) == (4, 4)


def test_a_reader_that_leaves_is_counted_and_reported() -> None:
    out, into = os.pipe()
    writer = jsonl.Writer(into, HEADER, buffer=1)
    writer.event(BEGIN)
    os.close(out)
    for event in EVENTS[1:]:
        writer.event(event)
    os.close(into)
    assert writer.failure is not None
    assert writer.failure.errno == errno.EPIPE
    assert writer.lost == 3


def test_a_pipe_that_does_not_block_is_waited_for() -> None:
    out, into = os.pipe()
    os.set_blocking(into, False)
    chunks: list[bytes] = []

    def drain() -> None:
        while chunk := os.read(out, 65536):
            chunks.append(chunk)

    reader = threading.Thread(target=drain)
    writer = jsonl.Writer(into, HEADER)
    reader.start()
    for _ in range(5003):
        writer.event(CREATE)
    writer.end(None, "root")
    os.close(into)
    reader.join(10)
    os.close(out)
    assert writer.failure is None
    assert b"".join(chunks).count(b"\n") == 5003 + 2


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", range(300, 700, 37))
def test_a_file_that_may_not_grow_ends_with_a_whole_line(size: int, tmp_path: Path) -> None:
    fd = jsonl.open_trace(tmp_path / "t")
    with file_size_limit(size):
        writer = jsonl.Writer(fd, HEADER)
        writer.event(BEGIN)
        for _ in range(13):
            writer.event(msgspec.structs.replace(CREATE, child=writer.events + 1))
        writer.flush()
        writer.event(BEGIN)
    os.close(fd)
    assert writer.failure is not None
    assert writer.failure.errno == errno.EFBIG
    data = (tmp_path / "t").read_bytes()
    assert data.endswith(b"\n")
    assert len(data) <= size
    trace = jsonl.read(tmp_path / "t")
    assert len(list(trace)) == 15 - writer.lost
    assert len(trace.warnings) == 1


def test_a_cut_last_line_is_a_warning(tmp_path: Path) -> None:
    path = record(tmp_path / "t", EVENTS)
    whole = path.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for length in (start + 1, start + 20, len(whole) - 2):
        path.write_bytes(whole[:length])
        trace = jsonl.read(path)
        assert list(trace) == EVENTS
        assert trace.warnings == [f"{path}:6: the last line was cut off and is left out"]


def test_a_last_line_without_its_newline_is_whole(tmp_path: Path) -> None:
    path = record(tmp_path / "t", EVENTS)
    path.write_bytes(path.read_bytes()[:-1])
    trace = jsonl.read(path)
    assert len(list(trace)) == 5
    assert trace.warnings == []


def test_what_the_recorder_lost_is_a_warning(tmp_path: Path) -> None:
    trace = jsonl.read(write_lines(tmp_path / "t", HEADER, BEGIN, End(t=1, reason="done", events=1, lost=3)))
    list(trace)
    assert trace.warnings == [f"{tmp_path / 't'}: 3 events are not in it: {jsonl._LACKING}"]


def test_gzip_is_seen_through(tmp_path: Path) -> None:
    path = record(tmp_path / "t", EVENTS)
    packed = tmp_path / "t.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(jsonl.read(packed)) == list(jsonl.read(path))


def test_a_damaged_gzip_file_is_an_error(tmp_path: Path) -> None:
    packed = gzip.compress(record(tmp_path / "t", EVENTS).read_bytes() * 3)
    path = tmp_path / "t.gz"
    path.write_bytes(packed[:-20])
    assert failure(path).expected == "a whole gzip file"


def test_a_gzip_bomb_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "INFLATED", 1 << 20)
    path = tmp_path / "t.gz"
    for bomb in (b" ", b"\n", b"x\n", b"    \n" * 70):
        path.write_bytes(gzip.compress(record(tmp_path / "t", EVENTS).read_bytes() + bomb * ((4 << 20) // len(bomb))))
        with closing(open_lines(path)) as source, pytest.raises(TraceError, match="decompress the file") as problem:
            list(source)
        assert f"at most {lines.BOMB} times" in problem.value.expected


def test_no_more_of_an_endless_line_is_read_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 1 << 16)
    path, unpacked = tmp_path / "t.gz", 0
    read = gzip.GzipFile.readinto

    def counted(self: gzip.GzipFile, buffer: memoryview) -> int:
        nonlocal unpacked
        unpacked += (size := read(self, buffer))
        return size

    monkeypatch.setattr(gzip.GzipFile, "readinto", counted)
    monkeypatch.setattr(lines, "SKIPPED_LIMIT", 1 << 18)
    path.write_bytes(b"\n" + b"x" * (64 << 20))
    with closing(open_lines(path)) as source, pytest.raises(TraceError, match=r"t\.gz:2: expected lines of at most"):
        list(source)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with closing(open_lines(path)) as source, pytest.raises(TraceError, match=r"t\.gz:2: expected lines of at most"):
        list(source)
    assert unpacked <= 1 << 20


TOO_LATE = Exit(t=0, task=1, status=0)
BAD: list[tuple[str, list[object], int, str]] = [
    ("empty", [], 0, "an empty file"),
    ("no header", [BEGIN], 1, "format"),
    ("not json", [b"hello"], 1, "hello"),
    ("other format", [b'{"format":"x","version":[1,0]}'], 1, "x"),
    ("newer", [b'{"format":"forklore-trace","version":[2,0]}'], 1, "version 2.0; read it with"),
    ("torn header", [b'{"format":"forklore-trace","version":[1,0],'], 1, "truncated"),
    ("garbage", [HEADER, b"garbage"], 2, "garbage"),
    ("blank line", [HEADER, b""], 2, "truncated"),
    ("unknown event", [HEADER, b'{"event":"dance","t":0}'], 2, "dance"),
    ("wrong type", [HEADER, b'{"event":"exit","t":0,"task":"one","status":0}'], 2, "$.task"),
    ("no time", [HEADER, b'{"event":"exit","task":1,"status":0}'], 2, "`t`"),
    ("float time", [HEADER, b'{"event":"exit","t":0.5,"task":1,"status":0}'], 2, "$.t"),
    ("deep", [HEADER, b'{"event":"exit","x":' + b"[" * 100_000], 2, "nested"),
    ("task 0", [HEADER, b'{"event":"exit","t":0,"task":0,"status":0}'], 2, "$.task"),
    ("unknown task", [HEADER, Exit(t=0, task=1, status=0)], 2, "task 1"),
    ("later task", [HEADER, BEGIN, Exit(t=0, task=2, status=0), CREATE], 3, "task 2"),
    ("second begin", [HEADER, BEGIN, BEGIN], 3, "task 1 a second time"),
    ("second create", [HEADER, BEGIN, CREATE, CREATE], 4, "task 2 a second time"),
    ("sparse twice", [HEADER, msgspec.structs.replace(BEGIN, task=7), msgspec.structs.replace(BEGIN, task=7)], 3, "7"),
    ("child unknown", [HEADER, BEGIN, VforkDone(t=0, task=1, child=9, tid=4)], 3, "task 9"),
    ("note unknown", [HEADER, BEGIN, Note(t=0, what="a", why="b", task=3)], 3, "task 3"),
    ("after end", [HEADER, BEGIN, End(t=0, reason="done", events=1), TOO_LATE], 4, "exit"),
    ("wrong count", [HEADER, BEGIN, End(t=0, reason="done", events=5)], 3, "counts 5"),
    ("wide word", [HEADER, BEGIN, msgspec.structs.replace(CREATE, args=(2**64,))], 3, "18446744073709551616"),
    (
        "huge id",
        [HEADER, b'{"event":"begin","t":0,"task":1' + b"0" * 99 + b',"tid":1,"tgid":1,"how":"root"}'],
        2,
        "bits",
    ),
    ("huge tid", [HEADER, msgspec.structs.replace(BEGIN, tid=1 << 31)], 2, "2147483648"),
    ("huge time", [HEADER, msgspec.structs.replace(BEGIN, t=1 << 62)], 2, "4611686018427387904"),
    ("unknown word", [HEADER, BEGIN, b'{"event":"gone","t":0,"task":1,"why":"\\u001b"}'], 3, "$.why"),
    ("two tags", [HEADER, BEGIN, b'{"event":"gone","why":"?","t":0,"task":1,"event":"x"}'], 3, "$.why"),
    ("unknown word in a list", [HEADER, b'{"event":"stack","t":0,"stack":1,"frames":[[1,"?"]],"end":""}'], 2, "0][1]"),
    ("huge digits", [HEADER, b'{"event":"exit","t":' + b"9" * 100_000 + b',"task":1,"status":0}'], 2, "out of range"),
]


@pytest.mark.parametrize(("content", "line", "found"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_bad_file_is_an_error_that_teaches(content: list[object], line: int, found: str, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t", *content)
    error = failure(path)
    assert error.line == line
    assert str(path) in str(error)
    assert found in error.found
    assert f"expected {error.expected}; found " in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 600


def test_a_word_that_is_none_of_a_fields_is_told_what_there_is(tmp_path: Path) -> None:
    error = failure(write_lines(tmp_path / "t", HEADER, BEGIN, b'{"event":"gone","t":0,"task":1,"why":"eaten"}'))
    assert error.expected == "an event record with one of ended, lost, released, superseded in “why”"
    stack = b'{"event":"stack","t":0,"stack":1,"frames":[[1,"?"]],"end":""}'
    error = failure(write_lines(tmp_path / "t", HEADER, stack))
    assert error.expected == "an event record with one of pointer, register, rule, signal, wrapper in “frames”"


def test_a_line_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LINE_LIMIT", 4096)
    error = failure(write_lines(tmp_path / "t", HEADER, BEGIN, b'{"event":"' + b"x" * 9000))
    assert (error.line, error.found) == (3, "a longer one")


def test_control_characters_do_not_reach_a_terminal(tmp_path: Path) -> None:
    error = failure(write_lines(tmp_path / "t", HEADER, b"\x1b[31m\xff\x07"))
    assert "\\x1b[31m" in error.found


def test_a_newer_minor_version_is_read_with_a_warning(tmp_path: Path) -> None:
    major, minor = FORMAT_VERSION
    header = msgspec.structs.replace(HEADER, version=(major, minor + 1))
    path = write_lines(
        tmp_path / "t",
        header,
        BEGIN,
        b'{"event":"dance","t":1,"with":[1,2]}',
        b'{"event":"exit","t":2,"task":1,"status":0,"mood":"good","wind":3}',
        End(t=2, reason="done", events=3),
    )
    trace = jsonl.read(path)
    assert [type(event) for event in trace] == [Begin, Exit, End]
    assert len(trace.warnings) == 1
    assert "skipped 1 events and 2 fields" in trace.warnings[0]


def test_a_newer_minor_version_is_still_checked(tmp_path: Path) -> None:
    header = msgspec.structs.replace(HEADER, version=(FORMAT_VERSION[0], FORMAT_VERSION[1] + 1))
    assert "task 5" in failure(write_lines(tmp_path / "t", header, Exit(t=0, task=5, status=0))).found


raw = st.binary(max_size=20)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(raw, st.lists(raw, max_size=3), st.integers(0, 2**64 - 1)), max_size=5))
def test_any_bytes_of_a_program_come_back(tmp_path: Path, items: list[tuple[bytes, list[bytes], int]]) -> None:
    events: list[Event] = [BEGIN]
    for path, argv, word in items:
        given_argv: list[Text] = [text(arg) for arg in argv]
        events.append(Exec(t=1, task=1, path=text(path), argv=given_argv, exe=Unavailable(errno=2, why="gone")))
        events.append(msgspec.structs.replace(CREATE, child=len(events) + 5, args=(word,)))
    back = list(jsonl.read(record(tmp_path / "t", events)))[:-1]
    assert back == events
    paths = [raw_bytes(e.path) for e in back if isinstance(e, Exec) and not isinstance(e.path, Unavailable)]
    assert paths == [path for path, _, _ in items]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_never_surprises(tmp_path: Path, data: st.DataObject) -> None:
    whole = record(tmp_path / "t", EVENTS).read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    upto = data.draw(st.integers(at, min(at + 30, len(whole))))
    (tmp_path / "d").write_bytes(whole[:at] + data.draw(st.binary(max_size=30)) + whole[upto:])
    refusal = ""
    events: list[Event] = []
    try:
        events = list(jsonl.read(tmp_path / "d"))
    except TraceError as error:
        refusal = str(error)
    assert all(isinstance(event, Event) for event in events)
    assert not refusal or refusal.startswith(str(tmp_path / "d"))


def test_the_schema_is_current() -> None:
    script = Path(__file__).resolve().parents[3] / "scripts" / "generate-schema"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_schema_names_every_record() -> None:
    made = schema.make()
    tags = {d["properties"]["event"]["enum"][0] for d in made["$defs"].values() if "event" in d.get("properties", {})}
    assert {"begin", "create", "fail", "call", "exec", "exit", "end"} <= tags
    assert len(made["oneOf"]) == len(tags) + 1
