"""Which line of a Python program asked for a child: the first one that is not of the standard library's own modules."""

from __future__ import annotations

import re
from typing import Final

from forklore.abi.text import as_text
from forklore.events import records as ev

_STANDARD: Final = re.compile(
    rb"(?:^|/)(?:(?:python|pypy)\d(?:\.\d+)?t?|Lib|python\d+\.zip)/"
    rb"(?P<module>(?:subprocess|threading|os|pty|_threading_local|popen2|webbrowser|platform"
    rb"|(?:multiprocessing|concurrent/futures|asyncio)/\w+))\.pyc?$"
    rb"|^<frozen (?P<frozen>os|threading|subprocess)>$"
)
_PACKAGES: Final = ("multiprocessing", "asyncio", "concurrent.futures")
_NAMES: Final = {
    ("subprocess", "__init__"): "subprocess.Popen",
    ("subprocess", "_execute_child"): "subprocess.Popen",
    ("subprocess", "_posix_spawn"): "subprocess.Popen",
    ("threading", "start"): "threading.Thread.start",
    ("threading", "_start_joinable_thread"): "threading.Thread.start",
    ("multiprocessing.process", "start"): "multiprocessing.Process.start",
    ("multiprocessing.pool", "__init__"): "multiprocessing.Pool",
    ("multiprocessing.context", "Pool"): "multiprocessing.Pool",
    ("concurrent.futures.thread", "submit"): "ThreadPoolExecutor.submit",
    ("concurrent.futures.process", "submit"): "ProcessPoolExecutor.submit",
    ("concurrent.futures.thread", "map"): "ThreadPoolExecutor.map",
    ("concurrent.futures._base", "map"): "Executor.map",
    ("concurrent.futures.process", "map"): "ProcessPoolExecutor.map",
}


def asked(script: ev.Script | None) -> tuple[ev.ScriptFrame | None, str]:
    """The innermost frame of the program itself, and the standard library's call that it made; empty for none.

    A frame of the standard library where no other is there; None without any.
    """
    if script is None or not script.frames:
        return None, ""
    last: tuple[str, str] | None = None
    for frame in script.frames:
        module = _module(ev.raw_bytes(frame.file))
        if module is None:
            return frame, "" if last is None else _call(*last)
        last = module, as_text(ev.raw_bytes(frame.function))
    return script.frames[-1], "" if last is None else _call(*last)


def _module(file: bytes) -> str | None:
    found = _STANDARD.search(file)
    if found is None:
        return None
    return (found["module"] or found["frozen"]).decode().replace("/", ".")


def _call(module: str, function: str) -> str:
    # From Python 3.11 on a function can come with its class.
    owner, _, name = function.rpartition(".")
    known = _NAMES.get((module, name))
    if known is not None:
        return known
    package = next((one for one in _PACKAGES if module.startswith(f"{one}.")), module)
    return f"{package}.{owner}" if name == "__init__" and owner else f"{package}.{function}"
