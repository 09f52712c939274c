"""OTLP's JSON form, a line for some hundred spans, as the collector's file receiver takes it.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, Final

import msgspec

from forklore.export.otlp.spans import NAME, Attributes, Span, Spans, Value
from forklore.export.table import ExportOptions
from forklore.model.tasks import Trace
from forklore.version import VERSION

_A_LINE: Final = 500


def write(trace: Trace, out: IO[bytes], options: ExportOptions) -> None:
    """Write the lines. Raises CannotExportError."""
    spans = Spans(trace, options)
    out.writelines(_lines(spans))


def _lines(spans: Spans) -> Iterator[bytes]:
    encode = msgspec.json.Encoder().encode
    resource = {"attributes": _attributes(spans.resource)}
    scope = {"name": NAME, "version": VERSION}
    trace_id = spans.trace_id.hex()
    each = iter(spans)
    while some := [_span(span, trace_id) for span in islice(each, _A_LINE)]:
        scoped = [{"scope": scope, "spans": some}]
        yield encode({"resourceSpans": [{"resource": resource, "scopeSpans": scoped}]}) + b"\n"


def _span(span: Span, trace_id: str) -> dict[str, Any]:
    told: dict[str, Any] = {
        "traceId": trace_id,
        "spanId": span.span.hex(),
        "name": span.name,
        "kind": 1,  # SPAN_KIND_INTERNAL
        "startTimeUnixNano": str(max(span.start, 0)),
        "endTimeUnixNano": str(max(span.end, 0)),
        "attributes": _attributes(span.attributes),
    }
    if span.parent is not None:
        told["parentSpanId"] = span.parent.hex()
    if span.events:
        told["events"] = [
            {"name": each.name, "timeUnixNano": str(max(each.t, 0)), "attributes": _attributes(each.attributes)}
            for each in span.events
        ]
    if span.links:
        told["links"] = [
            {"traceId": trace_id, "spanId": link.span.hex(), "attributes": _attributes({"forklore.edge": link.edge})}
            for link in span.links
        ]
    if span.failed is not None:
        told["status"] = {"code": 2, "message": span.message} if span.failed else {"code": 1}
    return told


def _attributes(attributes: Attributes) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in attributes.items()]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, str):
        return {"stringValue": value}
    return {"arrayValue": {"values": [{"stringValue": each} for each in value]}}
