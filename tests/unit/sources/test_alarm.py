"""The alarm interrupts waitpid in the thread that asked for it, be it the first or another one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# In a process of its own, for its signals; the child never ends by itself, so that only the alarm ends a wait.
WAITING = """if True:
    import os, signal, sys, threading
    from forklore.linux.tracing.wait import wait_any
    from forklore.sources.ptrace.alarm import Alarm, hand_over

    def wait():
        alarm = Alarm()
        alarm.set(0.001)
        for _ in range(3):
            try:
                wait_any()
            except InterruptedError:
                print("interrupted")
        alarm.set(0.0)
        print(signal.getitimer(signal.ITIMER_REAL))

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})  # as somebody may have left it
    child = os.fork()
    if child == 0:
        signal.pause()
    if sys.argv[1] == "first":
        wait()
    else:
        hand_over()
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    os.kill(child, signal.SIGKILL)
"""


@pytest.mark.parametrize("thread", ["first", "other"])
def test_it_interrupts_the_wait_until_it_is_stopped(thread: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WAITING, thread], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "interrupted\n" * 3 + "(0.0, 0.0)\n"
