"""The pages about verbs name the options that the verbs have, and no others."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from forklore.cli.main import VERBS, parsed, parser_for

DOCS = Path(__file__).parents[3] / "docs"


def options(verb: str) -> set[str]:
    actions = [action for action in parser_for(verb)._actions if action.help != argparse.SUPPRESS]
    return {name for action in actions for name in action.option_strings} - {"-h", "--help"}


def in_table(page: str) -> set[str]:
    """Options of the first column of the page's option table."""
    (table,) = re.findall(r"^\| option \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.M)
    cells = [re.split(r"(?<!\\)\|", line)[1] for line in table.splitlines()]
    return {name for cell in cells for name in re.findall(r"`(--?[a-z][a-z-]*)", cell)}


@pytest.mark.parametrize("verb", ["run", "show"])
def test_the_table_has_every_option(verb: str) -> None:
    assert in_table((DOCS / f"{verb}.md").read_text()) == options(verb)


@pytest.mark.parametrize("verb", ["run", "show"])
def test_the_table_has_every_choice(verb: str) -> None:
    page = (DOCS / f"{verb}.md").read_text().replace("\\|", "|")
    for action in parser_for(verb)._actions:
        for choice in action.choices or ():
            assert re.search(rf"`{action.option_strings[-1]} [\w|]*\b{choice}\b", page), (action.option_strings, choice)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_that_the_index_names(verb: str) -> None:
    assert (DOCS / f"{verb}.md").exists()
    assert f"({verb}.md)" in (DOCS / "index.md").read_text()


def test_the_index_has_every_page_and_no_other() -> None:
    named = set(re.findall(r"\(([\w-]+\.md)\)", (DOCS / "index.md").read_text()))
    assert named == {path.name for path in DOCS.glob("*.md")} - {"index.md"}


def test_links_between_pages_lead_somewhere() -> None:
    for path in DOCS.glob("*.md"):
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([\w-]+))?\)", path.read_text()):
            other = path.parent / target if target else path
            assert other.exists(), f"{path.name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", other.read_text(), re.M)
                slugs = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
                assert anchor in slugs, f"{path.name}: {target}#{anchor}"


PAGES = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))]
PLACEHOLDERS = {"PID…": "1", "CMD…": "true", "WHAT…": "EINVAL", "ID": "1"}
OPTIONAL, SHELL = re.compile(r"\[[^\]]*\]"), re.compile(r"\$\([^)]*\)|\$\$")


def commands(page: str) -> list[list[str]]:
    """The words of every forklore command in the page's code blocks, its verb first."""
    found = []
    for block in re.findall(r"^```\w*\n(.*?)^```", page, re.M | re.S):
        for line in re.findall(r"^ *(?:[$#] )?forklore (.*)", block, re.M):
            given = shlex.split(SHELL.sub("1", OPTIONAL.sub("", line)), comments=True)
            ends = [given.index(word) for word in ("|", ">", "2>", "&&", "&") if word in given]
            words = [PLACEHOLDERS.get(word, word) for word in given[: min(ends, default=None)]]
            if words and words[0] in VERBS:
                found.append(words)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_on_a_page_can_be_given(path: Path) -> None:
    for verb, *words in commands(path.read_text()):
        parsed(verb, [word.rstrip(";") for word in words])


def test_there_are_commands_on_the_pages() -> None:
    assert {words[0] for path in PAGES for words in commands(path.read_text())} == set(VERBS)
