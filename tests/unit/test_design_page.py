"""docs/design.md and CONTRIBUTING.md name the folders and files that there are, docs/quirks.md the tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "forklore"
TEST = re.compile(r"^def (test_\w+)", re.M)
DESIGN = (ROOT / "docs" / "design.md").read_text()


def test_the_house_has_every_folder_and_no_other() -> None:
    told = re.findall(r"^\| `(\w+)/` \|", DESIGN, re.M)
    assert sorted(told) == sorted(path.parent.name for path in SOURCE.glob("*/__init__.py"))


def test_the_features_are_those_that_are_told_apart() -> None:
    table = DESIGN[DESIGN.index("| | observes |") :].partition("\n\n")[0]
    told = re.findall(r"^\| `(\w+)` \|(.*)$", table, re.M)
    assert {name for name, _ in told} == {path.parent.name for path in SOURCE.glob("features/*/__init__.py")}
    for name, cells in told:
        for part in re.findall(r"`([\w/.]+)`", cells):
            assert (SOURCE / "features" / name / part).exists() or (SOURCE / part).exists(), f"{name}: {part}"


@pytest.mark.parametrize("page", ["docs/design.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`((?:[\w-]+/)+[\w.-]*)`", text))
    assert named
    missing = [name for name in sorted(named) if not any((base / name).exists() for base in (SOURCE, ROOT))]
    # Within a sentence about sources or a feature their folder is left out.
    assert not [name for name in missing if not any(SOURCE.glob(f"*/{name}")) and not any(SOURCE.glob(f"*/*/{name}"))]


def test_every_case_of_ptrace_has_tests_that_there_are() -> None:
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs/quirks.md").read_text(), re.M)
    assert [int(number) for number, _ in rows] == [*range(1, 36)]
    tests = {name for file in (ROOT / "tests").rglob("test_*.py") for name in TEST.findall(file.read_text())}
    for number, cells in rows:
        case, done, named = cells.split(" | ")
        assert case.strip()
        assert done
        found = re.findall(r"`(test_\w+)`", named)
        assert found, number
        assert tests.issuperset(found), f"{number}: {set(found) - tests}"
