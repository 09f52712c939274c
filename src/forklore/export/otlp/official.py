"""Spans by OpenTelemetry's own packages: as protobuf, and sent to a collector. Needs the extra ``otlp``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import IO, Any, Final

from forklore.export.otlp.spans import NAME, Span, Spans
from forklore.export.table import CannotExportError, ExportOptions
from forklore.model.tasks import Trace
from forklore.version import VERSION, extra

try:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
except ImportError as missing:
    raise CannotExportError(
        f"{missing.name} is not installed, {extra('otlp')} brings it; otlp-json needs none of it"
    ) from missing

_AT_ONCE: Final = 500


class SendError(CannotExportError):
    """A collector did not take the spans; the text says why."""


def write(trace: Trace, out: IO[bytes], options: ExportOptions) -> None:
    """Write one ExportTraceServiceRequest. Raises CannotExportError."""
    # Messages one after the other are one message, of which repeated fields have the elements of all.
    for some in _readable(Spans(trace, options)):
        out.write(encode_spans(some).SerializeToString())


def send(trace: Trace, endpoint: str, options: ExportOptions) -> int:
    """Send the spans to a collector's OTLP/HTTP endpoint; how many. Raises CannotExportError and SendError."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    url = endpoint if endpoint.rstrip("/").endswith("/v1/traces") else f"{endpoint.rstrip('/')}/v1/traces"
    exporter: Any = OTLPSpanExporter(endpoint=url)
    sent = 0
    try:
        for some in _readable(Spans(trace, options)):
            if exporter.export(some) is not SpanExportResult.SUCCESS:
                raise SendError(f"{url} did not take the spans ({sent} of {len(trace.tasks)} were sent before)")
            sent += len(some)
    finally:
        exporter.shutdown()
    return sent


def _readable(spans: Spans) -> Iterator[list[Any]]:
    resource = Resource(spans.resource)
    scope = InstrumentationScope(NAME, VERSION)
    trace_id = int.from_bytes(spans.trace_id, "big")

    def context(span: bytes, *, remote: bool = False) -> Any:  # noqa: ANN401 - OpenTelemetry's
        return SpanContext(trace_id, int.from_bytes(span, "big"), remote, TraceFlags(TraceFlags.SAMPLED))

    def readable(span: Span) -> Any:  # noqa: ANN401 - OpenTelemetry's
        if span.failed is None:
            status = Status(StatusCode.UNSET)
        else:
            status = Status(StatusCode.ERROR, span.message) if span.failed else Status(StatusCode.OK)
        return ReadableSpan(
            name=span.name,
            context=context(span.span),
            parent=None if span.parent is None else context(span.parent, remote=True),
            resource=resource,
            attributes=span.attributes,
            events=[Event(each.name, each.attributes, max(each.t, 0)) for each in span.events],
            links=[Link(context(link.span), {"forklore.edge": link.edge}) for link in span.links],
            kind=SpanKind.INTERNAL,
            status=status,
            start_time=max(span.start, 0),
            end_time=max(span.end, 0),
            instrumentation_scope=scope,
        )

    each = iter(spans)
    while some := [readable(span) for span in islice(each, _AT_ONCE)]:
        yield some
