"""A subprocess that fails, one that a shell runs, and threads that start more of them."""

import os
import subprocess
import threading


def work(number: int) -> None:
    """Run a program, as each of the threads does."""
    subprocess.run(["/usr/bin/true", str(number)], check=True)


subprocess.run(["false"], check=False)
subprocess.run("exit 3", shell=True, check=False)
threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
child = os.fork()
if child == 0:
    os.abort()
os.waitpid(child, 0)
