"""What is said when the program has ended and others have not."""

from __future__ import annotations

import pytest

from forklore.abi.units import Pid
from forklore.linux.tracing.wait import WaitStatus
from forklore.sources.ptrace.session import waiting_for

LEFT = [(Pid(14233), b"sleep"), (Pid(14240), b"\x1b[2J"), (Pid(14241), b""), (Pid(14242), b"d"), (Pid(14243), b"e")]


@pytest.mark.parametrize(
    ("status", "count", "kills", "text"),
    [
        (0x300, 1, True, "the program ended (exit 3); waiting for 14233 sleep; Ctrl-C kills it and leaves"),
        (15, 1, False, "the program ended (killed by SIGTERM); waiting for 14233 sleep; Ctrl-C leaves it"),
        (0, 3, True,
         "the program ended (exit 0); waiting for 14233 sleep, 14240 \\x1b[2J, 14241; Ctrl-C kills them and leaves"),
        (0, 5, False,
         "the program ended (exit 0); waiting for 14233 sleep, 14240 \\x1b[2J, 14241, 2 more; Ctrl-C leaves them"),
    ],
)  # fmt: skip
def test_whom(status: int, count: int, kills: bool, text: str) -> None:
    assert waiting_for(WaitStatus.decode(status), LEFT[:count], kills=kills) == text
