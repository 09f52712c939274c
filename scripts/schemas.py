"""The JSON Schemas that are shipped, by file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from struct_schema import schema

from forklore.events import schema as events
from forklore.export.findings import json_findings
from forklore.export.json_tree.tree import VERSION, TreeObject


def tree() -> dict[str, Any]:
    """Of the tree as JSON."""
    return schema(
        TreeObject,
        f"forklore-tree, version {VERSION[0]}.{VERSION[1]}",
        "A trace as `forklore show --format json` prints it. Names do not change within a major version; a minor"
        " version only adds, so that a reader has to pass over keys that it does not know.",
    )


def findings() -> dict[str, Any]:
    """Of findings as JSON."""
    return schema(
        json_findings.FindingsObject,
        f"forklore-findings, version {json_findings.VERSION[0]}.{json_findings.VERSION[1]}",
        "What `forklore check --format json` prints. Names do not change within a major version; a minor version only"
        " adds, so that a reader has to pass over keys that it does not know.",
    )


SCHEMAS: Final[dict[str, Callable[[], str]]] = {
    f"src/forklore/events/{events.FILE_NAME}": events.text,
    "src/forklore/export/findings/findings.schema.json": lambda: json.dumps(findings(), indent=2) + "\n",
    "src/forklore/export/json_tree/tree.schema.json": lambda: json.dumps(tree(), indent=2) + "\n",
}
