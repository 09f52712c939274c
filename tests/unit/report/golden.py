"""The views of the recorded traces, as files of tests/golden/ hold them. scripts/update-golden writes them anew."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from forklore.cli.main import main as command

ROOT = Path(__file__).resolve().parents[3]
TRACES = ROOT / "traces"
GOLDEN = ROOT / "tests/golden"
PROGRAMS = ("pipeline", "python", "make", "takeover")
COLUMNS = (80, 120)
WIDTH = 140
OBJECTS = ("pipeline",)
"""Whose JSON is kept too, in a layout that can be read: the schema holds the form of all of them."""
PAGE = ROOT / "docs/show.md"
EXAMPLE = re.compile(r"(?<=\$ forklore show --columns 80 traces/python\.forklore\.jsonl\n)[^`]*(?=```)")
"""The tree that the page shows."""


def _shown(path: Path, *options: str) -> bytes:
    """What the command prints."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stdout(out):
        assert command(["show", "--color=never", *options, str(path)]) == 0
    out.flush()
    written = out.buffer
    assert isinstance(written, io.BytesIO)
    return written.getvalue()


def kept() -> list[Path]:
    """The files that are views of traces; those of the audits have a test of their own."""
    return [path for path in sorted(GOLDEN.iterdir()) if path.is_file() and not path.name.startswith("audit-")]


def views() -> Iterator[tuple[str, bytes]]:
    """Each file's name and what should be in it."""
    for program in PROGRAMS:
        path = TRACES / f"{program}.forklore.jsonl"
        for columns in COLUMNS:
            yield f"{program}.tree-{columns}.txt", _shown(path, f"--columns={columns}")
        yield f"{program}.log.txt", _shown(path, "--format=log")
        if program in OBJECTS:
            yield f"{program}.json", f"{laid_out(json.loads(_shown(path, '--format=json')))}\n".encode()


def laid_out(value: Any, indent: str = "") -> str:
    """JSON that can be read: lines are filled, and what has more to say than a line stands on lines of its own."""
    text = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(text) <= WIDTH or not isinstance(value, dict | list):
        return text
    keys = [f"{json.dumps(key)}: " for key in value] if isinstance(value, dict) else [""] * len(value)
    parts = value.values() if isinstance(value, dict) else value
    deeper = indent + "  "
    lines: list[str] = []
    for key, part in zip(keys, parts, strict=True):
        item = f"{key}{laid_out(part, deeper)},"
        if lines and "\n" not in item + lines[-1] and not isinstance(part, dict) and len(lines[-1]) + len(item) < WIDTH:
            lines[-1] += f" {item}"
        else:
            lines.append(f"{deeper}{item}")
    start, end = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([start, *lines])[:-1] + f"\n{indent}{end}"


def main() -> int:
    """Write the files and the example of docs/show.md, and say which have changed."""
    GOLDEN.mkdir(exist_ok=True)
    wanted = dict(views())
    for path in kept():
        if path.name not in wanted:
            print(f"removed {path.relative_to(ROOT)}")
            path.unlink()
    for name, content in wanted.items():
        path = GOLDEN / name
        if not path.exists() or path.read_bytes() != content:
            print(f"wrote {path.relative_to(ROOT)}")
            path.write_bytes(content)
    page = PAGE.read_text()
    shown = wanted["python.tree-80.txt"].decode()
    if EXAMPLE.findall(page) != [shown]:
        print(f"wrote {PAGE.relative_to(ROOT)}")
        PAGE.write_text(EXAMPLE.sub(lambda _: shown, page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
