"""A child whose end wakes who waits for any child: this process waits for it, in another thread or another state."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from forklore.linux.ours.ended_child import ended_child
from forklore.linux.tracing.wait import reap

WAITED: str = """if True:
    import os, signal, sys, threading
    from forklore.linux.ours.ended_child import ended_child
    from forklore.linux.tracing.wait import wait_any
    signal.signal(signal.SIGCHLD, int(sys.argv[1]))
    reader, writer = os.pipe()
    if os.fork() == 0:  # so that there is a child, which does not end, to wait for
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    told = []
    for _ in range(101):
        waiter = threading.Thread(target=lambda: told.append(wait_any()))
        waiter.start()
        made = ended_child()
        waiter.join()
        assert told == [(made, 0)], (told, made)
        told.clear()
"""


@pytest.mark.parametrize("disposition", [signal.SIG_DFL, signal.SIG_IGN])
def test_who_waits_for_any_child_is_told_of_it_each_time(disposition: signal.Handlers) -> None:
    # Whether it waits already or not yet, and where SIGCHLD is ignored, too.
    done = subprocess.run(
        [sys.executable, "-c", WAITED, str(int(disposition))], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_it_is_reaped_once() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    made = ended_child()
    reap(made)
    reap(made)
    with pytest.raises(ProcessLookupError):
        os.kill(made, 0)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
