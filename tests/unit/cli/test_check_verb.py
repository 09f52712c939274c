"""``forklore check``: exit status, configuration, formats, and what it says of what it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forklore.cli.main import main
from forklore.findings.table import RULES

ROOT = Path(__file__).parents[3]
CLEAN = ROOT / "traces/make.forklore.jsonl"
WRONG = "WRONG"
"""A crash, and a fork beside a thread that ran on. In the recorded trace that one had been joined."""
_written: list[Path] = []


@pytest.fixture(scope="module", autouse=True)
def _wrong(tmp_path_factory: pytest.TempPathFactory) -> None:
    lines = (ROOT / "traces/python.forklore.jsonl").read_text().splitlines(keepends=True)
    (at,) = (number for number, line in enumerate(lines) if '"exit"' in line and '"task":6,' in line)
    end = {**json.loads(lines.pop(at)), "t": json.loads(lines[-1])["t"]}
    file = tmp_path_factory.mktemp("check") / "wrong.jsonl"
    file.write_text("".join([*lines[:-1], json.dumps(end) + "\n", lines[-1]]))
    _written[:] = [file]


def ended(*words: str | Path) -> int:
    try:
        return main(["check", *(str(_written[0]) if word is WRONG else str(word) for word in words)])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


@pytest.fixture
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without a configuration in it or above."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([CLEAN], 0),
        ([WRONG], 1),
        (["--fail-on", "never", WRONG], 0),
        (["--fail-on", "error", "--ignore", "crash", WRONG], 0),
        (["--fail-on", "warning", "--ignore", "crash", WRONG], 1),
        (["--ignore", "crash", "--ignore", "fork-with-threads:work.py:*", WRONG], 0),
        (["--ignore", "crash:other", WRONG], 1),
        (["--fail-on", "note", CLEAN], 0),
    ],
)
@pytest.mark.usefixtures("somewhere")
def test_the_exit_status(words: list[str | Path], status: int) -> None:
    assert ended(*words) == status


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no FILE given; try: forklore run -o"),
        (["/nowhere/t.jsonl"], "/nowhere/t.jsonl: No such file"),
        ([ROOT / "pyproject.toml"], "expected a forklore trace"),
        (["--ignore", "crush", CLEAN], "there is no rule 'crush'"),
        (["--config", "/nowhere/c.toml", CLEAN], "/nowhere/c.toml: No such file"),
        (["-o", "/nowhere/out", CLEAN], "/nowhere/out: No such file"),
        (["--format", "xml", CLEAN], "'xml'"),
    ],
)
@pytest.mark.usefixtures("somewhere")
def test_what_is_wrong_is_said(words: list[str | Path], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(*words) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_the_configuration(somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    below = somewhere / "src"
    below.mkdir()
    project = somewhere / "pyproject.toml"
    project.write_text('[tool.forklore.check]\nignore = ["crash"]\nfail-on = "error"\n')
    assert ended(WRONG) == 0
    assert "1 finding ignored as asked" in capsys.readouterr().out
    assert ended("--fail-on", "warning", WRONG) == 1, "an option is stronger"
    own = somewhere / "forklore.toml"
    own.write_text('[check]\nfail-on = "warning"\n')
    assert ended(WRONG) == 1, "forklore.toml comes first"
    own.write_text("[check]\nfail_on = 'error'\n")
    assert ended(WRONG) == 2
    assert "forklore.toml: [check]: no setting 'fail_on'; there are ignore and fail-on" in capsys.readouterr().err
    own.write_text("[check\n")
    assert ended(WRONG) == 2
    assert "forklore.toml: " in capsys.readouterr().err
    own.unlink()
    assert ended("--config", project, WRONG) == 0
    project.write_text("[tool.other]\n")
    assert ended(WRONG) == 1, "a pyproject.toml without our table is passed over"


def test_the_configuration_above(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = somewhere / "a" / "b"
    below.mkdir(parents=True)
    (somewhere / "forklore.toml").write_text('[check]\nfail-on = "never"\n')
    monkeypatch.chdir(below)
    assert ended(WRONG) == 0


@pytest.mark.usefixtures("somewhere")
def test_the_list_of_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--rules") == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [rule.id for rule in RULES]


def test_output_to_a_file(somewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("--format", "json", "-o", "found.json", WRONG) == 1
    assert capsys.readouterr().out == ""
    found = json.loads((somewhere / "found.json").read_text())
    assert [each["rule"] for each in found["findings"]] == ["crash", "fork-with-threads"]


@pytest.mark.usefixtures("somewhere")
def test_a_log_is_judged_as_far_as_it_tells(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("-v", "--columns", "200", ROOT / "traces/python.strace.txt") == 1
    told = capsys.readouterr().out
    assert "a log of strace does not tell which descriptors survived an exec." in told
    assert "jobserver-lost" in told
