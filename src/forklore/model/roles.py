"""What processes of well-known libraries are for, told by their arguments."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from forklore.abi.patterns import regex

_BY_CODE: Final = (
    (regex(rb"from multiprocessing\.(?:resource|semaphore)_tracker import main"), "multiprocessing tracker"),
    (regex(rb"from multiprocessing\.forkserver import main"), "multiprocessing forkserver"),
    (regex(rb"from multiprocessing\.spawn import spawn_main"), "multiprocessing worker"),
    (regex(rb"import sys;exec\(eval\(sys\.stdin\.readline\(\)\)\)"), "execnet worker, as of pytest -n"),
)
"""The program after ``python -c``. Sources: CPython Lib/multiprocessing/{resource_tracker,forkserver,spawn}.py, which
concurrent.futures.ProcessPoolExecutor uses too; execnet's gateway_io.popen_args."""


_BY_MAKER: Final = {("multiprocessing/forkserver.py", "main"): "multiprocessing worker"}
"""The file and function that forked it, of a process that executed nothing. Source: CPython Lib/multiprocessing."""


def role_by_maker(file: str, function: str) -> str:
    """What a process that such code forked is for; empty for all that is not known."""
    name = "/".join(file.rsplit("/", 2)[-2:])
    return _BY_MAKER.get((name, function.rpartition(".")[2]), "")


def role(argv: Sequence[bytes]) -> str | None:
    """What a process with these arguments is for; None for all that is not known."""
    if b"-c" not in argv:  # as of nearly all, and all are asked
        return None
    for word, code in pairwise(argv):
        if word == b"-c":
            return next((name for begins, name in _BY_CODE if begins.match(code)), None)
    return None
