"""beside_thread fork|joined|run: a child that is made beside a Python thread and executes nothing, or looks like it."""

import os
import subprocess
import sys
import threading
import time


def forked(seconds: float) -> None:
    """A thread is there for a moment after it was joined: the child lives longer."""
    child = os.fork()
    if child == 0:
        time.sleep(seconds)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


gate = threading.Event()
worker = threading.Thread(target=gate.wait, name="worker")
worker.start()
if sys.argv[1] == "joined":
    gate.set()
    worker.join()
if sys.argv[1] == "run":
    subprocess.run(["/bin/true"], check=True, close_fds=False)
else:
    forked(0.2 if sys.argv[1] == "joined" else 0)
gate.set()
worker.join()
print(f"ok pid={os.getpid()}")
