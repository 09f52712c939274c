"""The committed BPF objects are what the sources make: by hashes anywhere, by compiling where the tools are."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "generate-bpf"


def generator() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("generate_bpf", str(SCRIPT))
    spec = importlib.util.spec_from_loader("generate_bpf", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_objects_were_made_of_these_sources() -> None:
    module = generator()
    written = module.WRITTEN.read_text().splitlines()[:-1]
    assert written == module.built_from(versions="").splitlines()[: len(written)]


def test_the_objects_are_what_the_same_compiler_makes_again() -> None:
    module = generator()
    if lacking := module.missing():
        pytest.skip(f"not on this machine: {', '.join(lacking)} (Debian: apt install clang llvm bpftool libbpf-dev)")
    here, then = module.versions(), module.WRITTEN.read_text().splitlines()[-1]
    if here != then:
        pytest.skip(f"the objects were made by {then}, and here is {here}")
    assert subprocess.run([str(SCRIPT), "--check"], capture_output=True, text=True, check=False).stderr == ""
