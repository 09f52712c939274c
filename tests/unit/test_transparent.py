"""The pure parts of scripts/transparency: what counts as a difference, and what the documented list says of it."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transparent import packaged
from transparent.differences import Difference, compare
from transparent.documented import BadTableError, explained, rules
from transparent.observed import Form, Run, Seen, masked, views, witnessed

PAGE = Path(__file__).resolve().parents[2] / "docs" / "transparency.md"
HEAD = "| difference | where | what | alone | traced |\n|---|---|---|---|---|\n"


def run(form: Form = "text", **texts: str) -> Run:
    return Run({name: Seen(form, text) for name, text in texts.items()}, 1.0, 1.0)


def differences(bare: list[Run], traced: list[Run]) -> list[Difference]:
    return list(compare(bare, traced).differences)


def test_equal_output_is_no_difference() -> None:
    assert differences([run(stdout="a 1\nb")], [run(stdout="a 1\nb")]) == []


def test_a_changed_line_is_one_however_steady_the_runs() -> None:
    (found,) = differences([run(stdout="pid 1\nx"), run(stdout="pid 2\nx")], [run(stdout="pid 3\ny")])
    assert (found.view, found.gone, found.new, found.times) == ("without numbers", ("x",), ("y",), 1)


def test_numbers_that_differ_between_bare_runs_are_not_compared() -> None:
    assert differences([run(stdout="pid 1"), run(stdout="pid 2")], [run(stdout="pid 3")]) == []


def test_a_number_that_is_steady_in_bare_runs_is_compared() -> None:
    (found,) = differences([run(stdout="exit 1"), run(stdout="exit 1")], [run(stdout="exit 2")])
    assert found.view == "exact"


def test_lines_in_any_order_are_compared_as_counted_lines() -> None:
    bare = [run(stdout="a\nb\nb"), run(stdout="b\na\nb")]
    assert differences(bare, [run(stdout="b\nb\na")]) == []
    (found,) = differences(bare, [run(stdout="b\na")])
    assert (found.view, found.gone, found.new) == ("counted", ("b  (2 times)",), ("b",))


def test_the_same_lines_in_another_order_are_told() -> None:
    (found,) = differences([run(stdout="a\nb")], [run(stdout="b\na")])
    assert found.gone == ("the same lines, in this order or number: a | b",)
    assert found.new == ("b | a",)


def test_what_no_two_bare_runs_agree_on_is_unsteady() -> None:
    found = compare([run(stdout="a"), run(stdout="b")], [run(stdout="c")])
    assert (found.differences, found.unsteady) == ((), ("stdout",))


def test_a_thing_that_only_traced_runs_show() -> None:
    (found,) = differences([run()], [run(stderr="forklore: oh"), run()])
    assert (found.name, found.gone, found.new, found.times) == ("stderr", (), ("forklore: oh",), 1)


def test_a_program_that_was_killed_before_it_spoke_is_told_by_its_starts_alone() -> None:
    shown = {"seen sleep Umask": Seen("set", "0022"), "started": Seen("bag", "sleep")}
    (found,) = differences([Run(shown, 1, 1)], [run()])
    assert found.name == "started"


@given(st.lists(st.text("ab 12\n", max_size=20), min_size=1, max_size=4), st.sampled_from(["text", "bag", "set"]))
@settings(max_examples=50)
def test_a_run_never_differs_from_itself(texts: list[str], form: Form) -> None:
    runs = [run(form, stdout=text) for text in texts]
    assert differences(runs, runs) == []


LINES = st.lists(st.sampled_from(["a 1", "a 2", "b", "0x1f c"]), max_size=3).map("\n".join)


@given(LINES, LINES)
@settings(max_examples=100)
def test_what_is_equal_in_any_view_is_equal_in_the_last(one: str, other: str) -> None:
    mine, theirs = views(Seen("text", one)), views(Seen("text", other))
    equal = [view == their for view, their in zip(mine, theirs, strict=True)]
    assert equal[-1] or not any(equal)


@given(st.text(string.printable, max_size=60))
@settings(max_examples=50)
def test_masking_twice_is_masking_once(line: str) -> None:
    assert masked(masked(line)) == masked(line)


def test_what_the_witness_wrote() -> None:
    log = (
        "b\tsh\nx\tsh\tstatus\tUid:\t0\t0\t0\t0\nx\tsh\tstatus\tPid:\t77\nx\tsh\tstatus\tTracerPid:\t7\n"
        "x\tsh\tdirectory\t/scratch/1/a\ne\tsh\n\nw\tsh\twaitpid\texited 3\n\nb\tls\nx\tls\tlimit\tMax fi"
        "\nb\tls\nx\tls\tdescriptor\t0 flags=0\ne\tls\n"
    )
    shown = witnessed(log, "/scratch/1")
    assert {name: seen.text for name, seen in shown.items()} == {
        "seen sh Uid": "0\t0\t0\t0",
        "seen sh TracerPid": "some",
        "seen sh directory": "DIRECTORY/a",
        "seen ls descriptor": "0 flags=0",
        "waits sh": "waitpid: exited 3",
        "started": "sh\nls",
    }


@given(st.text("bxew\t\nab:", max_size=60))
@settings(max_examples=50)
def test_a_log_of_anything_is_read(log: str) -> None:
    assert "started" in witnessed(log, "/scratch")


def test_a_rule_explains_whole_lines_where_it_holds() -> None:
    listed = rules(HEAD + "| filter | seccomp | `seen * Seccomp` | `0` | `2` |\n")
    found = Difference("seen ls Seccomp", "counted", ("0  (2 times)",), ("2  (2 times)",), 1)
    assert explained(found, listed, frozenset({"seccomp", "root"})) == ("filter",)
    assert explained(found, listed, frozenset({"events", "root"})) == ()
    other = Difference("seen ls Seccomp", "exact", ("0",), ("20",), 1)
    assert explained(other, listed, frozenset({"seccomp"})) == ()
    assert explained(Difference("stdout", "exact", ("0",), ("2",), 1), listed, frozenset({"seccomp"})) == ()


def test_a_rule_of_some_workloads() -> None:
    listed = rules(HEAD + "| refused | any | `gdb*: stdout` | `a\\|b` | `c` |\n")
    found = Difference("stdout", "exact", ("a", "b"), ("c",), 1)
    assert explained(found, listed, frozenset(), "gdb attach") == ("refused",)
    assert explained(found, listed, frozenset(), "strace") == ()


@pytest.mark.parametrize("row", ["| a | any | `x` | `y` |", "| a | any | `x` | `(` | `y` |"])
def test_a_row_that_cannot_be_read_is_named(row: str) -> None:
    with pytest.raises(BadTableError, match=r"cannot read this row.*\| a \| any"):
        rules(HEAD + row + "\n")


def test_a_page_without_the_table_documents_nothing() -> None:
    with pytest.raises(BadTableError, match="nothing is documented"):
        rules("# A page\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")


def test_every_documented_difference_is_explained_on_the_page() -> None:
    page = PAGE.read_text()
    headings = {line.removeprefix("## ").strip() for line in page.splitlines() if line.startswith("## ")}
    assert {rule.name for rule in rules(page)} <= headings


def test_tests_whose_sources_are_not_unpacked_are_skipped_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packaged, "SOURCES", tmp_path)
    (tmp_path / "bash-5.2" / "doc").mkdir(parents=True)
    every = packaged.bash_tests() + packaged.perl_tests()
    assert {work.needs.partition(" (")[0] for work in every} == {
        f"no sources of bash in {tmp_path}", f"no sources of perl in {tmp_path}",
    }  # fmt: skip


def test_the_newest_of_the_unpacked_sources_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged, "SOURCES", tmp_path)
    for version in ("5.9", "5.10.15", "5.1"):
        (tmp_path / f"bash-{version}" / "tests").mkdir(parents=True)
    scripts = {work.command[2] for work in packaged.bash_tests()}
    assert [f"{tmp_path}/bash-5.10.15/tests " in script for script in scripts] == [True]
