"""Spans of OpenTelemetry: what they hold, that its own proto definition reads them, and that a collector gets them."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from happenings import Story, stories
from hypothesis import HealthCheck, given, settings

from forklore.cli.main import main
from forklore.events import records as ev
from forklore.export.otlp import json_lines
from forklore.export.otlp.spans import Spans
from forklore.export.table import CannotExportError, ExportOptions
from forklore.model.build import built
from forklore.model.tasks import Trace
from forklore.sources.files import open_any

BUILD = Path(__file__).parents[3] / "traces/make.forklore.jsonl"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MISSING = "OpenTelemetry's packages are not installed (pip install 'forklore[otlp]')"
PROTO = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"


def in_json(trace: Trace, options: ExportOptions | None = None) -> list[dict[str, Any]]:
    """Every span."""
    out = io.BytesIO()
    json_lines.write(trace, out, options or ExportOptions())
    requests = [json.loads(line) for line in out.getvalue().splitlines()]
    scopes = [scope for request in requests for each in request["resourceSpans"] for scope in each["scopeSpans"]]
    return [span for scope in scopes for span in scope["spans"]]


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def story() -> Story:
    now: dict[str, Any] = {"clock": ev.Clock(5, 10**18)}
    made = Story(host="vm", arch="x86_64", **now)
    root = made.begin(100)
    made.exec(root, "/usr/bin/make", argv=["make", "-j2"], exe="/usr/bin/make", envp=[f"TRACEPARENT={PARENT}"])
    child = made.clone(root, 101)
    made.fail(child, 11)
    made.tell(ev.Reparent(t=made.t, task=child, parent_tid=100, parent=root))
    made.killed(child, 9)
    thread = made.thread(root, 102)
    made.exit(thread)
    made.exit(root)
    return made.end()


def test_a_span_has_what_is_known() -> None:
    make, child, thread = in_json(story().trace())
    assert make["traceId"] == child["traceId"] == PARENT.split("-")[1]
    assert make["parentSpanId"] == PARENT.split("-")[2]
    assert child["parentSpanId"] == thread["parentSpanId"] == make["spanId"]
    assert (make["name"], make["status"]) == ("make", {"code": 1})
    assert make["startTimeUnixNano"] == str(10**18)
    told = attributes(make)
    assert (told["process.pid"], told["process.executable.path"], told["process.exit.code"]) == (
        "100", "/usr/bin/make", "0",
    )  # fmt: skip
    assert [each["stringValue"] for each in told["process.command_args"]["values"]] == ["make", "-j2"]
    assert child["status"] == {"code": 2, "message": "SIGKILL"}
    assert child["events"][0]["name"] == "refused"
    assert [attributes(link)["forklore.edge"] for link in child["links"]] == ["reaper"]
    assert attributes(thread)["thread.id"] == "102"


@pytest.mark.parametrize("given_", [None, "x", "00-" + "0" * 32 + "-b7ad6b7169203331-01", PARENT.upper()])
def test_without_a_valid_traceparent_the_trace_has_its_own_id(given_: str | None) -> None:
    trace = built(open_any(BUILD))
    spans = in_json(trace, ExportOptions(traceparent=given_))
    assert "parentSpanId" not in spans[0]
    assert len({span["traceId"] for span in spans}) == 1
    assert spans[0]["traceId"] != PARENT.split("-")[1]


def test_traceparent_of_who_exports() -> None:
    spans = in_json(built(open_any(BUILD)), ExportOptions(traceparent=PARENT))
    assert (spans[0]["traceId"], spans[0]["parentSpanId"]) == tuple(PARENT.split("-")[1:3])


@given(stories(15))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_trace(told: Story) -> None:
    trace = told.trace()
    if all(task.created is None for task in trace.tasks.values()):
        with pytest.raises(CannotExportError, match="no times"):
            in_json(trace)
        return
    spans = in_json(trace)
    ids = [span["spanId"] for span in spans]
    assert len(ids) == len(set(ids)) == len(trace.tasks)
    for span in spans:
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        assert span.get("parentSpanId", ids[0]) in ids


class Collector(BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    bodies: list[tuple[str, bytes]]
    answer = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            body = gzip.decompress(body)
        self.bodies.append((self.path, body))
        self.send_response(self.answer)
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, type[Collector]]]:
    kind = type("Kept", (Collector,), {"bodies": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", kind
    server.shutdown()
    thread.join()
    server.server_close()


def official() -> Any:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason=MISSING)
    return pytest.importorskip(PROTO, reason=MISSING)


def in_protobuf(trace: Trace) -> bytes:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.common", reason=MISSING)
    from forklore.export.otlp import official as module

    out = io.BytesIO()
    module.write(trace, out, ExportOptions())
    return out.getvalue()


def without_defaults(span: Any) -> Any:
    """The official encoder says that spans and links are not remote, and has an empty status; JSON has neither."""
    for each in (span, *span.links):
        each.ClearField("flags")
    if not span.status.ByteSize():
        span.ClearField("status")
    return span


def read_as_json(trace: Trace, proto: Any) -> list[Any]:
    """Every span as the proto definition reads it from JSON."""
    json_format: Any = pytest.importorskip("google.protobuf.json_format", reason=MISSING)
    found = []
    for span in in_json(trace):
        read = json_format.ParseDict(span, proto.Span(), ignore_unknown_fields=False)
        # Its ids are hexadecimal, where protobuf's own JSON has base64.
        read.trace_id, read.span_id = bytes.fromhex(span["traceId"]), bytes.fromhex(span["spanId"])
        read.parent_span_id = bytes.fromhex(span.get("parentSpanId", ""))
        for link, told in zip(read.links, span.get("links", ()), strict=True):
            link.trace_id, link.span_id = bytes.fromhex(told["traceId"]), bytes.fromhex(told["spanId"])
        found.append(read)
    return found


@pytest.mark.parametrize("trace", [story().trace(), built(open_any(BUILD))], ids=["story", "build"])
def test_the_proto_definition_reads_the_same_from_both(trace: Trace) -> None:
    proto: Any = pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason=MISSING)
    data = proto.TracesData.FromString(in_protobuf(trace))
    (resource,) = data.resource_spans[:1]
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == "forklore"
    assert resource.scope_spans[0].scope.name == "forklore"
    spans = [
        without_defaults(span) for each in data.resource_spans for scope in each.scope_spans for span in scope.spans
    ]
    assert spans == read_as_json(trace, proto)


@given(stories(12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_trace_is_the_same_in_both(told: Story) -> None:
    proto: Any = pytest.importorskip("opentelemetry.proto.trace.v1.trace_pb2", reason=MISSING)
    trace = told.trace()
    if all(task.created is None for task in trace.tasks.values()):
        return
    data = proto.TracesData.FromString(in_protobuf(trace))
    spans = [
        without_defaults(span) for each in data.resource_spans for scope in each.scope_spans for span in scope.spans
    ]
    assert spans == read_as_json(trace, proto)


def test_json_is_what_the_proto_definition_says() -> None:
    proto = official()
    json_format: Any = pytest.importorskip("google.protobuf.json_format", reason=MISSING)
    out = io.BytesIO()
    json_lines.write(built(open_any(BUILD)), out, ExportOptions())
    for line in out.getvalue().splitlines():
        # Its ids are hexadecimal, where protobuf's own JSON has base64: all else is the same.
        json_format.Parse(line, proto.ExportTraceServiceRequest())


@pytest.mark.filterwarnings("default")  # of the exporter's own code
def test_a_collector_gets_every_span(
    collector: tuple[str, type[Collector]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = official()
    monkeypatch.setenv("TRACEPARENT", PARENT)
    url, kept = collector
    assert main(["show", "--otlp-endpoint", url, str(BUILD)]) == 0
    trace = built(open_any(BUILD))
    assert f"{len(trace.tasks)} spans sent to {url}" in capsys.readouterr().err
    spans = []
    for path, body in kept.bodies:
        assert path == "/v1/traces"
        request = proto.ExportTraceServiceRequest()
        request.ParseFromString(body)
        spans += [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]
    assert len(spans) == len(trace.tasks)
    assert {span.trace_id.hex() for span in spans} == {PARENT.split("-")[1]}
    assert sum(span.parent_span_id.hex() == PARENT.split("-")[2] for span in spans) == len(trace.roots)


@pytest.mark.filterwarnings("default")  # of the exporter's own code
def test_a_collector_that_refuses_is_told_of(
    collector: tuple[str, type[Collector]], capsys: pytest.CaptureFixture[str]
) -> None:
    official()
    url, kept = collector
    kept.answer = 400
    assert main(["show", "--otlp-endpoint", url, str(BUILD)]) == 1
    assert f"{url}/v1/traces did not take the spans" in capsys.readouterr().err


def test_ids_are_the_same_again() -> None:
    first, again = (Spans(built(open_any(BUILD)), ExportOptions()) for _ in range(2))
    assert [span.span for span in first] == [span.span for span in again]
