"""The explanation as text and as JSON, and the command."""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shlex
from pathlib import Path

import pytest

from forklore.cli import explain as command
from forklore.features.explain.text import explain, to_json, to_text
from forklore.features.explain.well_known import WELL_KNOWN

DOCS = Path(__file__).parents[3] / "docs"


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(argv))


def test_fork_against_vfork(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fork", "vfork") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("fork: clone(CHILD_CLEARTID|CHILD_SETTID|SIGCHLD)")
    assert re.search(r"^memory +copied +shared$", out, re.M)
    assert re.search(r"^restartable sequences +inherited +reset$", out, re.M)
    assert "descriptor table" in out.split("copied in all:")[1]


def test_lines_fit_a_terminal() -> None:
    asked: list[list[str]] = [[name] for name in WELL_KNOWN]
    asked += [list(WELL_KNOWN), ["0xffffffff"], ["EINVAL"], ["EINVAL", "0xffffffffffffffff"], ["unshare:newuser"]]
    for what, verbose in itertools.product(asked, (False, True)):
        text = to_text(explain(*what), verbose=verbose)
        assert text.endswith("\n")
        assert [line for line in text.splitlines() if len(line) > 80] == [], what
        assert not re.search("[\u200b\t\x1b]| $", text, re.M)


def test_a_refused_call_shows_why_and_not_what_it_would_make() -> None:
    text = to_text(explain("CLONE_SIGHAND"))
    assert "refused with EINVAL:" in text
    assert "rule sighand-without-vm, kernel/fork.c: copy_process" in text
    assert "copied" not in text.lower()
    assert "\n  copied  memory; stack" in to_text(explain("SIGCHLD"))
    assert "Copied" in to_text(explain("SIGCHLD"), verbose=True)
    assert "copied" not in to_text(explain("CLONE_SIGHAND"), verbose=True).lower()


def test_an_answer_begins_with_what_was_asked_and_the_rules_come_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("0x1200011") == 0
    short = capsys.readouterr().out
    assert len(short.splitlines()) < 20
    for flag in ("CLONE_CHILD_CLEARTID", "CLONE_CHILD_SETTID", "SIGCHLD"):
        assert f"\n  {flag}: " in short
    assert run("-v", "0x1200011") == 0
    whole = capsys.readouterr().out
    assert len(whole.splitlines()) > 80
    assert "blocked signals: the same signals are blocked" in whole
    assert "\nThe same bits elsewhere\n" in whole


def test_what_the_errors_look_like(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("CLONE_TREAD") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("forklore: explain: 'CLONE_TREAD' is no flag")
    with pytest.raises(SystemExit) as caught:
        run("--kernel", "new", "VM")
    assert caught.value.code == 2


def test_json_has_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "explain.md").read_text()
    assert run("--format", "json", "0x1200011") == 0
    call = json.loads(capsys.readouterr().out)
    assert call["kind"] == "call"
    assert call["text"] == "clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD)"
    documents = [call, to_json(explain("fork", "vfork")), to_json(explain("EBADF"))]
    documents += [to_json(explain("CLONE_THREAD", "EINVAL")), to_json(explain("forkx:waitpid")), call["creation"]]
    for document in documents:
        for key in document:
            assert f"`{key}`" in page, key


def test_the_examples_of_the_page_are_what_is_printed() -> None:
    page = (DOCS / "explain.md").read_text()
    examples = re.findall(r"```console\n\$ forklore explain ([^\n]*)\n(.*?)```", page, re.S)
    assert len(examples) >= 3
    for arguments, shown in examples:
        what = shlex.split(arguments)
        verbose = "-v" in what
        assert to_text(explain(*(word for word in what if word != "-v")), verbose=verbose) == shown, arguments
