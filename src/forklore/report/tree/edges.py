"""Who made a task, in short: the library call, the function that called it, and what the task was given to run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from forklore.abi.text import as_text, printable
from forklore.events import records as ev
from forklore.model.attributions import Attributions, form_of, runs_of
from forklore.model.roles import role_by_maker
from forklore.model.tasks import Failure, Task, Trace
from forklore.report.words import words
from forklore.report.words.code import clipped, function_words, place_words, script_place, script_words

if TYPE_CHECKING:
    from forklore.model.attribution import Attribution

_LIBRARY: Final = 60
_COMM: Final = 15
"""TASK_COMM_LEN without its NUL."""
_PYTHON_THREAD: Final = ("threading.Thread.start",)
"""What executors and pools give to theirs is a function of the library's own."""
_PYTHON_CALL: Final = ("_thread.start_new_thread",)
"""Every thread of the interpreter is made by pthread_create with one function of its own."""
_OWN_ROUTINE: Final = frozenset({"clone", "clone3"})
"""Library calls whose ``fn`` is the program's own; that of the others is a helper of the library."""


class Edge(Struct, frozen=True, gc=False):
    """The edge from a creator to what it made."""

    library: str
    """``popen → posix_spawn``, ``pthread_create(worker)``; empty where it is not known."""
    caller: str
    """``start_pool, pool.c:88``, ``build.py:41 compile_all``; empty where it is not known."""
    function: str
    """The caller without its line."""
    runs: str
    """What a thread was given to run; empty where it is not known, and for what a library gives its own helpers."""
    sure: bool
    last: str = ""
    """The library call that made the system call: ``posix_spawn`` for popen; empty where it is not known."""
    outer: str = ""
    """The library call that the program made: ``std::thread(work)``; empty where it is not known."""
    role: str = ""
    """What a process that executes nothing is for, where its maker tells that."""
    place: str = ""
    """The caller in as little room as it takes: without its line, or in an interpreter ``build.py:41``."""

    def text(self, *, brief: bool = False, short: bool = False) -> str:
        """``pthread_create(worker) ← start_pool, pool.c:88``, with ``≈`` before what is a guess. ``brief``: no line.
        ``short``: nor the calls in between."""
        if short:
            return _joined(self.outer, self.place, sure=self.sure)
        return _joined(self.library, self.function if brief else self.caller, sure=self.sure)


def edges_text(edges: Sequence[Edge], *, brief: bool = False, short: bool = False) -> str:
    """The text of tasks that are shown together: several callers are counted. Empty for none."""
    if len(edges) < 2:
        return edges[0].text(brief=brief, short=short) if edges else ""
    libraries, lasts = {edge.library for edge in edges}, {edge.last for edge in edges}
    library = libraries.pop() if len(libraries) == 1 else lasts.pop() if len(lasts) == 1 else ""
    return _joined(library, words.count(len(edges), "site"), sure=all(edge.sure for edge in edges))


def _joined(library: str, caller: str, *, sure: bool) -> str:
    text = f"{library} ← {caller}" if library and caller else library or (f"← {caller}" if caller else "")
    return text if sure or not text else f"≈ {text}"


