"""The command line: exit statuses, help, where colour and width come from, and what bad files are told."""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from forklore import __version__
from forklore.cli import common
from forklore.cli.main import VERBS, main, parser_for
from forklore.export import text
from forklore.report.tree.tree import Limits

ROOT = Path(__file__).parents[3]
TRACE = str(ROOT / "traces/python.forklore.jsonl")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src")}


def ended(*argv: str) -> int:
    """The exit status, whichever way main gives it."""
    try:
        return main(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def visible(verb: str) -> list[argparse.Action]:
    return [action for action in parser_for(verb)._actions if action.help != argparse.SUPPRESS]


@pytest.mark.parametrize("verb", VERBS)
def test_help_lists_every_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(verb, "--help") == 0
    text = capsys.readouterr().out
    for action in visible(verb):
        for name in action.option_strings or [str(action.metavar or action.dest)]:
            assert name in text
        assert action.help, action
    assert "--complaints" not in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("number", [1 << 22, (1 << 32) + 1, 1 << 64, 10**40])
@pytest.mark.parametrize("words", [("attach",), ("inspect",), ("inspect", "--tree")])
def test_what_no_pid_can_be_is_refused(
    words: tuple[str, ...], number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(*words, str(number)) == 2
    assert f"'{number}' is no pid: Linux numbers no task from 4194304 on" in capsys.readouterr().err


INTERRUPTED_AT_IMPORT = """
import os, runpy, signal, sys

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
sys.argv[1:] = ["explain", "fork"]
runpy.run_module("forklore", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "status"),
    [("argparse", -2), ("forklore.cli.main", -2), ("forklore.cli.explain", 130), ("forklore.decode.sharing", 130)],
)
def test_an_interrupt_while_modules_are_imported_shows_no_traceback(module: str, status: int) -> None:
    code = INTERRUPTED_AT_IMPORT.format(module=module)
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, check=False, preexec_fn=_with_sigint
    )
    assert (done.returncode, done.stderr) == (status, b"")


def _with_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell may have left it ignored, and then it stays so


def test_the_top_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended() == 0
    text = capsys.readouterr().out
    for verb, what in VERBS.items():
        assert re.search(rf"^ +{verb} +{re.escape(what)}$", text, re.M)
    assert ended("--help") == 0
    assert capsys.readouterr().out == text
    assert ended("--version") == 0
    assert capsys.readouterr().out == f"forklore {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["run", "--nonsense"], 125, "--nonsense"),
        (["run", "--follow", "some", "--", "true"], 125, "'some'"),
        (["run", "--max-depth", "0", "--", "true"], 125, "'0' is not a number from 1"),
        (["run"], 125, "no program given"),
        (["run", "-o", "x", "--"], 125, "no program given"),
        (["run", "--stops=seccomp", "--follow=none", "--", "true"], 125, "ENOSYS; use --stops events or syscalls"),
        (["run", "--stack", "--no-stack", "--", "true"], 125, "--no-stack leaves unread"),
        (["run", "--stack-depth", "4", "--no-stack", "--", "true"], 125, "not allowed with"),
        (["run", "--stack-depth", "0", "--", "true"], 125, "'0' is not a number from 1"),
        (["run", "--", "no-such-program-anywhere"], 127, "not found in PATH"),
        (["run", "--", "/nowhere/x"], 127, "no such file"),
        (["run", "ls | wc"], 127, "forklore run -- sh -c 'ls | wc'"),
        (["run", "--", "cd", "/a b"], 127, """built into the shell: try: forklore run -- sh -c 'cd '"'"'/a b'"'"''"""),
        (["run", "--view", "sharing", "--", "true"], 125, "-o FILE, then forklore show FILE --view sharing"),
        (["run", "--view", "forest", "--", "true"], 125, "invalid choice: 'forest'"),
        (["run", "--", "/"], 126, "is a directory"),
        (["run", "-o", "/nowhere/t", "--", "true"], 125, "/nowhere/t"),
        (["show"], 2, "FILE"),
        (["show", "--format", "xml", "x"], 2, "'xml'"),
        (["show", "--columns", "wide", "x"], 2, "'wide' is not a number from 1"),
        (["show", "--depth", "-1", "x"], 2, "'-1' is not a number from 0"),
        (["show", "a", "b"], 2, "--view task"),
        (["show", "a", "b", "c"], 2, "c"),
        (["explain"], 2, "WHAT"),
        (["explain", "CLONE_NOTHING"], 2, "CLONE_NOTHING"),
        (["doctor", "--format", "xml"], 2, "'xml'"),
        (["trase"], 2, "no verb 'trase': there are run, attach"),
        (["rnu", "--", "true"], 2, "no verb 'rnu': did you mean run?"),
        (["sh", "-c", "exit 3"], 2, "forklore run -- sh -c 'exit 3'"),
        (["attach", "my server"], 2, "'my server' is no pid; pgrep -f 'my server' finds"),
        (["--colour"], 2, "forklore VERB comes first"),
    ],
)
def test_usage_errors(argv: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(*argv) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.startswith("forklore")
    assert "Traceback" not in captured.err
    assert len(captured.err.splitlines()) <= 2


HOSTILE = "\x1b[31m\x07\x9b2J\u202e\udcff\nforklore: all is well"
NO_TRACE, NO_LIBRARY, EMPTY, GONE, FOLDER = (f"{kind}{HOSTILE}" for kind in ("trace", "elf", "empty", "gone", "folder"))


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        *((["show", name], 1) for name in (NO_TRACE, NO_LIBRARY, EMPTY, GONE, FOLDER)),
        (["show", EMPTY, "--view", "task", HOSTILE], 1),
        (["show", EMPTY, "#1", HOSTILE], 2),
        *((["diff", *names], 2) for names in ((GONE, EMPTY), (EMPTY, NO_LIBRARY), (EMPTY, EMPTY), (FOLDER, GONE))),
        *((["audit", name], 1) for name in (NO_TRACE, NO_LIBRARY, EMPTY, GONE, FOLDER, f"{GONE}.deb")),
        *((["audit", "--static", name], 1) for name in (NO_TRACE, EMPTY, GONE, FOLDER)),
        (["audit", "--linker", GONE, NO_LIBRARY], 1),
        (["audit", "--probe", GONE], 1),
        (["audit", f"--{HOSTILE}"], 1),
        (["explain", HOSTILE], 2),
        (["explain", "--kernel", HOSTILE, "fork"], 2),
        (["inspect", HOSTILE], 2),
        (["attach", HOSTILE], 2),
        (["attach", "-o", f"{GONE}/x", "1"], 125),
        (["run", "-o", f"{GONE}/x", "--", "true"], 125),
        (["run", "--rotate", HOSTILE, "--", "true"], 125),
        (["run", "--", f"./{GONE}"], 127),
        (["run", "--", GONE], 127),
        (["run", "--", f"./{EMPTY}"], 126),
        (["run", f"--{HOSTILE}"], 127),
        ([HOSTILE], 2),
        ([f"--{HOSTILE}"], 2),
    ],
)
def test_a_name_cannot_command_the_terminal(
    argv: list[str], status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(NO_TRACE).write_text('{"format":"forklore-trace"}\n')
    Path(NO_LIBRARY).write_bytes(b"\x7fELF\x02\x01\x01" + bytes(200))
    Path(EMPTY).touch()
    Path(FOLDER).mkdir()
    monkeypatch.setattr(sys, "stderr", sys.stderr)  # run puts another in its place
    assert ended(*argv) == status
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).splitlines()
    assert all(line.isprintable() for line in lines)
    assert not any(line.startswith("forklore: all is well") for line in lines)
    assert "\\x1b[31m" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    "words", [[TRACE, "--view", "task", "#1"], ["--view", "task", "#1", TRACE], ["--view=task", TRACE, "#1"]]
)
def test_one_task_in_any_order_of_words(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("show", *words) == 0
    assert re.match(r"\d+ python3? .*  #1 ", capsys.readouterr().out)


def test_words_around_options_belong_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended("explain", "EINVAL", "--format", "text", "CLONE_THREAD") == 0
    assert "CLONE_THREAD" in capsys.readouterr().out


def test_a_usage_error_says_where_to_read_on(capsys: pytest.CaptureFixture[str]) -> None:
    ended("run", "--nonsense")
    assert capsys.readouterr().err.endswith("(see: forklore run --help)\n")


# Views


@pytest.mark.parametrize(
    ("options", "start"),
    [
        (["--stack"], "5807 python3 "),
        (["--view=sites"], "Creation sites by number\n"),
        (["--view=sites", "--format=json"], '{\n  "format": {\n    "name": "forklore-sites",'),
        (["--format=folded"], "<module> (work.py:13);"),
    ],
)
def test_views_of_who_made_what(options: list[str], start: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert ended("show", *options, TRACE) == 0
    sys.stdout.flush()
    assert capfdbinary.readouterr().out.decode().startswith(start)


# Colour and width


@pytest.mark.parametrize(
    ("choice", "environment", "terminal", "wanted"),
    [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"CLICOLOR_FORCE": "1"}, False, True),
        ("auto", {"CLICOLOR_FORCE": "0"}, False, False),
        ("auto", {"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, True, False),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, False, True),
        ("never", {"CLICOLOR_FORCE": "1"}, True, False),
    ],
)
def test_when_to_colour(
    choice: str, environment: dict[str, str], terminal: bool, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "CLICOLOR_FORCE", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    file = io.StringIO()
    monkeypatch.setattr(file, "isatty", lambda: terminal)
    assert common.wants_color(choice, file) is wanted


def test_colour_changes_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    for view in ("tree", "log"):
        assert main(["show", "--columns=100", f"--format={view}", "--color=never", TRACE]) == 0
        plain = capsys.readouterr().out
        assert main(["show", "--columns=100", f"--format={view}", "--color=always", TRACE]) == 0
        coloured = capsys.readouterr().out
        assert "\x1b[" not in plain
        assert "\x1b[" in coloured
        without = re.sub(r"\x1b\[[\d;]*m", "", coloured)
        assert [line.rstrip() for line in without.splitlines()] == plain.splitlines()


@pytest.mark.parametrize(
    ("option", "variable", "wanted"),
    [
        (None, None, 80),
        (None, "123", 123),
        (None, "10", 40),
        (None, "wide", 80),
        (None, "0", 80),
        (99, "123", 99),
        (1, None, 40),
    ],
)
def test_how_wide(option: int | None, variable: str | None, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if variable is not None:
        monkeypatch.setenv("COLUMNS", variable)
    assert common.columns(argparse.Namespace(columns=option), io.StringIO()) == wanted


def test_columns_of_the_environment_reach_the_view(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    widest = {}
    for columns in ("50", "130"):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["show", TRACE]) == 0
        widest[columns] = max(map(len, capsys.readouterr().out.splitlines()))
    assert widest["50"] <= 50 < widest["130"] <= 130


def test_the_limits_of_the_tree_come_from_the_options() -> None:
    parser = parser_for("show")

    def limits(*words: str) -> Limits:
        return text.limits(common.view_options(parser.parse_args([*words, "x"]), io.StringIO()))

    chosen = limits("--depth=3", "--siblings=7", "--columns=90")
    assert (chosen.depth, chosen.siblings, chosen.columns) == (3, 7, 90)
    everything = limits("--all", "--columns=90")
    assert (everything.siblings, everything.lines) == (None, None)
    assert everything.depth is not None
    assert min(everything.depth, everything.fold) > 1 << 20


# Files


BAD = {
    "empty": (b"", "found an empty file"),
    "text": (b"hello\nworld\n", "hello"),
    "binary": (b"\x7fELF\0\0\0", "binary data"),
    "header": (b'{"format":"forklore-trace"}\n', "a header line"),
    "other": (b'{"format":"other","version":[1,0]}\n', 'format "forklore-trace"'),
    "newer": (b'{"format":"forklore-trace","version":[99,0]}\n', "upgrade"),
    "escape": (b"\x1b[2J\x1b]0;title\x07\n", r"\x1b[2J"),
}


@pytest.mark.parametrize("view", ["tree", "log", "json"])
@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, view: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, said = BAD[name]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    assert main(["show", "--format", view, str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"forklore: {path}")
    assert "expected" in captured.err
    assert said in captured.err
    assert captured.err.removesuffix("\n").isprintable()


def test_the_name_of_a_file_is_whole_and_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ("long" * 30 + "\x1b[2J")
    path.write_bytes(b"")
    assert main(["show", str(path)]) == 1
    assert "long" * 30 + r"\x1b[2J: expected" in capsys.readouterr().err


@pytest.mark.parametrize("view", ["tree", "log", "json"])
def test_files_that_cannot_be_opened(view: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--format", view, "/nowhere/t.jsonl"]) == 1
    assert capsys.readouterr().err == "forklore: /nowhere/t.jsonl: No such file or directory\n"
    assert main(["show", "--format", view, str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"forklore: {tmp_path}: expected a trace, or a directory with what strace -ff -o PREFIX wrote; "
        "found a directory without files named PREFIX.PID\n"
    )


@pytest.mark.parametrize(("left", "said"), [([3, 12, 4], ".3 to {}.12, and"), ([2], ".2, and"), ([], "directory\n")])
def test_what_rotation_left_is_named(
    left: list[int], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "t.jsonl"
    for number in (*left, "x"):
        (tmp_path / f"t.jsonl.{number}").touch()
    assert main(["show", str(gone)]) == 1
    assert said.format(gone) in capsys.readouterr().err


def test_depth_0_shows_the_roots_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--depth=0", "--columns=80", TRACE]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("5807 python3")
    assert second.split()[:2] == ["6", "processes,"]


@pytest.mark.parametrize("view", ["tree", "log", "json"])
def test_a_trace_that_was_cut_off_is_shown_with_a_warning(
    view: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Path(TRACE).read_bytes()
    path = tmp_path / "cut.jsonl"
    path.write_bytes(whole[: len(whole) // 2])
    assert main(["show", "--format", view, str(path)]) == 0
    captured = capsys.readouterr()
    assert "python" in captured.out
    assert captured.err.startswith(f"forklore: {path}")
    assert "cut off" in captured.err


@pytest.mark.parametrize("view", ["tree", "log", "json"])
def test_an_inconsistent_event_in_the_middle(view: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = Path(TRACE).read_bytes().splitlines(keepends=True)
    lines[5] = b'{"event":"exit","t":1,"task":99,"status":0}\n'
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"".join(lines))
    assert main(["show", "--format", view, str(path)]) == 1
    assert f"{path}:6: expected a task that an earlier begin or create record names; found task 99" in (
        capsys.readouterr().err
    )


def test_standard_input_is_a_file_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "forklore", "show", "--columns=100", "-"],
        input=Path(TRACE).read_bytes(), capture_output=True, env=ENVIRONMENT, check=True,
    )  # fmt: skip
    assert done.stdout.startswith(b"5807 python3 ")
