"""When what the first stack takes is loaded: before anybody can be held for it."""

from __future__ import annotations

import os

import pytest

from forklore.abi.arch import Arch
from forklore.sources.outbox import Outbox
from forklore.sources.ptrace import callers
from forklore.sources.ptrace.callers import Callers
from forklore.sources.ptrace.options import DEFAULTS


@pytest.mark.parametrize(("load", "before"), [(0.0, False), (1e6, True)])
def test_before_the_program_where_no_processor_is_free(
    load: float, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(callers, "import_module", loaded.append)
    observer = Callers(Arch.X86_64, DEFAULTS, Outbox(lambda _event: None))
    observer.starting()
    assert bool(loaded) is before
