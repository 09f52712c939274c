"""What a child shares, flag by flag."""

from __future__ import annotations

import itertools

import pytest

from forklore.abi import flags as f
from forklore.abi.arch import Arch
from forklore.abi.resources import Resource
from forklore.decode.calls import Unshare, decode_call
from forklore.decode.creation import from_flags
from forklore.decode.sharing import NAMESPACES, SHARED, fates, shared_names, unshare_fates
from forklore.features.explain.well_known import WELL_KNOWN

X86 = Arch.X86_64


def outcome(flags: int, resource: str, call: str = "clone3", signal: int = 0) -> str:
    made = from_flags(X86, "clone3" if call == "clone3" else "clone", flags, signal)
    return next(fate.outcome for fate in fates(made) if fate.resource == resource)


@pytest.mark.parametrize("resource", SHARED, ids=lambda resource: resource.key)
def test_a_resource_is_shared_with_its_flag_and_not_without(resource: Resource) -> None:
    assert outcome(resource.shared_by, resource.key) == "shared"
    assert outcome(0, resource.key) != "shared"


@pytest.mark.parametrize("resource", NAMESPACES, ids=lambda resource: resource.key)
def test_a_namespace_is_new_with_its_flag(resource: Resource) -> None:
    assert outcome(resource.new_by, resource.key) == "new"
    assert outcome(0, resource.key) == "inherited"


def test_flags_that_reset() -> None:
    assert outcome(f.CLONE_CLEAR_SIGHAND, "sighand") == "reset"
    assert outcome(f.CLONE_VM, "altstack") == "reset"
    assert outcome(f.CLONE_VM | f.CLONE_VFORK, "altstack") == "inherited"
    assert outcome(f.CLONE_VM, "rseq") == "reset"
    assert outcome(f.CLONE_EMPTY_MNTNS, "mnt_ns") == "new"
    assert outcome(f.CLONE_INTO_CGROUP, "cgroup") == "new"


def test_bits_of_clone3_alone_mean_nothing_to_clone() -> None:
    assert outcome(0, "time_ns", "clone", f.CLONE_NEWTIME) == "inherited"
    assert outcome(f.CLONE_PIDFD_AUTOKILL, "lifetime", "clone") == "new"


def test_every_row_is_a_sentence_with_a_cause() -> None:
    for known in WELL_KNOWN.values():
        rows = fates(known.creation())
        assert len({row.resource for row in rows}) == len(rows) >= 40
        assert all(row.why and row.because and row.title for row in rows)


def test_the_trees_short_names() -> None:
    thread = WELL_KNOWN["pthread_create"].creation()
    assert shared_names(thread) == ("mm", "fs", "files", "sighand", "thread", "sysvsem")
    sandbox = from_flags(X86, "clone", f.CLONE_NEWPID | f.CLONE_NEWNET, 17)
    assert shared_names(sandbox) == ("newpid", "newnet")


def test_unshare_touches_what_it_names_and_no_more() -> None:
    bits = [f.CLONE_FS, f.CLONE_FILES, f.CLONE_NEWUTS, f.CLONE_NEWPID, f.CLONE_SYSVSEM]
    names = ["fs", "files", "uts_ns", "pid_ns", "sysvsem"]
    for chosen in itertools.chain(*(itertools.combinations(range(5), n) for n in range(6))):
        call = decode_call(X86, 272, (sum(bits[i] for i in chosen),))
        assert isinstance(call, Unshare)
        assert {fate.resource for fate in unshare_fates(call)} == {names[i] for i in chosen}
