"""OTLP as protobuf: one TracesData message, encoded here, for it has few fields and a trace has very many spans.

Numbers of fields: opentelemetry/proto/trace/v1/trace.proto, common/v1/common.proto and resource/v1/resource.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import IO, Final

from forklore.export.otlp.spans import NAME, Attributes, Happened, Link, Span, Spans
from forklore.export.protobuf import fixed64, message, number, string, varint
from forklore.export.table import ExportOptions
from forklore.model.tasks import Trace
from forklore.version import VERSION

_AT_ONCE: Final = 500
_SHORT: Final = 80
"""Characters of a text that others are likely to have in common with it."""

_RESOURCE_SPANS: Final = 1
_RESOURCE, _SCOPE_SPANS, _SCOPE, _SPANS = 1, 2, 1, 2
_RESOURCE_ATTRIBUTES: Final = 1
_SCOPE_NAME, _SCOPE_VERSION = 1, 2
_TRACE_ID, _SPAN_ID, _PARENT, _SPAN_NAME, _KIND, _START, _END = 1, 2, 4, 5, 6, 7, 8
_ATTRIBUTES, _EVENTS, _LINKS, _STATUS = 9, 11, 13, 15
_EVENT_TIME, _EVENT_NAME, _EVENT_ATTRIBUTES = 1, 2, 3
_LINK_ATTRIBUTES: Final = 4
_STATUS_MESSAGE, _STATUS_CODE = 2, 3
_KEY, _VALUE = 1, 2
_STRING_VALUE, _BOOL_VALUE, _INT_VALUE, _ARRAY_VALUE, _ARRAY_VALUES = 1, 2, 3, 5, 1
_INTERNAL: Final = number(_KIND, 1)
_OK, _ERROR = 1, 2


def write(trace: Trace, out: IO[bytes], options: ExportOptions) -> None:
    """Write the message. Raises CannotExportError."""
    # Messages one after the other are one message, of which repeated fields have the elements of all.
    spans = Spans(trace, options)
    resource = message(_RESOURCE, _attributes(_RESOURCE_ATTRIBUTES, spans.resource))
    scope = message(_SCOPE, string(_SCOPE_NAME, NAME) + string(_SCOPE_VERSION, VERSION))
    each = iter(spans)
    while some := b"".join([_span(span, spans.trace_id) for span in islice(each, _AT_ONCE)]):
        out.write(message(_RESOURCE_SPANS, resource + message(_SCOPE_SPANS, scope + some)))


def _span(span: Span, trace_id: bytes) -> bytes:
    trace = message(_TRACE_ID, trace_id)
    parts = [
        trace, message(_SPAN_ID, span.span), b"" if span.parent is None else message(_PARENT, span.parent),
        string(_SPAN_NAME, span.name), _INTERNAL, fixed64(_START, max(span.start, 0)), fixed64(_END, max(span.end, 0)),
        _attributes(_ATTRIBUTES, span.attributes),
    ]  # fmt: skip
    parts += map(_event, span.events)
    parts += [_link(trace, link) for link in span.links]
    if span.failed is not None:
        code = number(_STATUS_CODE, _ERROR if span.failed else _OK)
        parts.append(message(_STATUS, (string(_STATUS_MESSAGE, span.message) if span.failed else b"") + code))
    return message(_SPANS, b"".join(parts))


def _event(each: Happened) -> bytes:
    what = fixed64(_EVENT_TIME, max(each.t, 0)) + string(_EVENT_NAME, each.name)
    return message(_EVENTS, what + _attributes(_EVENT_ATTRIBUTES, each.attributes))


def _link(trace: bytes, link: Link) -> bytes:
    about = _attributes(_LINK_ATTRIBUTES, {"forklore.edge": link.edge})
    return message(_LINKS, trace + message(_SPAN_ID, link.span) + about)


def _attributes(field: int, attributes: Attributes) -> bytes:
    return b"".join([message(field, content) for content in _contents(attributes)])


def _contents(attributes: Attributes) -> Iterator[bytes]:
    for name, value in attributes.items():
        if isinstance(value, str):
            yield _told(name, value) if len(value) < _SHORT else _stated(name, value)
        elif isinstance(value, int):
            kind = _BOOL_VALUE if isinstance(value, bool) else _INT_VALUE
            yield _key(name) + message(_VALUE, number(kind, 0)[:-1] + varint(value))
        else:
            values = b"".join([message(_ARRAY_VALUES, _item(each)) for each in value])
            yield _key(name) + message(_VALUE, message(_ARRAY_VALUE, values))


@lru_cache(maxsize=256)
def _key(name: str) -> bytes:
    return string(_KEY, name)


def _stated(name: str, value: str) -> bytes:
    return _key(name) + message(_VALUE, string(_STRING_VALUE, value))


_told = lru_cache(maxsize=8192)(_stated)


def _item(word: str) -> bytes:
    return _word(word) if len(word) < _SHORT else string(_STRING_VALUE, word)


@lru_cache(maxsize=8192)
def _word(word: str) -> bytes:
    return string(_STRING_VALUE, word)
