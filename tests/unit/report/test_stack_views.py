"""Who made each task, in every view: the tree, whole stacks, the card, the log, sites and folded stacks."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from coded import LIBC, PTHREAD, Code, bare, coded, pool, spawned
from happenings import Story, stories, task
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tree_shape import without_starts

from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.export import json_sites
from forklore.export.folded import folded_lines
from forklore.export.table import ExportOptions
from forklore.model.stacks import CallStack, CodePlace, StackFrame
from forklore.model.tasks import Trace
from forklore.report.log import LogView
from forklore.report.sites import site_lines, sites
from forklore.report.stacks import stack_texts
from forklore.report.styled_lines import plain, width_of
from forklore.report.task_card import card_lines
from forklore.report.tree.edges import Edges
from forklore.report.tree.tree import Limits, tree_lines
from forklore.report.words.code import clipped_name

STACKS_PAGE = (Path(__file__).parents[3] / "docs/stacks.md").read_text()


def started() -> tuple[Story, int, Code]:
    story = Story(command=["pool"])
    return story, story.begin(100, comm="pool"), Code(story)


def view(story: Story, limits: Limits | None = None) -> list[str]:
    return without_starts(tree_lines(story.trace(), limits or Limits()))


def row(story: Story, start: str, limits: Limits | None = None) -> str:
    """The line of the tree that begins so behind its branch."""
    (found,) = [text for line in view(story, limits) if (text := line.lstrip("│├└─ ")).startswith(start)]
    return found


# The tree


def test_a_thread_by_what_it_runs_and_who_made_it() -> None:
    story, root, code = started()
    story.exit(pool(story, root, code, 101))
    assert row(story, "thread").startswith("thread 101  pthread_create(worker) ← start_pool, pool.c:88  ")


def test_the_own_routine_of_a_library_is_not_what_the_program_runs() -> None:
    story, root, code = started()
    frames = ("__clone3", "pthread_create", "_ZNSt6thread15_M_start_threadEv", "start@x.cc:1", "main")
    pool(story, root, code, 101, stack=code.stack(*frames), runs=code.runs("clone"))
    text = row(story, "thread", Limits(columns=132))
    assert "std::thread → pthread_create ← start, x.cc:1" in text
    assert "(clone)" not in text


def test_a_chain_of_library_calls_with_their_caller() -> None:
    story, root, code = started()
    child = spawned(story, root, code, 101)
    story.exec(child, "/bin/sh")
    assert row(story, "101").startswith("101 sh  popen → posix_spawn ← read_config, conf.c:12  ")


def test_a_thread_has_its_own_name_and_not_its_creators() -> None:
    story, root, code = started()
    thread = pool(story, root, code, 101)
    story.tell(ev.Name(t=story.t, task=thread, comm="po\x1bol", how="prctl"))
    assert row(story, "thread").startswith('thread 101 "po\\x1bol"  ')
    other = story.thread(root, 102)
    assert row(story, "thread 102").startswith("thread 102 pool")
    story.tell(ev.Name(t=story.t, task=other, comm="reader", how="found"))
    assert row(story, "thread 102").startswith('thread 102 "reader"')
    story.tell(ev.Name(t=story.t, task=root, comm="pool: main", how="prctl"))
    assert view(story)[0].startswith('100 pool "pool: main"')


def test_an_exec_takes_the_name() -> None:
    story, root, _code = started()
    child = story.clone(root, 101)
    story.tell(ev.Name(t=story.t, task=child, comm="helper", how="prctl"))
    assert row(story, "101").startswith("101 helper  ")
    story.exec(child, "/bin/ls", comm="ls")
    assert row(story, "101").startswith("101 ls  ")


def test_an_interpreter_tells_its_own_line() -> None:
    story, root, code = started()
    story.clone(root, 101, stack=code.stack("fork", "main"), script=code.script(("compile_all", "/src/build.py", 41)))
    assert "← build.py:41 compile_all" in row(story, "101", Limits(columns=120))


@pytest.mark.parametrize(
    ("caller", "text"),
    [
        ("start_pool", "start_pool"),
        ("start_pool@pool.c:88", "start_pool, pool.c:88"),
        ("?+0x234", "pool+0x3234"),
        ("start_pool<grow@pool.h:3", "grow, pool.h:3"),
        ("sta\x1brt\n", r"sta\x1brt\n"),
        ("x" * 100_000, "x" * 39 + "…"),
    ],
)
def test_the_caller(caller: str, text: str) -> None:
    story, root, code = started()
    pool(story, root, code, 101, stack=code.stack("__clone3", "pthread_create", caller, "main"))
    assert f" ← {text}  " in row(story, "thread", Limits(columns=200)).replace(" · ", "  ")


def test_what_is_not_sure_is_marked() -> None:
    story, root, code = started()
    pool(story, root, code, 101, stack=code.stack("__clone3", "pthread_create", "start_pool!pointer"))
    assert row(story, "thread").startswith("thread 101  ≈ pthread_create(worker) ← start_pool")
    story, root, _ = started()
    bare(story, root, 101)
    assert row(story, "thread").startswith("thread 101 pool  ≈ pthread_create  ")


def test_nothing_is_printed_where_nothing_is_known() -> None:
    story, root, _ = started()
    story.clone(root, 101)
    story.vfork(root, 102)
    assert not any(sign in line for line in view(story) for sign in "←≈")


def test_a_refused_creation_has_a_caller_too() -> None:
    story, root, code = started()
    story.fail(root, 11, flags=PTHREAD, stack=code.stack("__clone3", "pthread_create", "start_pool@pool.c:88"))
    lines = view(story)
    assert "└─ ✗ pthread_create ← start_pool, pool.c:88 · clone(…) = EAGAIN" in lines
    assert "RLIMIT_NPROC" in "".join(lines)


# Folding


def alike(count: int, *callers: str) -> Story:
    story, root, code = started()
    for index in range(count):
        caller = callers[index % len(callers)]
        child = spawned(story, root, code, 1000 + index, stack=code.stack("__clone3", "posix_spawn", caller))
        story.exec(child, "/bin/true")
        story.exit(child)
    return story


def test_one_site_is_one_line() -> None:
    lines = view(alike(3000, "start@x.c:1"))
    assert lines[1].startswith("└─ 3,000 × 1000…3999 true  posix_spawn ← start, x.c:1")
    assert len(lines) <= 5


def test_sites_that_make_many_have_a_line_each() -> None:
    story = alike(3000, "start@x.c:1", "grow@x.c:2")
    assert row(story, "1,500 × true  posix_spawn ← start").startswith("1,500 × true  posix_spawn ← start, x.c:1")
    assert row(story, "1,500 × true  posix_spawn ← grow").startswith("1,500 × true  posix_spawn ← grow, x.c:2")


def test_sites_that_make_few_share_a_line() -> None:
    story = alike(50, *(f"f{index}" for index in range(50)))
    assert row(story, "50 ×").startswith("50 × 1000…1049 true  posix_spawn ← 50 sites")
    story = alike(90, *(f"f{index}" for index in range(30)))
    rows = [line.lstrip("├└─ ") for line in view(story) if " × " in line]
    assert [text.split(" × ")[0] for text in rows] == ["3"] * 5 + ["75"]
    assert "← 25 sites" in rows[-1]


def test_all_keeps_every_site_and_every_task_apart() -> None:
    for story in (alike(50, "start"), alike(50, *(f"caller_{number}" for number in range(50)))):
        shown = view(story, Limits(columns=None, depth=1 << 30, siblings=None, lines=None, fold=1 << 30))
        assert sum("true  posix_spawn ←" in line for line in shown) == 50
        assert not any("×" in line for line in shown)


def test_sites_of_different_calls_share_the_one_that_they_end_with() -> None:
    story, root, code = started()
    for index, called in enumerate(("popen", "posix_spawn") * 4):
        frames = ("__clone3", *dict.fromkeys(("posix_spawn", called)), f"f{index}", "main")
        story.exit(spawned(story, root, code, 101 + index, stack=code.stack(*frames)))
    assert row(story, "8 ×").startswith("8 × 101…108 pool  posix_spawn ← 8 sites")


def test_a_few_sites_have_a_line_each() -> None:
    story = alike(6, *(f"f{index}" for index in range(6)))
    assert sum("true  posix_spawn ← f" in line for line in view(story)) == 6


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("<cargo::core::compiler::job_queue::DrainState>::run::{closure#1}", "<…::DrainState>::run::{closure}"),
        ("rustc_interface::util::run_in_thread_with_globals::{closure#0}::{closure#0}",
         "…::run_in_thread_with_globals::{closure}"),
        ("ctrlc::set_handler_inner<rustc_driver_impl::install_ctrlc_handler::{closure#0}>::{closure#0}",
         "ctrlc::set_handler_inner::{closure}"),
        ("node::(anonymous namespace)::ProcessWrap::Spawn", "…::ProcessWrap::Spawn"),
        ("start(int)::{lambda()#1}", "start(int)::{lambda()#1}"),
        ("llvm::StdThreadPool::StdThreadPool(llvm::ThreadPoolStrategy)::{lambda()#1}", "…::StdThreadPool::{closure}"),
        ("a_scope_that_has_a_long_name_of_its_own::pool::operator()", "…::pool::operator()"),
        ("a_scope_that_has_a_long_name_of_its_own::(anonymous)", "…::(anonymous)"),
        ("x::" + "b" * 60, "…::" + "b" * 36 + "…"),
        ("a" * 60, "a" * 39 + "…"),
    ],
)  # fmt: skip
def test_of_a_long_name_its_end_is_shown(name: str, shown: str) -> None:
    assert clipped_name(name) == shown


@given(st.text("ab:<>(){}-#\x1b", max_size=80), st.integers(16, 60))
def test_any_name_fits_and_is_harmless(name: str, most: int) -> None:
    assert len(clipped_name(name, most)) <= most
    assert clipped_name(name, most).isprintable()


def test_code_without_a_file_has_no_address() -> None:
    story, root, code = started()
    frames = ev.Frame(code.place("__clone3"), "register"), ev.Frame(code.place("pthread_create"), "rule")
    for index in range(3):
        made_at = 900 + index
        story.tell(ev.Place(t=story.t, place=made_at, module=None, address=0x7F00_0000 + index))
        stack = ev.Stack(
            t=story.t, stack=made_at, frames=[*frames, ev.Frame(made_at, "rule")], end="no call-frame rule for 0x…"
        )
        story.tell(stack)
        story.exit(pool(story, root, code, 101 + index, stack=made_at))
    text = row(story, "3 × thread", Limits(columns=132))
    assert text.startswith("3 × thread 101…103  pthread_create(worker) ← code without a file  ")


def test_two_of_a_kind_are_told_apart() -> None:
    story = alike(2, "start", "grow")
    assert "← start" in row(story, "1000")
    assert "← grow" in row(story, "1001")


def test_what_hangs_below_one_of_a_row_is_true_of_all() -> None:
    story, root, code = started()
    for index in range(6):
        child = story.clone(root, 200 + index)
        spawned(story, child, code, 300 + index, stack=code.stack("posix_spawn", "odd" if index == 3 else "even"))
    lines = [line.lstrip("│├└─ ") for line in view(story, Limits(columns=132))]
    assert any(line.startswith("5 × pool") for line in lines)
    assert sum("← even" in line for line in lines) == 1
    assert sum("← odd" in line for line in lines) == 1


def test_numbered_names_are_one_pool() -> None:
    story, root, code = started()
    for index in range(3000):
        thread = pool(story, root, code, 1000 + index)
        story.tell(ev.Name(t=story.t, task=thread, comm=f"pool-{index}", how="prctl"))
    assert row(story, "3,000 ×").startswith('3,000 × thread 1000…3999 "pool-*"')


# Whole stacks


def test_a_whole_stack_is_told_once() -> None:
    story, root, code = started()
    pool(story, root, code, 101)
    other = pool(story, root, code, 102)
    story.tell(ev.Name(t=story.t, task=other, comm="other", how="prctl"))
    lines = [line.lstrip("│ ") for line in view(story, Limits(stacks=True))]
    at = lines.index("#0 __clone3+0x10 (libc.so.6)")
    assert lines[at : at + 4] == [
        "#0 __clone3+0x10 (libc.so.6)",
        "#1 pthread_create+0x10 (libc.so.6)",
        "#2 start_pool+0x10 (pool) pool.c:88",
        "#3 main+0x10 (pool) pool.c:120",
    ]
    assert lines.count("stack: as task 101") == 1
    assert sum(line.startswith("#0 ") for line in lines) == 1


def test_how_a_frame_was_found_and_where_the_stack_ends() -> None:
    story, root, code = started()
    frames = ("__clone3", "run!wrapper", "on_signal<step@x.h:3!signal", "?+0x5", "main@x.c:9!pointer")
    script = code.script(("f\x1b", "/src/a.py", 4), end="too deep")
    story.clone(root, 101, stack=code.stack(*frames, end="no rules\x1b"), script=script)
    lines = [line.lstrip("│ ") for line in view(story, Limits(stacks=True))]
    assert lines[lines.index("python: (CPython 3.11)") + 1 :] == [
        r"#0 a.py:4 f\x1b",
        "… not known any further: too deep",
        "native:",
        "#0 __clone3+0x10 (libc.so.6)",
        "#1 run+0x10 (pool) [wrapper]",
        "#2 step (pool) x.h:3 [inlined]",
        "#2 on_signal+0x10 (pool) [interrupted by a signal handler]",
        "#3 pool+0x4005",
        "#4 main+0x10 (pool) x.c:9 [a guess, by the frame pointer]",
        r"… not known any further: no rules\x1b",
        "Not known: the trace was cut off; what came after its last line is not known",
    ]


def test_the_interpreters_own_frames_are_counted_where_the_scripts_are_known() -> None:
    python = "/usr/lib/libpython3.11.so.1.0"
    files = [LIBC, python, python, "/opt/_posixsubprocess.so", python, "/usr/bin/python3.11", "/usr/bin/python3-tool"]
    places = [CodePlace(n, ev.Module(t=0, module=n, path=path), 16, b"f%d" % n, 0) for n, path in enumerate(files)]
    stack = CallStack(1, tuple(StackFrame(place, "rule") for place in places), "outermost")
    whole = list(stack_texts(stack))
    assert len(whole) == 7
    assert list(stack_texts(stack, folded=True)) == [
        whole[0], "… 2 frames of the interpreter", whole[3], "… 2 frames of the interpreter", whole[6]
    ]  # fmt: skip
    story, root, code = started()
    story.clone(root, 101, stack=code.stack("fork", "main"), script=code.script(("f", "/src/a.py", 4)))
    for limits in (Limits(stacks=True), Limits(stacks=True, verbose=True)):
        lines = [line.lstrip("│ ") for line in view(story, limits)]
        assert lines.index("#0 a.py:4 f") < lines.index("native:") < lines.index("#0 fork+0x10 (libc.so.6)")


def test_stacks_keep_tasks_apart_that_one_caller_made() -> None:
    story, root, code = started()
    for index in range(6):
        outer = "main" if index % 2 else "other"
        pool(story, root, code, 101 + index, stack=code.stack("__clone3", "pthread_create", "start_pool", outer))
    assert row(story, "6 ×")
    assert len([line for line in view(story, Limits(stacks=True)) if "3 × thread" in line]) == 2


def test_a_stack_below_a_refusal() -> None:
    story, root, code = started()
    story.fail(root, 11, stack=code.stack("fork", "main", end="depth"))
    lines = [line.lstrip("│ ") for line in view(story, Limits(stacks=True))]
    assert "… it goes on: more frames than were to be read (--stack-depth)" in lines


# The card


def test_the_card_tells_what_the_claim_rests_on() -> None:
    story, root, code = started()
    thread = pool(story, root, code, 101)
    story.tell(ev.Name(t=story.t, task=thread, comm="pool-3", how="prctl"))
    trace = story.trace(sharing=True)
    lines = [plain(line) for line in card_lines(trace, task(trace, thread), 80, verbose=True)]
    assert lines[0].startswith('thread 101 "pool-3" runs worker  #2')
    assert "  pthread_create(worker) ← start_pool, pool.c:88" in lines
    assert "  by pthread_create [by the functions on the stack]" in lines
    assert "  runs: worker, pool.c:20 [nptl]" in lines
    assert '  named "pool-3" [prctl]' in lines
    assert lines[-1] == "  #3 main+0x10 (pool) pool.c:120"


def test_the_card_says_why_a_routine_is_not_known() -> None:
    story, root, _ = started()
    runs = ev.Runs(how="clone", fn=0x5000, arg=0x10, unknown=Unavailable(0, "no descriptor"))
    thread = story.thread(root, 101)
    other = story.clone3(root, 102, PTHREAD, 0, runs=runs)
    trace = story.trace(sharing=True)
    text = "\n".join(plain(line) for line in card_lines(trace, task(trace, other), 80, verbose=True))
    assert "fn of clone(): 0x5000, argument 0x10 [clone]" in text
    assert "what it runs is not known: no descriptor" in text
    text = "\n".join(plain(line) for line in card_lines(trace, task(trace, thread), 80, verbose=True))
    assert "fn of clone()" not in text


# The log


def log(story: Story) -> list[str]:
    builder = story.builder()
    shown = LogView(builder)
    lines = []
    for event in story.events:
        builder.feed(event)
        line = shown.line(event)
        if line is not None:
            lines.append(plain(line).partition("] ")[2])
    return lines


def test_the_system_call_stands_within_the_library_call() -> None:
    story, root, code = started()
    spawned(story, root, code, 101)
    (line,) = log(story)
    library, _, call = line.partition(" { ")
    assert library == "100 pool  popen → posix_spawn ← read_config, conf.c:12"
    assert call == "clone3(CLONE_VM|CLONE_VFORK, exit SIGCHLD) → process 101 }  shares mm"


def test_a_refused_call_has_its_reason_behind_it() -> None:
    story, root, code = started()
    story.fail(root, 22, stack=code.stack("clone", "start_pool@pool.c:88", "main"))
    (line,) = log(story)
    assert line.startswith("100 pool  clone ← start_pool, pool.c:88 { clone(CLONE_SIGHAND|SIGCHLD) = EINVAL }  ")
    assert "CLONE_VM" in line


def test_a_new_name_is_an_event() -> None:
    story, root, _ = started()
    story.tell(ev.Name(t=story.t, task=root, comm="x\x1b", how="found"))
    assert log(story) == [r"100 x\x1b  is named x\x1b"]


# Sites and folded stacks


def busy() -> Story:
    story, root, code = started()
    for index in range(5):
        pool(story, root, code, 101 + index)
    for index in range(2):
        child = spawned(story, root, code, 201 + index)
        story.exec(child, "/bin/sh")
        story.tell(ev.VforkDone(t=story.t, task=root, child=child, tid=201 + index))
    story.fail(root, 11, flags=PTHREAD, stack=code.stack("__clone3", "pthread_create", "start_pool@pool.c:88"))
    story.create(root, 301, nr=None)
    return story


def test_sites_are_ranked_by_number_and_by_time_held() -> None:
    lines = [plain(line) for line in site_lines(busy().trace(), 80)]
    split = lines.index("")
    assert lines[:split] == [
        "Creation sites by number",
        "    tasks     kind  refused  made by",
        "        5   thread        -  pthread_create(worker) ← start_pool, pool.c:88",
        "        2  process        -  popen → posix_spawn ← read_config, conf.c:12",
        "        1     task        -  system call not known",
        "        0   thread        1  pthread_create ← start_pool, pool.c:88",
    ]
    assert lines[split + 1 :] == [
        "Creation sites by the time for which a vfork held the creator",
        "    tasks     held  longest  made by",
        "        2   4.0 ms   2.0 ms  popen → posix_spawn ← read_config, conf.c:12",
    ]


def wrapped(*outer: str) -> Story:
    """A child for each of the callers of a function that forks for all of them."""
    story, root, code = started()
    for number, who in enumerate(outer):
        story.create(root, 101 + number, nr=57, stack=code.stack("fork", "xfork@x.c:7", *filter(None, [who]), "main"))
    return story


def test_a_site_that_several_functions_use_names_them() -> None:
    trace = wrapped("serve@s.c:1", "log@l.c:2", "serve@s.c:9").trace()
    assert [plain(line) for line in site_lines(trace, 80)] == [
        "Creation sites by number",
        "    tasks     kind  made by",
        "        3  process  fork ← xfork, x.c:7",
        "                          2 ← serve",
        "                          1 ← log",
    ]
    (site,) = sites_json(trace)["sites"]
    assert site["through"] == [{"function": "serve", "count": 2}, {"function": "log", "count": 1}]


def test_a_site_that_one_function_uses_names_no_other() -> None:
    lines = [plain(line) for line in site_lines(wrapped("serve@s.c:1", "serve@s.c:9").trace(), 80)]
    assert lines[2:] == ["        2  process  fork ← xfork, x.c:7"]


def test_of_many_functions_that_use_a_site_the_most_frequent_are_named() -> None:
    names = [f"f{number:02}" for number in range(11)]
    lines = [plain(line) for line in site_lines(wrapped(*names, "f10").trace(), 80)]
    assert lines[3].split() == ["2", "←", "f10"]
    assert len(lines) == 3 + 8 + 1
    assert lines[-1].split(maxsplit=2) == ["3", "←", "3 other functions"]


def test_many_sites_are_cut_and_counted() -> None:
    trace = alike(50, *(f"f{index}" for index in range(50))).trace()
    lines = [plain(line) for line in site_lines(trace, 80, 10)]
    assert lines[-1] == "… 40 more sites (--all shows them)"
    assert len(site_lines(trace, 80, None)) == 52
    assert [plain(line) for line in site_lines(Story().trace(), 80)] == ["No task was made."]


def sites_json(trace: Trace) -> Any:
    out = io.BytesIO()
    json_sites.write(trace, out, ExportOptions(view="sites"))
    return json.loads(out.getvalue())


def test_sites_as_json() -> None:
    data = sites_json(busy().trace())
    assert data["format"] == {"name": "forklore-sites", "version": [1, 1]}
    first, second, *_ = data["sites"]
    assert list(first) == re.findall(r"^\| `(\w+)` \|", STACKS_PAGE.partition("## Sites")[2], re.M)
    assert (first["runs"], first["count"], first["threads"], first["held"]) == ("worker", 5, 5, None)
    assert first["attribution"]["chain"] == ["pthread_create"]
    assert (second["processes"], second["held"], second["longest"]) == (2, 4_000_000, 2_000_000)
    assert second["tasks"] == [7, 8]


def test_folded_stacks() -> None:
    story = busy()
    code_line = ["main;start_pool;pthread_create 5", "main;read_config;popen;posix_spawn 2"]
    lines = folded_lines(story.trace())
    assert set(code_line) < set(lines)
    assert "(no stack);unknown 1" in lines
    assert lines == sorted(lines)


def test_folded_names_cannot_part_a_stack() -> None:
    story, root, code = started()
    story.clone(root, 101, stack=code.stack("fork", "a;b c\n<d;e@x.h:1", "main", end="depth"))
    assert folded_lines(story.trace()) == [r"(depth);main;a\x3bb c\n;d\x3be;fork 1"]


def test_folded_frames_of_an_interpreter() -> None:
    story, root, code = started()
    script = code.script(("spawn", "/lib/subprocess.py", 7), ("<module>", "/src/b.py", 1))
    story.clone(root, 101, stack=code.stack("fork", "main"), script=script)
    (line,) = folded_lines(story.trace())
    assert line.startswith("<module> (b.py:1);spawn (subprocess.py:7);fork")


# Whatever a file may hold


@given(stories(6), st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_can_steer_a_terminal_or_widen_a_line(story: Story, data: st.DataObject) -> None:
    assume(not isinstance(story.events[-1], ev.End))
    for tid in (7, 8, 9):
        story.clone3(1, tid, data.draw(st.sampled_from([PTHREAD, 0])), 0, **data.draw(coded(story)))
    story.fail(1, 11, **{key: value for key, value in data.draw(coded(story)).items() if key != "runs"})
    trace = story.trace(sharing=True)
    views = [
        tree_lines(trace, Limits(stacks=True)),
        tree_lines(trace),
        card_lines(trace, list(trace.tasks.values())[-1], 80, verbose=True),
        site_lines(trace, 80),
    ]
    for lines in views:
        assert all(plain(line).isprintable() for line in lines)
    assert all(width_of(plain(line)) <= 80 for line in views[0] + views[1] + views[3])
    assert all(line.isprintable() for line in log(story))
    for line in folded_lines(trace):
        stack, _, count = line.rpartition(" ")
        assert stack.isprintable()
        assert int(count) > 0
    asked = sum(site.count for site in sites(trace, Edges(trace)))
    assert asked == sum(int(line.rpartition(" ")[2]) for line in folded_lines(trace))
