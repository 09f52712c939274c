"""The committed tables against the kernel headers of this machine, and the reader of those headers."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "generate-abi"
MODULES = sorted((ROOT / "src" / "forklore" / "abi").glob("_generated_*.py"))

HOST_HEADERS = Path("/usr/include")
MORE_HEADERS = os.environ.get("FORKLORE_UAPI_HEADERS")
"""Another include directory to check against, such as the one the tables came from."""


def load_script() -> ModuleType:
    loader = SourceFileLoader("generate_abi", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[loader.name] = module  # its dataclasses look their module up
    loader.exec_module(module)
    return module


generate_abi = load_script()


def usable(include: Path) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed, and the headers are read through its preprocessor")
    if not (include / "linux" / "version.h").exists():
        pytest.skip(f"{include}/linux/version.h is missing: no kernel headers there (linux-libc-dev)")
    return include


@pytest.mark.parametrize("include", [HOST_HEADERS, *([Path(MORE_HEADERS)] if MORE_HEADERS else [])], ids=str)
def test_the_tables_say_what_the_headers_say(include: Path) -> None:
    command = [str(SCRIPT), "--include", str(usable(include)), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert done.stdout.endswith("0 differences\n")


def test_the_check_sees_a_wrong_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    headers = generate_abi.Headers(usable(HOST_HEADERS))
    # Held to be of another version than the tables, so that it is the values that are compared.
    monkeypatch.setattr(generate_abi.Headers, "version", 0)
    edits = {
        "_generated_sched.py": ("CLONE_VFORK: Final = 0x4000\n", "CLONE_VFORK: Final = 0x8000\n"),
        "_generated_ptrace.py": ("    SEIZE = 0x4206\n", ""),
        f"_generated_syscalls_{headers.arches[0]}.py": ('"clone3": 435,', '"clone3": 534,'),
    }
    for path in MODULES:
        text = path.read_text()
        if path.name in edits:
            old, new = edits[path.name]
            assert text.count(old) == 1
            text = text.replace(old, new)
        (tmp_path / path.name).write_text(text)
    monkeypatch.setattr(generate_abi, "ABI", tmp_path)
    assert sorted(generate_abi.differences(headers)) == [
        "_generated_ptrace.py: SEIZE is None, 16902 in the headers",
        "_generated_sched.py: CLONE_VFORK is 32768, 16384 in the headers",
        f"_generated_syscalls_{headers.arches[0]}.py: clone3 is 534, 435 in the headers",
    ]


def test_headers_of_the_same_version_must_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = generate_abi.Headers(usable(HOST_HEADERS))
    monkeypatch.setattr(headers, "arches", tuple(generate_abi.TARGETS))
    monkeypatch.setattr(generate_abi.Headers, "version", generate_abi.load("kcmp").LINUX_VERSION_CODE)
    written = {
        name: (generate_abi.ABI / f"_generated_{name}.py").read_text() for name in generate_abi.MODULES
    }
    monkeypatch.setattr(generate_abi, "render", lambda name, tables, headers: written[name])
    assert list(generate_abi.differences(headers)) == []
    written["kcmp"] += "\n"
    assert list(generate_abi.differences(headers)) == [
        "_generated_kcmp.py is not what these very headers give"
    ]


def test_where_there_are_no_headers_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(SCRIPT), "--include", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "holds no kernel headers" in done.stderr
    assert "--include" in done.stderr


def test_all_tables_come_from_one_kernel() -> None:
    versions = {importlib.import_module(f"forklore.abi.{path.stem}").LINUX_VERSION_CODE for path in MODULES}
    assert len(MODULES) == len(generate_abi.MODULES)
    assert len(versions) == 1
    (version,) = versions
    for path in MODULES:
        assert (
            f"scripts/generate-abi from the uapi headers of Linux {generate_abi.dotted(version)};"
            in path.read_text()
        )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("57", 57),
        ("0x80000000U", 0x80000000),
        ("(1ULL << 32)", 1 << 32),
        ("(0x40000000 + 435)", 0x400001B3),
        ("017", 15),
        ("(~0UL)", (1 << 64) - 1),
        ("-1", -1),
        ("( 0x000000ff | (1 << 20) | (1 << 21))", 0x3000FF),
        ("_NSIG", None),
        ("", None),
        ("1.5", None),
        ("__attribute__((packed))", None),
    ],
)
def test_c_constant_expressions(text: str, value: int | None) -> None:
    assert generate_abi.evaluate(text) == value


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_no_text_makes_the_evaluator_raise(text: str) -> None:
    assert isinstance(generate_abi.evaluate(text), int | None)


def test_struct_members_follow_the_alignment_of_the_target() -> None:
    body = "__u8 op; __u32 arch; __aligned_u64 ip __attribute__((aligned(8))); unsigned long args[2];"
    fields = [(field.name, field.offset, field.size) for field in generate_abi._members(body, 4, "here")]
    assert fields == [("op", 0, 1), ("arch", 4, 4), ("ip", 8, 8), ("args0", 16, 4), ("args1", 20, 4)]


def test_a_member_of_an_unknown_type_is_an_error_that_names_it() -> None:
    with pytest.raises(generate_abi.HeaderError, match="here: member not understood: struct foo bar"):
        list(generate_abi._members("struct foo bar;", 8, "here"))
