"""What a graph's text must be, whatever trace it was made of: line by line, as the languages' grammars have it."""

from __future__ import annotations

import csv
import re

from forklore.export.tables.records import TaskRow

DOT_STRING = r'"(?:[^"\\&<>]|\\["\\n]|&(?:amp|lt|gt);)*"'
DOT_LINE = re.compile(
    rf"digraph forklore \{{|\}}|  graph \[rankdir=LR\]|  node \[shape=box fontname=\"sans-serif\"\]"
    rf"|  [a-z]+\d+ \[label={DOT_STRING}(?: (?:style|shape)=[a-z]+)?\]"
    rf"|  [a-z]+\d+ -> [a-z]+\d+(?: \[label={DOT_STRING}\])?"
)
TEXT = r"(?:[\w ./+=,@-]|#\d+;|<br>)*"
MERMAID_LINE = re.compile(
    rf"flowchart LR|    [a-z]+\d+(?:\[|\(\(?|>)\"{TEXT}\"(?:\]|\)\)?)"
    rf"|    [a-z]+\d+ -->(?:\|\"{TEXT}\"\|)? [a-z]+\d+",
    re.ASCII,
)
GANTT_LINE = re.compile(
    rf"gantt|    title {TEXT}|    dateFormat x|    axisFormat %M:%S.%L|    {TEXT}:(?:crit, )?t\d+, \d+, \d+", re.ASCII
)


def check_dot(written: bytes) -> None:
    check(written, DOT_LINE)


def check_mermaid(written: bytes) -> None:
    check(written, MERMAID_LINE)


def check_gantt(written: bytes) -> None:
    check(written, GANTT_LINE)


def check(written: bytes, line_of: re.Pattern[str]) -> None:
    text = written.decode()
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        assert line_of.fullmatch(line), line


def check_csv(written: bytes) -> None:
    text = written.decode()
    names, *rows = csv.reader(text.splitlines(keepends=True), strict=True)
    assert tuple(names) == TaskRow.__struct_fields__
    assert all(len(row) == len(names) for row in rows)
    assert text.count("\r\n") == len(rows) + 1
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row)
