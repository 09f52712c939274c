"""``show --view environment``, as text and as JSON."""

from __future__ import annotations

import io
import json
from typing import Any

from happenings import Story

from forklore.export import json_environment
from forklore.export.table import ExportOptions
from forklore.report.environments import environment_lines
from forklore.report.styled_lines import plain


def story() -> Story:
    made = Story()
    root = made.begin(100)
    made.exec(root, "/bin/sh", envp=["A=1", "B=2"])
    for index in range(2):
        made.exec(made.clone(root, 101 + index), "/bin/x", envp=["A=\x1b2", "C=3"] if index else ["A=1", "B=2"])
    return made.end()


def test_what_changed_at_each_exec() -> None:
    assert list(map(plain, environment_lines(story().trace(), 80))) == [
        "100 /bin/sh",
        "   2 variables; no environment before it is known",
        "102 /bin/x",
        r"   A=1 → \x1b2",
        "   - B",
        "   + C=3",
        "1 exec with the environment of the program before.",
    ]


def test_without_env_it_says_how_to_get_them() -> None:
    made = Story()
    made.begin(100)
    assert "run --env" in plain(environment_lines(made.trace(), None)[0])


def test_the_same_as_json() -> None:
    out = io.BytesIO()
    json_environment.write(story().trace(), out, ExportOptions(view="environment"))
    found: list[dict[str, Any]] = json.loads(out.getvalue())["execs"]
    assert [each["task"] for each in found] == [1, 2, 3]
    assert found[2]["changed"] == [
        {"name": "A", "before": "1", "now": "\x1b2"},
        {"name": "B", "before": "2", "now": None},
        {"name": "C", "before": None, "now": "3"},
    ]
    assert (found[0]["known_before"], found[1]["known_before"]) == (False, True)
