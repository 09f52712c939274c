"""docs/json.md from the records of the tree as JSON."""

from __future__ import annotations

from enum import StrEnum
from types import NoneType
from typing import Annotated, Final, Literal, get_args, get_origin

from msgspec import Struct, UnsetType
from struct_docs import ARRAYS, OBJECTS, Member, about, is_struct, members, name, options, reachable, title

from forklore.events.parts import Opaque
from forklore.export.json_tree.tree import TreeObject

_HEAD: Final = """\
# The tree as JSON

Generated from the records in the code by `scripts/generate-pages`; do not edit.

`forklore show --format json FILE` prints a trace as one JSON object, for programs: `jq`, scripts, other reports. It
holds what the model knows: raw words beside their names, and every task with its edges. Names in it do not change
within a major version of `format`; a minor version only adds.
[`tree.schema.json`](../src/forklore/export/json_tree/tree.schema.json) is its JSON Schema.

```console
$ forklore show --format json trace.jsonl | jq -r '.tasks[] | select(.kind == "process") | "\\(.tid) \\(.comm)"'
```

The trace file itself, which is what was seen and not what it means, is [another form](trace-format.md).

Times are nanoseconds since the start of the trace, null where a log has no time stamps. A **word** is a number of up
to 64 bits; one of more than 53, which many readers of JSON round, is a string in hexadecimal: `"0x20000000000000"`. Of
other numbers only times are that large: `clock.wall` always, `clock.start` where the machine has run for more than 104
days, and all in a trace that lasts so long. A reader that rounds has the one to 256 ns and the others to 2 or 4.
The rest of forklore's JSON (`--view sites`, `diff`, `audit`, `inspect`, `explain`, `doctor`) has no number of more than
53 bits. **Text** is a JSON string;
bytes that are not valid UTF-8 are `{"kind": "opaque", "hex": "…"}`. **Task numbers** are forklore's own, from 1; pids
are attributes, because the kernel uses them again. Objects have all of their keys unless their section says otherwise.
"""
_PLAIN: Final = {str: "string", bool: "boolean", int: "number", NoneType: "null"}


def page() -> str:
    """The whole page, in Markdown."""
    return _HEAD + "".join(_section(struct) for struct in reachable(TreeObject) if struct is not Opaque)


def _heading(struct: type[Struct]) -> str:
    return "The object" if struct is TreeObject else name(struct)


def _section(struct: type[Struct]) -> str:
    config = struct.__struct_config__
    said = about(struct) + (" Keys that are not known are left out." if config.omit_defaults else "")
    rows = [(config.tag_field, "string", f"`{config.tag}`")] if config.tag_field is not None else []
    rows += [(member.name, _type(_told(member)), member.doc) for member in members(struct)]
    lines = [f"| `{key}` | {kind} | {doc} |\n" for key, kind, doc in rows]
    return f"\n## {_heading(struct)}\n\n{said}\n\n| key | type | meaning |\n|---|---|---|\n" + "".join(lines)


def _told(member: Member) -> list[object]:
    # A key that may be left out is so where it would be null, but for those that only one form of an object has.
    parts = options(member.type)
    left_out = UnsetType if UnsetType in parts else None if member.required else NoneType
    return [part for part in parts if part is not left_out]


def _type(parts: list[object]) -> str:
    words = list(dict.fromkeys("text" if part is Opaque else _word(part) for part in parts))
    if "text" in words:  # the string is one form of it
        words = ["text", *(word for word in words if word not in ("text", "string"))]
    within = any(word.startswith("array") for word in words)
    return ", ".join(words[:-1]) + (", or " if within else " or ") + words[-1] if len(words) > 1 else words[0]


def _word(annotation: object) -> str:
    if (called := title(annotation)) is not None:
        return called
    if get_origin(annotation) is Annotated:
        return _type(options(get_args(annotation)[0]))
    if is_struct(annotation):
        return f"[{_heading(annotation)}](#{_heading(annotation).replace(' ', '-')})"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _PLAIN[type(arguments[0])]
    if origin in OBJECTS:
        return f"object of {_several(arguments[1])}"
    if origin in ARRAYS:
        return f"array of {_several(arguments[0])}"
    assert isinstance(annotation, type)
    return _PLAIN[str if issubclass(annotation, StrEnum) else annotation]


def _several(annotation: object) -> str:
    words = _type(options(annotation))
    if " or " in words:
        return f"({words})"
    return words if words == "text" or words.startswith("[") else f"{words}s"
