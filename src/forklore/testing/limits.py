"""What a test may do, by its markers and the options, and what it did beyond that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import fields, replace

from forklore.testing.account import Account, Made

_SHOWN: Final = 8


class LimitError(ValueError):
    """A limit that there is not, or a value that it cannot have; the text says what there is."""


class Limits(Struct, frozen=True):
    """All of them, with what holds where nothing is said."""

    max_processes: int | None = None
    max_threads: int | None = None
    no_leftovers: bool = False
    no_leaked_fds: bool = False
    no_zombies: bool = False
    no_fork_after_threads: bool = False
    forbid_exec: tuple[str, ...] = ()
    """Patterns as of a shell, for a program's path or base name, or for a whole command line."""

    def with_(self, given: Mapping[str, Any]) -> Limits:
        """These with what a marker says. Raises LimitError."""
        known = {field.name for field in fields(Limits)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise LimitError(f"the marker forklore has no {unknown[0]}; there are {', '.join(sorted(known))}")
        return replace(self, **{name: _value(name, value) for name, value in given.items()})

    def counted(self) -> Limits:
        """Those that can be judged as soon as the test itself is over."""
        return replace(self, no_leftovers=False, no_leaked_fds=False, no_zombies=False)

    def afterwards(self) -> Limits:
        """Those that can be judged only when its fixtures have cleaned up."""
        return Limits(
            no_leftovers=self.no_leftovers, no_leaked_fds=self.no_leaked_fds, no_zombies=self.no_zombies
        )


def _value(name: str, value: object) -> object:
    if name.startswith("max_"):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise LimitError(f"{name} is a number from 0, not {value!r}")
        return value
    if name == "forbid_exec":
        given = (value,) if isinstance(value, str) else value
        if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in given):
            raise LimitError(f"forbid_exec is a pattern or a list of them, not {value!r}")
        return tuple(given)
    if not isinstance(value, bool):
        raise LimitError(f"{name} is True or False, not {value!r}")
    return value


def broken(limits: Limits, account: Account) -> list[str]:
    """A sentence for each limit that was not kept, with what broke it."""
    told = []
    for name, made in (("max_processes", account.processes), ("max_threads", account.threads)):
        most = getattr(limits, name)
        if most is not None and len(made) > most:
            what = name.removeprefix("max_")
            told.append(f"{len(made)} {what} were made, and {name}={most}: {several(made)}")
    if limits.no_leftovers and account.left:
        told.append(f"left behind, and no_leftovers: {several(account.left)}")
    if limits.no_zombies and account.zombies:
        told.append(f"ended and never waited for, and no_zombies: {several(account.zombies)}")
    if limits.no_leaked_fds:
        leaks = [*account.leaked, *_of(account, "descriptor-survived-exec"), *_of(account, "pipe-held-by-bystander")]
        if leaks:
            told.append(f"leaked, and no_leaked_fds: {'; '.join(leaks[:_SHOWN])}{_more(leaks)}")
    if limits.no_fork_after_threads and (forks := _of(account, "fork-with-threads")):
        told.append(f"forked beside its own threads, and no_fork_after_threads: {'; '.join(forks[:_SHOWN])}")
    forbidden = [(made, pattern) for made in account.processes for pattern in limits.forbid_exec if _ran(made, pattern)]
    told += [f"executed, and forbid_exec={pattern!r}: {made.text()}" for made, pattern in forbidden[:_SHOWN]]
    return told


def _of(account: Account, rule: str) -> list[str]:
    return [found.text for found in account.findings if found.rule == rule]


def _ran(made: Made, pattern: str) -> bool:
    names = [name for path in made.programs for name in (path, path.rpartition("/")[2])]
    return any(fnmatchcase(name, pattern) for name in (*names, made.command) if name)


def several(made: Sequence[Made]) -> str:
    """``4711 sh -c x, 4712 sleep 9``."""
    return ", ".join(each.text() for each in made[:_SHOWN]) + _more(made)


def _more(all_: Sequence[object]) -> str:
    return f" and {len(all_) - _SHOWN} more" if len(all_) > _SHOWN else ""
