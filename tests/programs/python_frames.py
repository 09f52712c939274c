"""Makes children in every way that Python knows, from frames of every kind; runs on CPython 3.8 and newer.

With the argument "inside" a subinterpreter makes one, and its maker another.
With the argument "tell" it says, as a line of JSON for each child, which frames called: a profile hook sees the call of
the C function that makes it. Without, it makes the same children in the same order. It says "ok" at its end.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any

MAKERS = {
    "fork", "forkpty", "vfork", "fork_exec", "posix_spawn", "system", "start_new_thread", "start_joinable_thread",
}  # fmt: skip


def told(frame: FrameType | None, event: str, function: Any) -> None:
    if event == "c_call" and function.__name__ in MAKERS:
        stack = []
        while frame is not None:
            code = frame.f_code
            name = getattr(code, "co_qualname", code.co_name)
            stack.append((name, os.fsencode(code.co_filename).decode("latin-1"), frame.f_lineno))
            frame = frame.f_back
        os.write(1, json.dumps(stack).encode() + b"\n")


def wait(pid: int) -> None:
    os.waitpid(pid, 0)


def fork() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    wait(pid)
    return 0


def fork_in_a_child() -> None:
    pid = os.fork()
    if pid == 0:
        fork()
        os._exit(0)
    wait(pid)


def logged(function: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> int:
        # a line between

        return function(
            *args
        )

    return wrapper


class Build:
    def __init__(self, command: list[str]) -> None:
        self.command = command

    @logged
    def step(self) -> int:
        return subprocess.Popen(
            self.command,
            close_fds=True,
        ).wait()

    @classmethod
    def made(cls, command: list[str]) -> int:
        return cls(command).step()

    @property
    def result(self) -> int:
        with subprocess.Popen(self.command) as process:
            pass
        return process.returncode

    def __call__(self) -> None:
        fork()


class ForksWhenMade:
    def __init__(self) -> None:
        fork()


def generator(count: int) -> Iterator[int]:
    for number in range(count):
        fork()
        yield number


def delegating() -> Iterator[int]:
    yield from generator(1)


async def coroutine() -> None:
    fork()


async def outer() -> None:
    await coroutine()


def deep(level: int) -> None:
    if level:
        deep(level - 1)
    else:
        fork()


def größe() -> None:
    fork()


def 分叉() -> None:  # noqa: N802 - of two bytes a character in memory
    fork()


def 𝔣() -> None:
    fork()


def recorded() -> None:
    try:
        "".index("missing")
    except ValueError:
        fork()
    finally:
        fork()


def thread(target: Callable[[], object]) -> None:
    one = threading.Thread(target=target)
    one.start()
    one.join()


def run(coro: Coroutine[None, None, None]) -> None:
    with contextlib.suppress(StopIteration):
        coro.send(None)


def long_function() -> None:
    lines = ["def long():", "    x = 0"] + ["    x += 1"] * 3000 + ["    fork()"]
    scope: dict[str, Any] = {"fork": fork}
    exec(compile("\n".join(lines), "<generated>", "exec"), scope)
    scope["long"]()


def again(name: str, line: int) -> None:
    scope: dict[str, Any] = {"fork": fork}
    exec(compile("\n" * line + "def " + name + "(): fork()\n", "<" + name + ">", "exec"), scope)
    scope[name]()


def main() -> None:
    true = ["/bin/true"]
    fork()
    Build.made(true)
    assert Build(true).result == 0
    Build(true)()
    ForksWhenMade()
    list(generator(2))
    list(delegating())
    run(outer())
    (lambda: fork())()
    [fork() for _ in range(2)]
    {fork() for _ in range(1)}
    sorted([2, 1], key=lambda _: fork())
    deep(20)
    größe()
    分叉()
    𝔣()
    recorded()
    thread(fork)
    thread(lambda: thread(lambda: Build.made(true)))
    thread(fork_in_a_child)
    fork_in_a_child()
    os.system("exit 0")
    wait(os.posix_spawn("/bin/true", true, os.environ))
    process = multiprocessing.get_context("fork").Process(target=fork)
    process.start()
    process.join()
    long_function()
    for line in range(20):
        again("ab"[line % 2] * 3, line)
    eval("fork()")


INSIDE = """
import os
def inner():
    os.system("exit 0")
inner()
"""


def inside() -> None:
    try:
        interpreters = importlib.import_module("_interpreters")
    except ImportError:  # before 3.13
        interpreters = importlib.import_module("_xxsubinterpreters")
    one = interpreters.create()
    interpreters.run_string(one, INSIDE)
    os.system("exit 0")
    interpreters.destroy(one)


if __name__ == "__main__":
    if sys.argv[1:] == ["tell"]:
        threading.setprofile(told)
        sys.setprofile(told)
    if sys.argv[1:] == ["inside"]:
        inside()
    else:
        main()
    sys.setprofile(None)
    os.write(1, b"ok\n")
