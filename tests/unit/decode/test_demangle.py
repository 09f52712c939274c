"""C++ and Rust names, with c++filt as the oracle, and names made to exhaust a demangler."""

import builtins
import subprocess
import time
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_tools import run
from this_machine import LIBRARIES, processor_time

from forklore.decode import demangle as module
from forklore.decode.demangle import demangle, short

NAMES = [
    ("_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE",
     "std::thread::_M_start_thread"),
    ("_ZN3fooILi3EE3barIiEEvT_.cold", "foo::bar"),
    ("_ZN12_GLOBAL__N_13runEi", "(anonymous namespace)::run"),
    ("_ZZ4mainENKUlvE_clEv", "main::{lambda()#1}::operator()"),
    ("_ZlsIcERSoS0_T_", "operator<<"),
    ("_ZltIcEbT_S0_", "operator<"),
    ("_ZN1AptEv", "A::operator->"),
    ("_ZN1AssERKS_", "A::operator<=>"),
    ("_ZN10myoperatorIiE1fEv", "myoperator::f"),
    ("_ZN1AIiED2Ev", "A::~A"),
    ("_ZNSt8functionIFvvEEclEv", "std::function::operator()"),
]
RUST = [
    ("_ZN3std6thread7Builder15spawn_unchecked17h0123456789abcdefE", "std::thread::Builder::spawn_unchecked",
     "std::thread::Builder::spawn_unchecked"),
    ("_RNvXsq_NtCs61nHkvlE5qF_9rustc_ast5tokenNtB5_11CommentKindNtNtCsgEmfK2I1SDS_4core3fmt5Debug3fmt",
     "<rustc_ast::token::CommentKind as core::fmt::Debug>::fmt", "rustc_ast::token::CommentKind::fmt"),
    ("_RINvMs0_NtNtNtNtCsjrHSEGnQ3l9_3std3sys12thread_local6native4lazyINtB6_7StoragemE3getmE",
     "<std::sys::thread_local::native::lazy::Storage<u32>>::get::<u32>",
     "std::sys::thread_local::native::lazy::Storage::get"),
]


@pytest.mark.parametrize(("name", "brief"), NAMES)
def test_cpp_names_are_those_of_cppfilt(name: str, brief: str) -> None:
    assert demangle(name) == run("c++filt", name).rstrip("\n")
    assert short(name) == brief


@pytest.mark.parametrize(("name", "whole", "brief"), RUST)
def test_rust_names_have_no_hash(name: str, whole: str, brief: str) -> None:
    assert demangle(name) == whole
    assert short(name) == brief


@pytest.mark.parametrize("name", ["main", "", "_start", "__libc_start_main", "_Z", "_R", "_Znonsense", "_ZN", "fork"])
def test_names_that_are_not_mangled_stay(name: str) -> None:
    assert demangle(name) == name
    assert short(name) == name


def substituted(place: int) -> str:
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    if place == 0:
        return "S_"
    return "S" + (digits[(place - 1) // 36] if place > 36 else "") + digits[(place - 1) % 36] + "_"


# a<i>, a<a<i>, a<i>>, and so on: each twice as long as the one before, sixty times.
DOUBLING = "_Z1f1aIiE" + "".join(f"S_I{2 * substituted(1 + turn)}E" for turn in range(60))


@pytest.mark.parametrize("name", [
    "_Z1f" + "P" * 5000 + "i", "_Z1f" + "N1aI" * 3000 + "i" + "E" * 6000, "_ZN" + "1a" * 5000 + "E",
    "_Z1f" + "1" * 9000, "_RMC0" + "R" * 5000 + "e", "_Z" + "A" * (1 << 20), "_R" + "N" * (1 << 20), DOUBLING,
    "_Z1fIJ" + "i" * 9000 + "EEvv"],
    ids=lambda name: f"{name[:8]}-{len(name)}")
def test_hostile_names_are_bounded(name: str) -> None:
    started = time.thread_time()
    whole, brief = demangle(name), short(name)
    assert time.thread_time() - started < processor_time(1)
    assert 0 < len(brief) <= max(len(whole), len(name)) <= max(len(name), 1 << 16)


ALPHABET = st.sampled_from("NSEIPRKTLJXZ_0123459abcdeifvtlhDCMFAB$.")


@settings(max_examples=200, deadline=1000)
@given(st.one_of(st.text(ALPHABET, max_size=60).map(lambda tail: "_Z" + tail),
                 st.text(ALPHABET, max_size=60).map(lambda tail: "_R" + tail),
                 st.text(max_size=20),
                 st.tuples(st.sampled_from([name for name, _ in NAMES] + [name for name, _, _ in RUST]),
                           st.integers(0, 90), st.text(ALPHABET, min_size=1, max_size=4)).map(
                     lambda parts: parts[0][:parts[1]] + parts[2] + parts[0][parts[1] + len(parts[2]):])))
def test_any_name_has_a_form_that_is_not_empty(name: str) -> None:
    assert bool(demangle(name)) == bool(name)
    assert bool(short(name)) == bool(name)


def test_real_libraries_agree_with_cppfilt() -> None:
    library = LIBRARIES / "libstdc++.so.6"
    listed = run("nm", "-D", "--defined-only", "--format=posix", library) if library.exists() else ""
    names = sorted({line.split("@")[0].split(" ")[0] for line in listed.splitlines() if line.startswith("_Z")})[::17]
    if len(names) < 100:
        pytest.skip(f"{library} is not there, or has too few names: {len(names)}")
    told = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    different = [(name, demangle(name), line) for name, line in zip(names, told.splitlines(), strict=True)
                 if demangle(name) != line]
    assert len(different) <= len(names) // 100, different[:5]
    for name in names:
        assert short(name).strip()


def test_without_the_library_names_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, globals_: Mapping[str, object] | None = None, locals_: Mapping[str, object] | None = None,
                fromlist: Sequence[str] = (), level: int = 0) -> object:
        if name == "demangle":
            raise ImportError(name)
        return real(name, globals_, locals_, fromlist, level)

    module._demangled.cache_clear()
    module._shortened.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    name = NAMES[0][0]
    try:
        assert (demangle(name), short(name)) == (name, name)
    finally:
        module._demangled.cache_clear()
        module._shortened.cache_clear()
