"""The columns of the tables, with types that every database has."""

from __future__ import annotations

from typing import Literal, get_args, get_origin

import msgspec
from msgspec import Struct

ColumnType = Literal["string", "integer", "boolean", "strings", "instant"]
"""``integer``: 64 bits; ``strings``: a list; ``instant``: microseconds since 1970."""

_INSTANTS = frozenset({"started"})


class Column(Struct, frozen=True):
    """A column of a table."""

    name: str
    type: ColumnType
    nullable: bool


def columns(table: type[Struct]) -> list[Column]:
    """The columns of a table, in their order."""
    return [_column(field) for field in msgspec.structs.fields(table)]


def _column(field: msgspec.structs.FieldInfo) -> Column:
    options = get_args(field.type) if type(None) in get_args(field.type) else (field.type,)
    (kind,) = (each for each in options if each is not type(None))
    return Column(field.name, _type(field.name, kind), len(options) > 1)


def _type(name: str, kind: object) -> ColumnType:
    if name in _INSTANTS:
        return "instant"
    if get_origin(kind) is Literal or kind is str:
        return "string"
    if get_origin(kind) is list:
        return "strings"
    return "boolean" if kind is bool else "integer"
