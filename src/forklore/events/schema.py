"""The JSON Schema of a trace file's lines, made from the records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, Final, get_args

import msgspec
from msgspec import inspect

from forklore.events.records import FORMAT_NAME, FORMAT_VERSION, AnyEvent, Header

FILE_NAME: Final = "trace.schema.json"


def make() -> dict[str, Any]:
    """The schema of one line: the header, or one of the event records."""
    types = (Header, *get_args(AnyEvent))
    references, definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    for definition in definitions.values():
        if "description" in definition:  # which msgspec has had without the docstring's indentation since 0.23 only
            definition["description"] = cleandoc(definition["description"])
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"a line of a {FORMAT_NAME} file, version {FORMAT_VERSION[0]}.{FORMAT_VERSION[1]}",
        "description": "The first line is a header, each further line an event, the last one an end event.",
        "oneOf": list(references),
        "$defs": definitions,
    }
    # By the kind that a file has it as, not by the class.
    named = re.sub(r'(?<=["/])Unavailable"', 'Absent"', json.dumps(whole))
    made: dict[str, Any] = json.loads(named)
    return made


def words(event: str, field: str) -> list[str]:
    """What ``field`` of a kind of event has to choose from; its parts, where it has some. Raises KeyError."""
    kinds = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyEvent)}
    record = inspect.type_info(kinds[event])
    assert isinstance(record, inspect.StructType)
    return list(_words({each.encode_name: each.type for each in record.fields}[field]))


def _words(part: inspect.Type) -> Iterator[str]:
    match part:
        case inspect.LiteralType(values):
            yield from map(str, values)
        case inspect.EnumType(kind):
            yield from (str(member.value) for member in kind)
        case inspect.ListType(item):
            yield from _words(item)
        case inspect.UnionType(types):
            for each in types:
                yield from _words(each)
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from _words(field.type)
        case _:
            return


def text() -> str:
    """The schema as it is shipped."""
    return json.dumps(make(), indent=2) + "\n"
