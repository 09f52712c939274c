"""The form of a creation is that of the whole call, whatever its words are and whichever calls came before."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.abi.units import Unavailable
from forklore.events import records as ev
from forklore.model.creations import Forms, decoded

FEW = st.sampled_from([0, 17, 0x3D0F00, 0x1200011, 0x4111, 88, 64, 1 << 40, 2**64 - 1])
STRUCTS = st.one_of(
    st.none(),
    st.just(Unavailable(14, "EFAULT")),
    st.binary(max_size=120).map(bytes.hex),
    st.lists(FEW, min_size=8, max_size=11).map(lambda words: struct.pack(f"<{len(words)}Q", *words).hex()),
)
RECORDS = st.builds(
    ev.Create,
    t=st.none(),
    task=st.just(1),
    child=st.just(2),
    tid=st.just(7),
    arch=st.sampled_from(Arch),
    nr=st.sampled_from([None, -1, 2, 56, 57, 58, 120, 190, 220, 435, 0x40000038]),
    args=st.lists(st.one_of(st.none(), FEW), max_size=6).map(tuple),
    struct=STRUCTS,
    set_tid=st.sampled_from([None, "01000000", Unavailable(14, "EFAULT")]),
)


@settings(deadline=None)
@given(st.lists(RECORDS, max_size=12))
def test_a_form_is_that_of_the_whole_call(records: list[ev.Create]) -> None:
    forms = Forms()
    for record in records:
        form, whole = forms.of(record), decoded(record)
        assert (form.call, form.flags, form.exit_signal, form.kind) == (
            whole.call, whole.flags.raw, whole.exit_signal, whole.kind
        )  # fmt: skip


def test_a_struct_counts_for_clone3_alone() -> None:
    # No tracer writes one with another call, but a file may have it.
    forms = Forms()
    for flags, kind in ((0, "process"), (0x10F00, "thread")):
        record = ev.Create(t=1, task=1, child=2, tid=7, arch=Arch.X86_64, nr=56, args=(flags, 0, 0, 0, 0), struct="00")
        assert forms.of(record).kind == kind


def test_calls_that_differ_in_addresses_have_one_form() -> None:
    forms = Forms()
    made = []
    for n in range(1, 4):
        at = n << 20
        words = struct.pack("<11Q", 0x3D0F00, 0, at + 16, at + 16, 0, at - 0x8000, 0x8000, at + 8, 0, 0, 0)
        made.append(
            ev.Create(
                t=n, task=1, arch=Arch.X86_64, nr=435, args=(0x7FF0, 88, at), child=n, tid=n, struct=words.hex()
            )
        )
    assert len({id(forms.of(record)) for record in made}) == 1
    assert forms.of(made[0]).kind == "thread"