class Edges:
    """Who made what in a trace. What has one stack and one call is worked out once."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._attributions = Attributions()
        self._edges: dict[object, Edge | None] = {}
        self._usual: dict[object, bool] = {}

    def attribution(self, made: Task | Failure) -> Attribution | None:
        """Who made it, as the model has it; None where its call was not seen."""
        return self._attributions.of(made)

    def of(self, made: Task | Failure) -> Edge | None:
        """Who made it, in short; None where nothing is known that the call itself does not say."""
        key = form_of(made)
        if key is None:
            return self._edge(made)
        if key not in self._edges:
            self._edges[key] = self._edge(made)
        return self._edges[key]

    def usual(self, made: Task | Failure) -> bool:
        """Whether its call has the flags that the C library always passes for what was asked of it."""
        from forklore.model.attribution import usual

        key = form_of(made) or (made.form if isinstance(made, Task) else made.creation)
        if (known := self._usual.get(key)) is not None:
            return known  # the call need not be decoded
        creation = made.creation
        if creation is None:
            return True
        if creation.is_seen or self._some_seen:
            found = usual(creation, self.attribution(made))
        else:  # that no call was seen is said once, of the whole trace
            from forklore.decode import library_forms

            raw = creation.flags.raw
            found = raw is None or raw in library_forms.FLAGS
        self._usual[key] = found
        return found

    @cached_property
    def _some_seen(self) -> bool:
        made = (task.creation for task in self._trace.tasks.values())
        return any(creation is not None and creation.is_seen for creation in made)

    def _edge(self, made: Task | Failure) -> Edge | None:
        found, runs = self.attribution(made), runs_of(made)
        if found is None:
            return None
        routine = self.routine(found, runs)
        function = caller = shortest = does = ""
        if found.script_frame is not None:
            frame = found.script_frame
            does = role_by_maker(as_text(ev.raw_bytes(frame.file)), as_text(ev.raw_bytes(frame.function)))
            caller = function = script_words(found.script_frame)
            shortest = script_place(found.script_frame) or caller
        elif found.caller is not None:
            place, line = found.caller.place, found.caller_line
            caller, function = place_words(place, line), function_words(place, line)
        if not routine and not caller and _says_nothing(made, found):
            return None
        # What an interpreter does for its own call is told on the card.
        shown = 1 if found.chain[:1] == _PYTHON_CALL else found.script_calls or None
        library = clipped(" → ".join(found.chain[:shown]), _LIBRARY)
        outer = clipped(found.chain[0], _LIBRARY) if found.chain else ""
        if library and routine:
            library, outer = f"{library}({routine})", f"{outer}({routine})"
        if not (library or caller or routine):
            return None
        sure = found.sure and found.source != "fingerprint"
        last = clipped(found.chain[-1], _LIBRARY) if found.chain else ""
        return Edge(library, caller, function, routine, sure, last, outer, does, shortest or function)

    def routine(self, found: Attribution, runs: ev.Runs | None) -> str:
        """What a task was given to run; empty where that is a helper of a library or interpreter, or not known."""
        if runs is not None and runs.script is not None and found.chain[:1] == _PYTHON_THREAD:
            return clipped(as_text(ev.raw_bytes(runs.script.function)))
        if runs is None or found.script_calls or found.chain[:1] == _PYTHON_CALL:
            return ""
        if runs.routine is not None or runs.routine_place is not None:
            place = None if runs.routine_place is None else self._trace.code.places[runs.routine_place]
            if len(found.chain) > 1 and found.caller and place and place.module is not found.caller.place.module:
                # std::thread gives pthread_create a function of its own: what it calls in turn is not known.
                return ""
            return self.place(runs.routine_place, runs.routine)
        if found.chain and found.chain[-1] not in _OWN_ROUTINE:
            return ""
        return self.place(runs.fn_place, runs.fn)

    def place(self, number: int | None, address: int | None, *, source: bool = False) -> str:
        """A place of the trace, or else its address. ``source``: with its line."""
        place = None if number is None else self._trace.code.places[number]
        if place is not None:
            return place_words(place) if source else function_words(place)
        return "" if address is None else f"{address:#x}"


def _says_nothing(made: Task | Failure, found: Attribution) -> bool:
    # A clone that is a fork by its flags is shown as one without any fingerprint.
    creation = made.creation
    if found.source == "log":
        return creation is not None and found.chain == (creation.call,)
    return found.source == "fingerprint" and creation is not None and found.chain in (("fork",), ("vfork",))


def own_name(task: Task) -> str:
    """The name that a task was given after its creation or last exec, escaped; empty for one with none of its own.

    A thread's in Python is its whole name there, of which the kernel knows no more than 15 bytes.
    """
    named = None if task.runs is None or task.images else task.runs.name
    whole = b"" if named is None else ev.raw_bytes(named)
    if not task.names or task.comm != task.names[-1].comm:
        return clipped(as_text(whole))
    if task.images and task.images[-1].comm == task.comm:
        return ""
    comm = task.comm or b""
    return clipped(as_text(whole)) if whole[:_COMM] == comm else printable(comm)
