"""beside_thread fork|joined|run: a child that is made beside a Python thread and executes nothing, or looks like it."""

import os
import subprocess
import sys
import threading


def forked(joined: int | None) -> None:
    """A thread is there for a moment after it was joined: the child lives longer than that one, if there is one."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        while joined is not None and os.path.exists(f"/proc/{parent}/task/{joined}"):
            os.sched_yield()
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
    forked(worker.native_id if sys.argv[1] == "joined" else None)
gate.set()
worker.join()
print(f"ok pid={os.getpid()}")
