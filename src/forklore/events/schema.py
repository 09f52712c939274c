"""The JSON Schema of a trace file's lines, made from the records."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any, Final, get_args

import msgspec

from forklore.events.records import FORMAT_NAME, FORMAT_VERSION, AnyEvent, Header

FILE_NAME: Final = "trace.schema.json"


def make() -> dict[str, Any]:
    """The schema of one line: the header, or one of the event records."""
    types = (Header, *get_args(AnyEvent))
    references, definitions = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
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


def text() -> str:
    """The schema as it is shipped."""
    return json.dumps(make(), indent=2) + "\n"


def shipped() -> str:
    """The schema file in this package."""
    return resources.files("forklore.events").joinpath(FILE_NAME).read_text(encoding="utf-8")
