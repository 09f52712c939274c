"""Makes processes and threads in the ways that Python has, and says who did: a JSON object a line on standard output.

callers.py [COMMAND...]: what is executed, ``true`` unless told otherwise. Each line is of an audit event (PEP 578) that
comes just before a creation: pid and tid of its maker, the thread as Python numbers it, by which of the functions below
it comes, and the innermost frame that the interpreter itself has outside of its standard library, as function, file and
line; null where a thread or worker of the library has none. With CALLERS_ASK, the path of a Unix socket, each line goes
there, and the thread stands still until a byte comes back: whoever listens can look at it meanwhile.

It is a plugin of pytest, too, for workers of its own.
"""

import _posixsubprocess
import asyncio
import concurrent.futures
import functools
import json
import multiprocessing
import os
import platform
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Dict, Optional  # noqa: UP035

COMMAND = sys.argv[1:] or ["true"]
MAKING = ["subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "_thread.start_new_thread",
          "_thread.start_joinable_thread", "_posixsubprocess.fork_exec"]  # fmt: skip
LIBRARY: str = os.path.realpath(sysconfig.get_path("stdlib")) + os.sep
OUT = os.dup(1)
ASK = os.environ.get("CALLERS_ASK")
DOING = "pytest -n"


def told(event: str, _words: object, above: int = 1) -> None:
    if event not in MAKING:
        return
    frame: Optional[FrameType] = sys._getframe(above)  # noqa: UP045 - 3.8 runs it, too
    if event == "os.posix_spawn" and frame is not None and frame.f_code.co_name == "_posix_spawn":
        return  # of subprocess.Popen, which said so
    while frame is not None:
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        path = os.path.realpath(file)
        library = file.startswith("<frozen ") or (path.startswith(LIBRARY) and "-packages" not in path)
        if library and name in ("_bootstrap", "_bootstrap_inner") and path.endswith(("threading.py", "process.py")):
            frame = None
            break
        if not library and file != "<string>":
            break
        frame = frame.f_back
    where = None if frame is None else [name, path, frame.f_lineno]
    line = {"event": event, "pid": os.getpid(), "tid": threading.get_native_id(), "thread": threading.get_ident(),
            "doing": DOING, "where": where}  # fmt: skip
    said = json.dumps(line).encode() + b"\n"
    if ASK is None:
        os.write(OUT, said)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.connect(ASK)
        one.sendall(said)
        one.recv(1)


def work(*_words: object) -> int:
    return 1


class Lazy:
    @functools.cached_property
    def output(self) -> bytes:
        return subprocess.check_output(COMMAND)


def thread() -> None:
    one = threading.Thread(target=work, name="crew")
    one.start()
    one.join()


def timer() -> None:
    one = threading.Timer(0, work)
    one.start()
    one.join()


def popen() -> None:
    subprocess.Popen(COMMAND).wait()


def run() -> None:
    subprocess.run(COMMAND, check=False)


def generator() -> None:
    def made() -> "Iterator[int]":
        subprocess.call(COMMAND)
        yield 1

    list(made())


def system() -> None:
    os.system(" ".join(COMMAND))


def pipe() -> None:
    with os.popen(" ".join(COMMAND)) as one:
        one.read()


def cached() -> None:
    Lazy().output  # noqa: B018


def library_cached() -> None:
    platform.uname().processor  # noqa: B018


def processes_map() -> None:
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        list(pool.map(work, [1, 2]))


def processes_submit() -> None:
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        pool.submit(work, 1).result()


def threads_map() -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [1, 2]))


def threads_run() -> None:
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(subprocess.call, [COMMAND, COMMAND]))


def pool() -> None:
    with multiprocessing.Pool(2) as one:
        one.map(work, [1, 2])


def process(how: str) -> None:
    context: Any = multiprocessing.get_context(how)
    one = context.Process(target=work)
    one.start()
    one.join()


def manager() -> None:
    with multiprocessing.Manager() as one:
        one.dict()


async def subprocess_exec() -> None:
    one = await asyncio.create_subprocess_exec(*COMMAND)
    await one.wait()


async def task() -> None:
    one = await asyncio.create_task(asyncio.create_subprocess_exec(*COMMAND))
    await one.wait()


async def gathered() -> None:
    await asyncio.gather(subprocess_exec(), subprocess_exec())


async def executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, work)


IN_THE_LIBRARY = """
def asked(*words):
    told(event, words, above=2)
    return make(*words)
"""


def tell(module: Any, name: str, event: str) -> None:
    """Have a function of the library tell of itself, for it has no event. What tells it is made to lie in the library,
    as an event does."""
    names: Dict[str, Any] = {"told": told, "make": getattr(module, name), "event": event}  # noqa: UP006
    exec(compile(IN_THE_LIBRARY, threading.__file__, "exec"), names)
    setattr(module, name, names["asked"])


def tell_all() -> None:
    tell(_posixsubprocess, "fork_exec", "_posixsubprocess.fork_exec")  # what multiprocessing makes its helpers by
    if sys.version_info < (3, 11):  # noqa: UP036 - 3.8 runs it, too
        MAKING.remove("subprocess.Popen")  # which calls the same function
    if sys.version_info < (3, 12):
        tell(threading, "_start_new_thread", "_thread.start_new_thread")
    sys.addaudithook(told)


def pytest_configure() -> None:
    tell_all()


def main() -> None:
    global DOING
    tell_all()
    for call in (thread, timer, popen, run, generator, system, pipe, cached, library_cached, processes_map,
                 processes_submit, threads_map, threads_run, pool, manager):  # fmt: skip
        DOING = call.__name__
        call()
    for how in ("fork", "spawn", "forkserver"):
        DOING = f"process, {how}"
        process(how)
    for loop in (subprocess_exec, task, gathered, executor):
        DOING = f"asyncio, {loop.__name__}"
        asyncio.run(loop())


if __name__ == "__main__":
    main()
