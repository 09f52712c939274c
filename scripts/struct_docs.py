"""What the Structs of a JSON form say of themselves: their members, with types and docstrings."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeGuard, Union, get_args, get_origin

import msgspec
from msgspec import UnsetType

_REFERENCE: Final = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
_ASIDE: Final = re.compile(r" ?\((?:see )?:\w+:`[^`]*`\)")
ARRAYS: Final = (list, tuple, Sequence)
"""Origins of types that are arrays in JSON."""
OBJECTS: Final = (dict, Mapping)
"""Origins of types that are objects with any keys."""
_EMPTY: Final = (list, dict, set, tuple)


class Member(NamedTuple):
    """A key of a JSON object."""

    name: str
    type: Any
    """The annotation."""
    doc: str
    """One line, with Markdown's backticks; empty for none."""
    required: bool
    """It is always there."""


def members(struct: type[msgspec.Struct]) -> list[Member]:
    """The keys of a Struct's object in their order; that of its tag is not among them."""
    docs = _docs(struct)
    omits = struct.__struct_config__.omit_defaults
    return [
        Member(field.encode_name, field.type, docs.get(field.name, ""), not _left_out(field, omits=omits))
        for field in msgspec.structs.fields(struct)
    ]


def _left_out(field: msgspec.structs.FieldInfo, *, omits: bool) -> bool:
    if UnsetType in options(field.type):
        return True
    given = field.default is not msgspec.NODEFAULT or field.default_factory in _EMPTY
    return omits and given


@cache
def _docs(struct: type[msgspec.Struct]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if base in (object, msgspec.Struct) or not issubclass(base, msgspec.Struct):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(body, ast.ClassDef)
        for field, after in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match after:
                    case ast.Expr(ast.Constant(str(text))):
                        found[field.target.id] = markdown(text)
    return found


def about(struct: type[msgspec.Struct]) -> str:
    """The docstring of a Struct's class, as one line."""
    return markdown(struct.__doc__ or "")


def markdown(docstring: str) -> str:
    """A docstring in one line of Markdown."""
    text = _REFERENCE.sub(r"`\1`", _ASIDE.sub("", " ".join(docstring.split())))
    return text.replace("``", "`")


def options(annotation: object) -> list[object]:
    """The members of a union, those of unions within it too; what is no union is the only one."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [each for part in get_args(annotation) for each in options(part)]
    if origin is Annotated and title(annotation) is None and len(inner := options(get_args(annotation)[0])) > 1:
        return inner
    return [annotation]


def title(annotation: object) -> str | None:
    """What an annotation calls itself."""
    metas = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((meta.title for meta in metas if isinstance(meta, msgspec.Meta) and meta.title), None)


def words(annotation: object) -> list[str]:
    """The strings that a type is limited to; none for any other."""
    found: list[str] = []
    for option in options(annotation):
        if get_origin(option) is Literal:
            found += [word for word in get_args(option) if isinstance(word, str)]
        elif isinstance(option, type) and issubclass(option, StrEnum):
            found += [each.value for each in option]
    return found


def is_struct(annotation: object) -> TypeGuard[type[msgspec.Struct]]:
    """Whether it is a Struct's class."""
    return isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)


def within(annotation: object) -> Iterator[type[msgspec.Struct]]:
    """The Structs that a value of this type is, or has in it."""
    for option in options(annotation):
        if is_struct(option):
            yield option
        elif get_origin(option) is not None:
            for part in get_args(option):
                if not isinstance(part, msgspec.Meta):
                    yield from within(part)


def reachable(root: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """A Struct and all that its object can have in it, those that are named first first."""
    found = [root]
    for struct in found:
        for member in members(struct):
            found += [each for each in dict.fromkeys(within(member.type)) if each not in found]
    return found


def name(struct: type[msgspec.Struct]) -> str:
    """What the object of a Struct is called: ``failed exec``; by its ``kind``, where it has one."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key(struct)).lower()


def key(struct: type[msgspec.Struct]) -> str:
    """The same in one word: ``FailedExec``."""
    config = struct.__struct_config__
    return str(config.tag).title() if config.tag_field == "kind" else struct.__name__.removesuffix("Object")


