"""OTLP's JSON form, a line for some hundred spans, as the collector's file receiver takes it.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import IO, Final

import msgspec

from forklore.export.otlp.spans import NAME, Attributes, Happened, Span, Spans
from forklore.export.table import ExportOptions
from forklore.model.tasks import Trace
from forklore.version import VERSION

_A_LINE: Final = 500
_SHORT: Final = 80
"""Characters of a text that others are likely to have in common with it."""
_encode = msgspec.json.Encoder().encode


def write(trace: Trace, out: IO[bytes], options: ExportOptions) -> None:
    """Write the lines. Raises CannotExportError."""
    spans = Spans(trace, options)
    out.writelines(_lines(spans))


def _lines(spans: Spans) -> Iterator[bytes]:
    resource = _attributes(spans.resource)
    scope = _encode({"name": NAME, "version": VERSION})
    head = b'{"resourceSpans":[{"resource":{"attributes":' + resource + b'},"scopeSpans":[{"scope":' + scope
    head += b',"spans":['
    trace_id = spans.trace_id.hex()
    each = iter(spans)
    while some := [_span(span, trace_id) for span in islice(each, _A_LINE)]:
        yield head + b",".join(some) + b"]}]}]}\n"


def _span(span: Span, trace_id: str) -> bytes:
    # Written, not made of dicts: most of a span is what many have in common, or numbers.
    parent = "" if span.parent is None else f',"parentSpanId":"{span.parent.hex()}"'
    start, end = max(span.start, 0), max(span.end, 0)
    head = f'{{"traceId":"{trace_id}","spanId":"{span.span.hex()}"{parent},"kind":1,"startTimeUnixNano":"{start}",'
    parts = [  # kind 1: SPAN_KIND_INTERNAL
        head.encode(), b'"endTimeUnixNano":"%d","name":' % end, _text(span.name), b',"attributes":',
        _attributes(span.attributes),
    ]  # fmt: skip
    if span.events:
        parts += (b',"events":[', b",".join(map(_event, span.events)), b"]")
    if span.links:
        links = (
            f'{{"traceId":"{trace_id}","spanId":"{link.span.hex()}","attributes":'.encode()
            + _attributes({"forklore.edge": link.edge})
            + b"}"
            for link in span.links
        )
        parts += (b',"links":[', b",".join(links), b"]")
    if span.failed:
        parts += (b',"status":{"code":2,"message":', _text(span.message), b"}")
    elif span.failed is not None:
        parts.append(b',"status":{"code":1}')
    parts.append(b"}")
    return b"".join(parts)


def _event(each: Happened) -> bytes:
    when = b',"timeUnixNano":"%d","attributes":' % max(each.t, 0)
    return b'{"name":' + _text(each.name) + when + _attributes(each.attributes) + b"}"


def _attributes(attributes: Attributes) -> bytes:
    found = []
    for name, value in attributes.items():
        if isinstance(value, str):
            found.append(_told(name, value) if len(value) < _SHORT else _stated(name, value))
        elif isinstance(value, bool):
            found.append(b'{"key":%b,"value":{"boolValue":%b}}' % (_text(name), _encode(value)))
        elif isinstance(value, int):
            found.append(b'%b%d"}}' % (_number(name), value))
        else:
            values = b",".join([_item(each) for each in value])
            found.append(b'{"key":%b,"value":{"arrayValue":{"values":[%b]}}}' % (_text(name), values))
    return b"[" + b",".join(found) + b"]"


def _stated(name: str, value: str) -> bytes:
    return b'{"key":%b,"value":{"stringValue":%b}}' % (_text(name), _encode(value))


_told = lru_cache(maxsize=8192)(_stated)


@lru_cache(maxsize=256)
def _number(name: str) -> bytes:
    return b'{"key":%b,"value":{"intValue":"' % _text(name)


def _item(word: str) -> bytes:
    return _word(word) if len(word) < _SHORT else _new_word(word)


def _new_word(word: str) -> bytes:
    return b'{"stringValue":%b}' % _encode(word)


_word = lru_cache(maxsize=8192)(_new_word)


def _text(text: str) -> bytes:
    return _short_text(text) if len(text) < _SHORT else _encode(text)


@lru_cache(maxsize=8192)
def _short_text(text: str) -> bytes:
    return _encode(text)
