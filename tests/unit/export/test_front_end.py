"""What is built from front-end/ is current, and says times as the terminal does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from forklore.report.words import words

ROOT = Path(__file__).parents[3]
FRONT_END = ROOT / "front-end"
ESBUILD = FRONT_END / "node_modules/.bin/esbuild"
BUILT = ROOT / "src/forklore/export/page"
PAGES = ("page", "comparison")


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node on this machine (package: nodejs): only who changes front-end/ needs it")
    if not ESBUILD.exists():
        pytest.skip("front-end/node_modules is not there: scripts/generate-front-end installs it")
    return found


def test_the_script_can_stand_in_a_page() -> None:
    endings = {"js": "</script", "css": "</style"}
    for name, ending in ((f"_generated_{page}.{of}", end) for page in PAGES for of, end in endings.items()):
        text = (BUILT / name).read_text()
        assert ending not in text.lower()
        assert "<!--" not in text
        assert "\r" not in text


@pytest.mark.parametrize("page", PAGES)
def test_it_makes_no_markup_and_runs_no_text(page: str) -> None:
    text = (BUILT / f"_generated_{page}.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "setTimeout("):
        assert word not in text
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "import(", "http:", "https:"):
        assert word not in text


def test_it_is_current(node: str) -> None:
    done = subprocess.run([ROOT / "scripts/generate-front-end", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_times_and_amounts_are_those_of_the_terminal(node: str, tmp_path: Path) -> None:
    values = sorted({int(1.37**power) + more for power in range(100) for more in (-1, 0, 1, 3) if 1.37**power < 1e13})
    values = [value for value in values if value >= 0]
    entry = tmp_path / "entry.ts"
    entry.write_text(
        f'import {{ size, span }} from "{FRONT_END}/src/format.ts";\n'
        f"console.log(JSON.stringify({values}.map((value) => [span(value), size(value)])));\n"
    )
    bundle = tmp_path / "entry.mjs"
    subprocess.run([ESBUILD, entry, "--bundle", "--format=esm", f"--outfile={bundle}", "--log-level=error"], check=True)
    told = json.loads(subprocess.run([node, bundle], capture_output=True, text=True, check=True).stdout)
    for value, (time, amount) in zip(values, told, strict=True):
        assert time == words.span(value * 1000), value
        if value:
            assert amount == words.size(value * 1024), value
