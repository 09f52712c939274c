"""Command lines in the tree: quoted, cut, told apart from siblings, and several as one."""

from __future__ import annotations

import shlex

import pytest
from happenings import Story, task
from hypothesis import given
from hypothesis import strategies as st

from forklore.events import records as ev
from forklore.report.styled_lines import plain, width_of
from forklore.report.tree.commands import command_line, common_text, pattern, together, told_apart
from forklore.report.tree.fold import _numberless
from forklore.report.tree.tree import Limits, tree_lines
from forklore.report.words import words


def ran(*commands: list[str] | list[bytes]) -> tuple[Story, list[int]]:
    """A root with a child for each command."""
    story = Story()
    root = story.begin(100)
    numbers = []
    for tid, command in enumerate(commands, 101):
        child = story.clone(root, tid)
        words = [ev.text(word) if isinstance(word, bytes) else word for word in command]
        story.exec(child, words[0], argv=words)
        numbers.append(child)
    for child in numbers:
        story.exit(child)
    return story.end(), numbers


def common(*commands: list[str], room: int | None = None) -> str:
    story, numbers = ran(*commands)
    trace = story.trace()
    return common_text([task(trace, number) for number in numbers], room)


def patterns(*commands: list[str]) -> list[object]:
    story, numbers = ran(*commands)
    trace = story.trace()
    return [pattern(task(trace, number)) for number in numbers]


def compiled(name: str) -> list[str]:
    return ["/usr/bin/cc", "-O2", "-c", "-o", f"{name}.o", f"{name}.c"]


def test_words_are_quoted_as_a_shell_takes_them() -> None:
    assert common(["/bin/sh", "-c", "ls | wc"]) == "sh -c 'ls | wc'"
    assert common(["/bin/echo", "", "a b", "it's"]) == """echo '' 'a b' 'it'"'"'s'"""
    assert common(["/bin/echo", "\x1b[31m"]) == r"echo '\x1b[31m'"


@pytest.mark.parametrize(
    ("room", "text"),
    [
        (80, "cc -o prog f0.o f1.o f2.o f3.o"),
        (29, "cc -o prog f0.o … (6 args)"),
        (20, "cc -o … (6 args)"),
    ],
)
def test_a_long_one_ends_with_the_number_of_its_arguments(room: int, text: str) -> None:
    shown = common(["/usr/bin/cc", "-o", "prog", "f0.o", "f1.o", "f2.o", "f3.o"], room=room)
    assert shown == text
    assert width_of(shown) <= room


def test_an_argument_that_is_cut_is_marked() -> None:
    assert common(["/bin/echo", "x" * 5000]).endswith("…")
    assert common(["/bin/echo", *["x"] * 500]).endswith("x … (500 args)")


def test_an_argument_that_the_trace_has_not_whole_is_marked() -> None:
    story = Story()
    root = story.begin(100)
    child = story.clone(root, 101)
    story.exec(child, "/bin/echo", argv=["echo", "ab", "cd"], cut=[1])
    (image,) = task(story.trace(), child).images
    assert image.cut == {1}
    assert isinstance(image.argv, tuple)
    assert words.command(image.argv, image.cut) == "echo ab… cd"


def test_threads_with_a_hash_in_their_name_are_one_pool() -> None:
    story = Story()
    root = story.begin(100)
    for tid, name in enumerate(("opt 0eerwyybnz4", "opt 6s5oionx6pn", "opt 82hp25arqn8", "main"), 101):
        story.tell(ev.Name(t=story.t, task=story.thread(root, tid), comm=name, how="prctl"))
    rows = [plain(line) for line in tree_lines(story.trace(), Limits(columns=80))]
    assert any('3 × thread 101…103 "opt *"' in row for row in rows)
    assert any('thread 104 "main"' in row for row in rows)


def test_files_and_numbers_may_differ_and_words_may_not() -> None:
    assert len(set(patterns(compiled("a"), compiled("main"), compiled("dir/f7")))) == 1
    assert len(set(patterns(["git", "gc"], ["git", "prune"], ["git", "reflog"]))) == 3
    assert len(set(patterns(["cc", "-O2", "a.c"], ["cc", "-O0", "a.c"]))) == 2
    assert len(set(patterns(["cc", "a.c"], ["c++", "a.c"]))) == 2
    assert len(set(patterns(["worker", "--id", "1"], ["worker", "--id", "22"]))) == 1
    assert len(set(patterns(["ar", "r", "a.o"], ["ar", "r", "a.o", "b.o"]))) == 1


def test_one_command_line_for_several() -> None:
    assert common(compiled("f1"), compiled("f22"), compiled("f3")) == "cc -O2 -c -o f*.o f*.c"
    assert common(compiled("parse"), compiled("main")) == "cc -O2 -c -o *.o *.c"
    shell = [["sh", "-c", f"echo CC f{n}.c; cc -c f{n}.c"] for n in range(3)]
    assert common(*shell) == "sh -c 'echo CC f*.c; cc -c f*.c'"
    assert common(["ar", "r", "x.a", "a.o"], ["ar", "r", "y.a", "b.o", "c.o"]) == "ar r *.a *.o …"


def test_siblings_are_told_apart_where_there_is_no_room_for_all() -> None:
    flags = ["-Wall", "-Wextra", "-Iinclude", "-DNAME=value", "-std=gnu17", "-fPIC"]
    story, _ = ran(["/bin/cc", *flags, "one"], ["/bin/cc", *flags, "two"])
    rows = [plain(line) for line in tree_lines(story.trace(), Limits(columns=50))]
    assert any("101 cc … one" in row for row in rows)
    assert any("102 cc … two" in row for row in rows)


