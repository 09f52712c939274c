"""Regular expressions that are compiled when they are first used."""

import importlib
import re
from pathlib import Path

import pytest

import forklore
from forklore.abi.patterns import Later, regex


def test_it_answers_as_a_compiled_pattern_does() -> None:
    word = regex(rb"([a-z]+)-(\d+)", re.IGNORECASE)
    compiled = re.compile(rb"([a-z]+)-(\d+)", re.IGNORECASE)
    for text in (b"AB-12", b"ab", b"x ab-1"):
        for method in ("match", "fullmatch", "search"):
            found, expected = getattr(word, method)(text), getattr(compiled, method)(text)
            assert (found is None) is (expected is None), (method, text)
            assert found is None or found.groups() == expected.groups()
    assert word.sub(rb"\2", b"a-1 b-2") == b"1 2"
    assert (word.pattern, word.flags, word.groups) == (compiled.pattern, compiled.flags, 2)


def test_it_is_compiled_by_the_first_question() -> None:
    wrong = regex("(")
    with pytest.raises(re.error, match="unterminated"):
        wrong.match("")


def test_all_that_forklore_has_can_be_compiled() -> None:
    root = Path(forklore.__file__).parent
    found = 0
    for file in sorted(root.rglob("*.py")):
        if "abi.patterns import regex" not in file.read_text():
            continue
        module = importlib.import_module(".".join(("forklore", *file.relative_to(root).with_suffix("").parts)))
        for name, value in vars(module).items():
            for each in value if isinstance(value, tuple) else [value]:
                for part in each if isinstance(each, tuple) else [each]:
                    if isinstance(part, Later):
                        assert part.pattern, (module.__name__, name)
                        found += 1
    assert found > 50
