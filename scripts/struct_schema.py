"""JSON Schema of Structs. msgspec makes one too, but for no union of two Structs without tags."""

from __future__ import annotations

from enum import Enum
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Struct, UnsetType
from struct_docs import ARRAYS, OBJECTS, about, is_struct, key, members, options, reachable

_PLAIN: Final = {str: "string", bool: "boolean", int: "integer", float: "number", NoneType: "null"}
_WORDS: Final = {"title": "title", "ge": "minimum", "le": "maximum", "pattern": "pattern"}


def schema(root: type[Struct], title: str, description: str) -> dict[str, Any]:
    """The schema of a Struct's object and of all that can be in it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": description,
        **_of(root),
        "$defs": {key(struct): _object(struct) for struct in reachable(root)},
    }


def _object(struct: type[Struct]) -> dict[str, Any]:
    config = struct.__struct_config__
    properties: dict[str, Any] = {config.tag_field: {"enum": [config.tag]}} if config.tag_field is not None else {}
    required = list(properties)
    for member in members(struct):
        properties[member.name] = _of(member.type)
        if member.doc:
            properties[member.name]["description"] = member.doc
        if member.required:
            required.append(member.name)
    return {"description": about(struct), "type": "object", "properties": properties, "required": required}


def _of(annotation: object) -> dict[str, Any]:
    if get_origin(annotation) is Annotated:
        base, *metas = get_args(annotation)
        words = {
            word: getattr(meta, name)
            for meta in metas
            if isinstance(meta, msgspec.Meta)
            for name, word in _WORDS.items()
            if getattr(meta, name) is not None
        }
        return {**_of(base), **words}
    several = [option for option in options(annotation) if option is not UnsetType]
    if len(several) == 1:
        return _one(several[0])
    found = [_of(option) for option in several]
    if len(found) == 2 and found[1] == {"type": "null"} and isinstance(found[0].get("type"), str):
        return {**found[0], "type": [found[0]["type"], "null"]}
    return {"anyOf": found}


def _one(annotation: object) -> dict[str, Any]:
    if isinstance(annotation, type) and annotation in _PLAIN:
        return {"type": _PLAIN[annotation]}
    if is_struct(annotation):
        return {"$ref": f"#/$defs/{key(annotation)}"}
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return {"enum": [each.value for each in annotation]}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in OBJECTS:
        return {"type": "object", "additionalProperties": _of(arguments[1])}
    if origin in ARRAYS:
        if origin is tuple and arguments[-1] is not Ellipsis:
            several = [_of(each) for each in arguments]
            return {"type": "array", "prefixItems": several, "minItems": len(several), "maxItems": len(several)}
        return {"type": "array", "items": _of(arguments[0])}
    raise TypeError(f"{annotation!r} has no JSON Schema here")
