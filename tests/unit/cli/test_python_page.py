"""The examples of docs/python-api.md do what the page shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

import forklore
from forklore.api import Task, Trace

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/python-api.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```(?:\n+```\n(.*?)```)?", PAGE, re.S)
EXAMPLES = [(code, shown) for code, shown in BLOCKS if not code.startswith("forklore.trace(argv")]


def said(code: str, names: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "docs/python-api.md", "exec"), names)
    return out.getvalue()


def test_the_examples_one_after_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(EXAMPLES) == 7
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    (tmp_path / "words.txt").write_text("fork\nclone\n")
    for folder in ("traces", "docs"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code, shown in EXAMPLES:
        out = said(code, names)
        if shown:
            assert out == shown
    assert out
    assert names["document"].startswith(b"{")


def test_the_signature_is_the_functions() -> None:
    (shown,) = [code for code, _ in BLOCKS if code.startswith("forklore.trace(argv")]
    import inspect

    signature = inspect.signature(forklore.trace)
    plain = signature.replace(
        parameters=[p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    assert re.sub(r"\s+", " ", shown.strip()).replace('"', "'") == f"forklore.trace{plain}"


@pytest.mark.parametrize("kind", [Trace, Task])
def test_the_tables_name_attributes_that_exist(kind: type) -> None:
    (table,) = re.findall(rf"^\| `{kind.__name__}` \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.M)
    named = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    missing = [name for name in named if not hasattr(kind, name)]
    assert missing == []
    assert len(named) >= 6
