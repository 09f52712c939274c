"""The whole of the tests in the order of what they tell about a new architecture, each stage a run of pytest."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

CORE: Final[tuple[str, ...]] = (
    "creations::test_each_fork_has_its_parent",
    "creations::test_a_thread_that_the_kernel_reports_as_a_vfork",
    "creations::test_a_pthread_is_a_thread",
    "creations::test_a_posix_spawn_and_one_that_fails",
    "execs::test_the_images_of_one_process",
    "execs::test_vfork_holds_its_creator",
    "execs::test_a_thread_takes_its_leaders_place",
    "refusals::test_clone3_structs_of_every_size",
    "refusals::test_flags_that_do_not_go_together",
    "untraced::test_followed",
    "untraced::test_left_alone_and_named",
    "stacks_end_to_end::test_a_recorded_stack_is_gdb_s",
    "stacks_end_to_end::test_every_call_that_makes_tasks_with_its_caller",
    "routines::test_a_threads_routine_and_argument_are_what_the_program_gave",
    "routines::test_what_clone_was_given_and_what_returns_from_its_call",
    "attach::test_waiting_calls_go_on",
    "attach::test_until_the_program_ends",
    "policies::test_what_is_left_goes_on",
    "endings::test_where_a_fault_was",
)
"""What a new architecture fails first: registers, numbers, the filter, memory, stacks, attaching. File and test."""

_UNIT: Final = ("elf", "decode", "linux", "abi")

_LIVE: Final[tuple[tuple[str, str], ...]] = (
    ("creations", "creations execs refusals vfork_holds untraced endings signals"),
    ("stacks", "stacks_end_to_end routines unwinding cpython_frames stack_programs"),
    ("attach", "attach policies"),
    ("sharing", "kcmp rules_kernel inspect sharing_agrees programs_sharing"),
    ("guests", "guests races creators_gone transparency transparency_harness"),
    ("memory", "cow_mechanism descriptors_mechanism vfork_writes_mechanism watch"),
    ("commands", "command_line python_interface doctor crash_safety terminal surroundings"),
    ("programs", "every_program"),
    ("systems", "namespace_users real_programs compare audit_live audit_user"),
    ("scale", "faults scale"),
)

NAMES: Final = ("core", "unit", *(name for name, _ in _LIVE), "others", "unit-others")
"""The stages, in their order."""


def stages() -> list[tuple[str, list[str]]]:
    """A name and the words for pytest, each; ``others`` has the live tests that no list names."""
    live = {name: [f"tests/live/test_{file}.py" for file in files.split()] for name, files in _LIVE}
    named = {file for files in live.values() for file in files}
    there = sorted(f"tests/live/{path.name}" for path in (ROOT / "tests/live").glob("test_*.py"))
    unit = [f"tests/unit/{name}" for name in _UNIT]
    words: dict[str, list[str]] = {
        "core": ["tests/live/test_{}.py::{}".format(*test.split("::")) for test in CORE],
        "unit": unit,
        **live,
        "others": [file for file in there if file not in named],
        "unit-others": ["tests/unit", *(f"--ignore={folder}" for folder in unit)],
    }
    return [(name, words[name]) for name in NAMES if words[name]]
