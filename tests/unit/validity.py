"""JSON of ours against its schema: a document that has a key too many, or a value of another type, is not valid."""

from __future__ import annotations

from functools import cache
from typing import Any

import jsonschema
from msgspec import Struct
from schemas import tree
from struct_schema import schema

from forklore.export.findings.json_findings import FindingsObject
from forklore.export.json_environment import EnvironmentsObject
from forklore.export.json_sites import SitesObject
from forklore.export.json_times import TimeObject

_OTHERS: dict[str, type[Struct]] = {
    "forklore-sites": SitesObject, "forklore-time": TimeObject, "forklore-findings": FindingsObject,
    "forklore-environment": EnvironmentsObject,
}  # fmt: skip


@cache
def _validator(name: str) -> Any:
    made = tree() if name == "forklore-tree" else schema(_OTHERS[name], name, "")
    for definition in made["$defs"].values():
        definition["additionalProperties"] = False  # a reader has to take what a newer version adds; we write none
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


def check(document: dict[str, Any]) -> None:
    """AssertionError where it is not what the schema of its format says."""
    name = document["format"]["name"]
    assert name == "forklore-tree" or name in _OTHERS
    problems = [f"{error.json_path}: {error.message[:300]}" for error in _validator(name).iter_errors(document)]
    assert not problems, "\n".join(problems)
