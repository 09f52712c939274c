"""Which line of a Python program asked for a child: the innermost one that does not lie in the standard library."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from forklore.abi.patterns import regex
from forklore.abi.text import as_text
from forklore.events import records as ev

_STANDARD: Final = regex(
    rb"(?:^|/)lib(?:32|64)?/(?:python|pypy)(?P<version>\d(?:\.\d+)?t?)/(?P<module>(?!(?:site|dist)-packages/).+)\.pyc?$"
    rb"|(?:^|/)python(?P<zipped>\d+t?)\.zip/(?P<in_zip>.+)\.pyc?$"
    rb"|^<frozen (?P<frozen>[\w.]+)>$"
)
_REMOVED: Final = frozenset((
    "aifc", "asynchat", "asyncore", "audioop", "binhex", "cgi", "cgitb", "chunk", "crypt", "distutils", "formatter",
    "imghdr", "imp", "lib2to3", "macpath", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "parser", "pipes",
    "smtpd", "sndhdr", "spwd", "sunau", "symbol", "telnetlib", "uu", "xdrlib",
))  # fmt: skip
"""Of the standard library of a version from 3.8 on; the one that forklore runs in need not have them."""

_MAKING: Final = regex(
    r"(?:subprocess|threading|os|pty|_threading_local|popen2|webbrowser|platform|runpy"
    r"|(?:multiprocessing|concurrent|asyncio|importlib)(?:\..*)?)$"
)
"""What is there to make processes and threads, or runs what others wrote: no caller where another frame is."""
_BETWEEN: Final = regex(r"(?:functools|contextlib|importlib(?:\..*)?)$")
"""What the program did not call by its name: a decorator, a with statement, an import."""
_BEGINNINGS: Final = frozenset(
    [("threading", "_bootstrap"), ("threading", "_bootstrap_inner"), ("threading", "run"),
     ("multiprocessing.process", "_bootstrap"), ("multiprocessing.process", "run"),
     ("multiprocessing.spawn", "spawn_main"), ("multiprocessing.forkserver", "main"),
     ("multiprocessing.resource_tracker", "main")]
)  # fmt: skip
"""Where a thread or process begins to run what it was given. What lies beyond is not on its way there: in a forked
child, the frames of its parent."""
_LOOP_STEP: Final = ("asyncio.events", "_run")
"""Runs one step of a task: who made the task is not on the stack, only who runs the loop."""
_PACKAGES: Final = ("multiprocessing", "asyncio", "concurrent.futures")
_EXECUTORS: Final = {
    "concurrent.futures.thread": "ThreadPoolExecutor", "concurrent.futures.process": "ProcessPoolExecutor",
}  # fmt: skip
_NAMES: Final = {
    ("subprocess", "__init__"): "subprocess.Popen",
    ("subprocess", "_execute_child"): "subprocess.Popen",
    ("subprocess", "_posix_spawn"): "subprocess.Popen",
    ("threading", "start"): "threading.Thread.start",
    ("threading", "_start_joinable_thread"): "threading.Thread.start",
    ("multiprocessing.process", "start"): "multiprocessing.Process.start",
    ("multiprocessing.pool", "__init__"): "multiprocessing.Pool",
    ("multiprocessing.queues", "put"): "multiprocessing.Queue.put",
    ("asyncio.runners", "run"): "asyncio.run",
}


def asked(script: ev.Script | None) -> tuple[ev.ScriptFrame | None, tuple[str, ...]]:
    """The innermost frame of the program itself, and the calls of the standard library that it made: one, or none.

    Two where an event loop lies between: the one that runs it, and the one that it was made to call. Where a thread or
    process runs nothing but the standard library's code, the frame is the innermost there that is not there to make
    others. None without frames, and where the program's may be further out than was read.
    """
    if script is None or not script.frames:
        return None, ()
    version = script.language.rpartition(" ")[2]
    names = [(ev.raw_bytes(frame.file), ev.raw_bytes(frame.function)) for frame in script.frames]
    frames = [(_module(file, version), as_text(function)) for file, function in names]
    begins = next((at for at, frame in enumerate(frames) if _is(frame, _BEGINNINGS)), len(frames))
    own = frames[: begins or 1]
    caller = next((at for at, (module, _name) in enumerate(own) if module is None), None)
    if caller is None and begins == len(frames) and script.end != "outermost":
        return None, _calls(own)
    if caller is None:
        caller = next((at for at, (module, _name) in enumerate(own) if not _MAKING.match(module or "")), len(own) - 1)
        inside = [one for one in own[:caller] if one[0] != own[caller][0]]
        return script.frames[caller], _calls(inside or own[:caller])
    return script.frames[caller], _calls(own[:caller])


def _is(frame: tuple[str | None, str], among: Sequence[tuple[str, str]] | frozenset[tuple[str, str]]) -> bool:
    return (frame[0] or "", frame[1].rpartition(".")[2]) in among


def _module(file: bytes, version: str) -> str | None:
    """The module of the standard library that lies there; None for any other file."""
    found = _STANDARD.search(file)
    if found is None:
        return None
    told = found["version"] or found["zipped"]
    if told is not None and told.decode() not in (version, version.replace(".", "")):
        return None
    name = as_text(found["module"] or found["in_zip"] or found["frozen"]).replace("/", ".").removesuffix(".__init__")
    top = name.partition(".")[0]
    return name if top in sys.stdlib_module_names or top in _REMOVED else None


def _calls(frames: Sequence[tuple[str | None, str]]) -> tuple[str, ...]:
    """What was called, out of the standard library's frames inside of the caller, innermost first."""
    step = next((at for at, frame in enumerate(frames) if _is(frame, (_LOOP_STEP,))), None)
    parts = [frames] if step is None else [frames[step + 1 :], frames[:step]]
    return tuple(filter(None, map(_called, parts)))


def _called(frames: Sequence[tuple[str | None, str]]) -> str:
    named = [(module, function) for module, function in frames if module is not None]
    outermost = next(((module, name) for module, name in reversed(named) if not _BETWEEN.match(module)), None)
    if outermost is None:
        return "" if not named else _call(*named[-1])
    if outermost[0].startswith("concurrent.futures.") and outermost[1].rpartition(".")[2] in ("map", "submit"):
        pool = next((_EXECUTORS[module] for module, _name in reversed(named) if module in _EXECUTORS), "Executor")
        return f"{pool}.{outermost[1].rpartition('.')[2]}"
    return _call(*outermost)


def _call(module: str, function: str) -> str:
    # From Python 3.11 on a function can come with its class.
    owner, _, name = function.partition(".<locals>")[0].rpartition(".")
    known = _NAMES.get((module, name))
    if known is not None:
        return known
    if name == "<module>":
        return f"import {module}"
    if module.startswith("asyncio.") and module.endswith("_events"):
        return f"loop.{name}"
    package = next((one for one in _PACKAGES if module.startswith(f"{one}.")), module)
    if module == "multiprocessing.context":
        return f"{package}.{name}"
    if name == "__init__":
        return f"{package}.{owner}" if owner else module
    return f"{package}.{owner}.{name}" if owner else f"{package}.{name}"
