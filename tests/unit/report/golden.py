"""The views of the recorded traces, as files of tests/golden/ hold them. scripts/update-golden writes them anew."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from forklore.cli.main import main as command

ROOT = Path(__file__).resolve().parents[3]
TRACES = ROOT / "traces"
GOLDEN = ROOT / "tests/golden"
PROGRAMS = ("pipeline", "python", "make", "takeover")
COLUMNS = (80, 120)
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
        yield f"{program}.json", _shown(path, "--format=json")


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