def test_the_file_of_a_compiler_is_named_and_what_a_linker_makes() -> None:
    flags = ["-quiet", "-imultiarch", "x86_64-linux-gnu", "parse.c", "-mtune=generic", "-O2", "-o", "/tmp/ccT1.s"]
    assert common(["/usr/lib/cc1", *flags], room=40) == "cc1 -quiet … parse.c … (8 args)"
    plugin = ["-plugin", "/usr/lib/gcc/12/liblto_plugin.so", "-z", "now", "-o", "prog", "crt1.o", "a.o", "-lc"]
    assert common(["/usr/bin/ld", *plugin], room=45) == "ld -plugin … -o prog … (9 args)"


def test_of_long_paths_the_end_is_shown_where_there_is_no_room() -> None:
    script = "/opt/venv/lib/python3.13/site-packages/pip/_vendor/hooks/_in_process.py"
    assert common(["/usr/bin/python3", script, "build"], room=100) == f"python3 {script} build"
    assert common(["/usr/bin/python3", script, "build"], room=40) == "python3 …/_in_process.py build"
    assert common(["/bin/sh", "-c", f"{script} -V"], room=30) == "sh -c '…/_in_process.py -V'"


def test_paths_that_differ_in_a_folder_are_told_apart() -> None:
    long = "/srv/build/of/some/project"
    story, _ = ran(["/bin/cat", f"{long}/one/data.txt"], ["/bin/cat", f"{long}/two/data.txt"])
    rows = [plain(line) for line in tree_lines(story.trace(), Limits(columns=50))]
    assert any("101 cat …/one/data.txt" in row for row in rows), rows
    assert any("102 cat …/two/data.txt" in row for row in rows)


def test_scripts_of_a_shell_are_told_apart_inside() -> None:
    start = '"/usr/bin/server" --check -F -c log=false -c'
    scripts = [f"{start} limit={limit} {'x' * 60}" for limit in (100, 20)]
    story, _ = ran(*(["/bin/sh", "-c", script] for script in scripts))
    rows = [plain(line) for line in tree_lines(story.trace(), Limits(columns=60))]
    assert any("101 sh … limit=100 x" in row for row in rows), rows
    assert any("102 sh … limit=20 x" in row for row in rows)


def test_what_a_process_is_for_is_one_text() -> None:
    worker = ["/usr/bin/python3", "-c", "import sys;exec(eval(sys.stdin.readline()))"]
    story, _ = ran(worker, ["/usr/bin/python3", "-m", "pytest"])
    rows = [plain(line) for line in tree_lines(story.trace(), Limits(columns=50))]
    assert any("101 python3 (execnet worker, as…" in row for row in rows), rows


def test_who_took_longest_is_named_by_what_only_it_has() -> None:
    story, numbers = ran(compiled("f1"), compiled("f2"), compiled("f3"))
    trace = story.trace()
    tasks = [task(trace, number) for number in numbers]
    assert told_apart(tasks[2], tasks[:2]) == "f3.o"
    row = plain(tree_lines(trace, Limits(columns=120))[1])
    assert "3 × 101…103 cc -O2 -c -o f*.o f*.c" in row
    assert row.endswith("4.0 / 5.0 / 6.0 ms · Σ 15 ms · slowest f1.o")


def test_times_below_a_row() -> None:
    story = Story()
    root = story.begin(100)
    parents = [story.clone(root, 200 + index) for index in range(3)]
    children = []
    for index, parent in enumerate(parents):
        story.exec(parent, "/bin/cc", argv=["cc", f"{index}.c"])
        children.append(story.clone(parent, 301 + 2 * index))
    for index, child in enumerate(children):
        story.exec(child, "/bin/as", argv=["as", f"{index}.s"])
    for child, parent in zip(children, parents, strict=True):
        story.exit(child)
        story.exit(parent)
    rows = [plain(line).rstrip() for line in tree_lines(story.end().trace(), Limits(columns=120))]
    assert "3 × 200…202 cc *.c" in rows[1]
    assert rows[1].endswith("13 / 14 / 15 ms · Σ 42 ms · slowest 2.c")
    assert "as *.s" in rows[2]
    assert rows[2].endswith("8.0 ms · Σ 24 ms")


TEXT = st.text(max_size=30)


@given(st.lists(TEXT, min_size=1, max_size=4))
def test_what_several_have_in_common(texts: list[str]) -> None:
    shown = together(texts)
    if len(set(texts)) == 1:
        assert shown == texts[0]
    else:
        start, _, end = shown.partition("*") if "*" not in texts[0] else ("", "", "")
        assert all(text.startswith(start) and text.endswith(end) for text in texts)
        assert all(len(text) >= len(start) + len(end) for text in texts)


@given(st.lists(st.lists(TEXT, min_size=1, max_size=6), min_size=1, max_size=4), st.integers(1, 60))
def test_any_command_fits_and_is_harmless(commands: list[list[str]], room: int) -> None:
    story, numbers = ran(*[["/bin/x", *[word.replace("\0", "") for word in command]] for command in commands])
    trace = story.trace()
    tasks = [task(trace, number) for number in numbers]
    shown = common_text(tasks, room)
    assert shown.isprintable()
    assert width_of(shown) <= room
    line = command_line(tasks[0])
    assert line is not None
    assert shlex.split(line.text())[0] == "x"


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("worker-1", "worker-#"), ("pool-1-thread-3", "pool-#-thread-#"), ("opt 3k9x2abcdefgh", "opt #"),
        ("opt dnaikkyg26x", "opt #"), ("opt euo0pisfcnx", "opt #"), ("tokio-runtime-w", "tokio-runtime-w"),
        ("lib2to3", "lib#to#"),
    ],
)  # fmt: skip
def test_names_of_one_pool(name: str, same: str) -> None:
    assert _numberless(name) == same
