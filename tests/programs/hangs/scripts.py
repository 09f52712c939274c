"""Hangs as Python programs have them."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import queue
import subprocess
import sys
import threading


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def blocks(call: str) -> None:
    say(f"wait {threading.get_native_id()} {call}")


def ask(tasks: int) -> None:
    say(f"ask {os.getpid()} {tasks}")


def relock() -> None:
    lock = threading.Lock()
    lock.acquire()
    blocks("futex")
    ask(1)
    lock.acquire()


def queue_get() -> None:
    blocks("futex")
    ask(1)
    queue.Queue().get()


def abba() -> None:
    first, second, ready = threading.Lock(), threading.Lock(), threading.Event()

    def other() -> None:
        with second:
            ready.set()
            blocks("futex")
            first.acquire()

    with first:
        threading.Thread(target=other).start()
        ready.wait()
        blocks("futex")
        ask(2)
        second.acquire()


def fork_lock() -> None:
    # A thread has the lock when another forks: CPython sets its own locks right in the child, and not the program's.
    lock, ready = threading.Lock(), threading.Event()

    def holds() -> None:
        with lock:
            ready.set()
            threading.Event().wait()

    threading.Thread(target=holds, daemon=True).start()
    ready.wait()
    pid = os.fork()
    if pid == 0:
        blocks("futex")
        ask(2)
        lock.acquire()
    blocks("wait4")
    os.waitpid(pid, 0)


def communicate() -> None:
    # What the command leaves behind keeps the pipe (python/cpython: subprocess.communicate() and grandchildren).
    child = subprocess.Popen(["sh", "-c", "sleep 10000 & echo kill $! >&2"], stdout=subprocess.PIPE)
    child.wait()
    blocks("read")
    ask(1)
    child.communicate()


def wait_full_pipe() -> None:
    # Popen.wait() with stdout=PIPE, of which the documentation warns.
    child = subprocess.Popen([sys.executable, "-c", "import os; os.write(1, bytes(1 << 20))"], stdout=subprocess.PIPE)
    say(f"wait {child.pid} write")
    blocks("wait4")
    ask(2)
    child.wait()


def puts(items: multiprocessing.Queue[bytes]) -> None:
    items.put(bytes(1 << 20))


def join_before_get() -> None:
    # A process that has put something into a queue ends only when its feeder has written all of it.
    items: multiprocessing.Queue[bytes] = multiprocessing.get_context("fork").Queue()
    process = multiprocessing.get_context("fork").Process(target=puts, args=(items,))
    process.start()
    blocks("wait4")
    say(f"wait {process.pid} futex")
    ask(2)
    process.join()


def pool_waits_for_itself() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def outer() -> int:
            blocks("futex")
            return pool.submit(int).result()

        result = pool.submit(outer)
        blocks("futex")
        ask(2)
        result.result()


ALL = [relock, queue_get, abba, fork_lock, communicate, wait_full_pipe, join_before_get, pool_waits_for_itself]
if __name__ == "__main__":
    if len(sys.argv) == 1:
        print("\n".join(each.__name__ for each in ALL))
    else:
        next(each for each in ALL if each.__name__ == sys.argv[1])()
