"""Compares the tree of a tool's log with the real one, task by task: what it says wrong, and what it leaves open.

Runs are told apart by nothing but what the program does, so it should give each of its tasks an end of its own, as
``many_births`` does.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from forklore.model.build import built
from forklore.model.tasks import Task, Trace
from forklore.sources.files import open_any

PATIENCE: Final = 120


@dataclass
class Comparison:
    """What is wrong in a log's tree, and of how many tasks a fact is said to be unknown, by its name."""

    wrong: list[str] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)

    def open(self, what: str) -> None:
        """Count one more task of which ``what`` is not known."""
        self.unknown[what] = self.unknown.get(what, 0) + 1


def load(path: Path) -> Trace:
    """A trace or log as it is shown."""
    with closing(open_any(path)) as trace:
        return built(trace)


def recorded(
    program: list[str], folder: Path, *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> Trace:
    """The real tree: what forklore itself saw of the program, in the surroundings given."""
    import sys

    trace = folder / "trace"
    command = [sys.executable, "-m", "forklore", "run", "-q", "-o", str(trace), "--", *program]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=PATIENCE, cwd=cwd, env=env)
    return load(trace)


def compare(real: Trace, told: Trace) -> Comparison:
    """Put each task of ``told`` beside the one of ``real`` that it must be."""
    found = Comparison()
    if not told.roots:
        found.wrong.append("no task")
        return found
    pairs = [(real.roots[0], told.roots[0])]
    lost: list[Task] = []
    loose = list(told.roots[1:])
    done = 0
    while done < len(pairs) or lost:
        while done < len(pairs):
            pairs += _children(*pairs[done], real, told, lost)
            done += 1
        pair = _found_again(lost, loose)
        if pair is None:
            break
        found.open("creator")
        pairs.append(pair)
    found.wrong += [f"{_name(task)}: not in the log" for task in lost]
    same = {theirs.id: ours.id for ours, theirs in pairs}
    for ours, theirs in pairs:
        _facts(ours, theirs, found)
        if theirs.parent is not None and same.get(theirs.parent) != ours.parent:
            found.wrong.append(f"{_name(theirs)}: another parent")
    found.wrong += [f"{_name(task)}: in the log alone" for task in told.tasks.values() if task.id not in same]
    return found


def _children(
    ours: Task, theirs: Task, real: Trace, told: Trace, lost: list[Task]
) -> Iterator[tuple[Task, Task]]:
    here = [told.tasks[number] for number in theirs.children]
    want = [real.tasks[number] for number in ours.children]
    if len(here) == len(want) and all(_may_be(one, other) for one, other in zip(want, here, strict=True)):
        yield from zip(want, here, strict=True)
        return
    for child in want:
        match = next((other for other in here if _may_be(child, other)), None)
        if match is None:
            lost.append(child)
        else:
            here.remove(match)
            yield child, match


def _found_again(lost: list[Task], loose: list[Task]) -> tuple[Task, Task] | None:
    """One of those whose creation the log does not show: by how it ended, else any that may be it."""
    for alike in (_ended_alike, _may_be):
        for ours in lost:
            for theirs in loose:
                if alike(ours, theirs):
                    lost.remove(ours)
                    loose.remove(theirs)
                    return ours, theirs
    return None


def _ended_alike(ours: Task, theirs: Task) -> bool:
    return _end(ours) == _end(theirs) and (ours.gone == "superseded") == (theirs.gone == "superseded")


def _name(task: Task) -> str:
    end = task.death and (f"exit {task.death.code}" if task.death.code is not None else f"signal {task.death.signal}")
    return f"{task.kind} {task.tid} ({end or task.gone})"


def _end(task: Task) -> tuple[int | None, int | None] | None:
    death = task.death
    return None if death is None or death == type(death)() else (death.code, death.signal)


def _may_be(ours: Task, theirs: Task) -> bool:
    return (_end(theirs) in (None, _end(ours)) or ours.gone == "superseded") and theirs.kind in (ours.kind, "task")


def _facts(ours: Task, theirs: Task, found: Comparison) -> None:
    about = _name(theirs)
    for what, real, told in (
        ("pid", True, bool(theirs.tid)),
        ("kind", ours.kind, None if theirs.kind == "task" else theirs.kind),
        ("pid inside", ours.ns_tids[1:], theirs.ns_tids[1:] or (None if ours.ns_tids else ())),
        ("end", _end(ours), _end(theirs)),
        ("images", _images(ours), _images(theirs)),
        ("refused execs", [f.errnos for f in ours.failed_execs], [f.errnos for f in theirs.failed_execs]),
        ("calls", _calls(ours), _calls(theirs)),
        ("refusals", _refusals(ours), _refusals(theirs)),
        ("call", *_creations(ours, theirs)),
        ("exit signal", *_exit_signals(ours, theirs)),
        ("superseded", ours.gone == "superseded", theirs.gone == "superseded"),
    ):
        if told == real:
            continue
        if told is None or told is False or told in ([], ()) or _less(real, told):
            found.open(what)
        else:
            found.wrong.append(f"{about}: {what} {told}, in fact {real}")


def _less(real: Any, told: Any) -> bool:
    """Whether a list has only what is real, with None for what is not known, and no more."""
    if not isinstance(told, list) or not isinstance(real, list):
        return False
    rest = list(real)
    for one in told:
        alike = (x for x in rest if len(x) == len(one))
        match = next((x for x in alike if all(a is None or a == b for a, b in zip(one, x, strict=True))), None)
        if match is None:
            return False
        rest.remove(match)
    return True


def _images(task: Task) -> list[tuple[Any, ...]]:
    return [(image.path if isinstance(image.path, bytes) else None,) for image in task.images]


def _calls(task: Task) -> list[tuple[str, int | None]]:
    return [(call.call.text().partition("(")[0], call.result) for call in task.calls]


def _refusals(task: Task) -> list[tuple[str, int | None, int | None]]:
    return [(f.creation.call, f.creation.flags.raw, f.errno) for f in task.failures]


def _creations(ours: Task, theirs: Task) -> tuple[Any, Any]:
    made, said = ours.creation, theirs.creation
    if made is None:
        return None, None
    if said is None or said.call == "unknown":
        return (), None
    if said.flags.raw is None:
        return (made.call,), (said.call,) if said.call != made.call else None
    return (made.call, made.flags.raw), (said.call, said.flags.raw)


def _exit_signals(ours: Task, theirs: Task) -> tuple[int | None, int | None]:
    made, said = ours.creation, theirs.creation
    if made is None or said is None or said.flags.raw is None:  # then the call is not known
        return None, None
    return made.exit_signal, said.exit_signal


@dataclass(frozen=True)
class Variant:
    """One way to have a tool write its log. ``{log}`` in ``words`` is where to; without it, the log is what it says on
    standard error. ``after``: a command whose output is the log, with ``{log}`` in it, too."""

    words: tuple[str, ...]
    after: tuple[str, ...] = ()
    expected: Callable[[Trace], str | None] = lambda _trace: None
    """What else of the log's tree is wrong."""

    @property
    def name(self) -> str:
        """For a table."""
        return " ".join(word for word in self.words[1:] if word not in ("-f", "-o", "{log}")) or "(nothing else)"


@dataclass(frozen=True)
class Outcome:
    """What came of a variant: ``missing`` says why it could not be tried."""

    variant: Variant
    comparison: Comparison
    tasks: int = 0
    missing: str | None = None


def tried(variant: Variant, program: list[str], real: Trace, keep: Path | None = None) -> Outcome:
    """Run the program in that way, and compare."""
    with tempfile.TemporaryDirectory(prefix="forklore-variant-") as name:
        log = Path(name) / "log"
        command = [word.replace("{log}", str(log)) for word in variant.words]
        ran = subprocess.run([*command, *program], capture_output=True, timeout=PATIENCE)
        if not any("{log}" in word for word in variant.words):
            log.write_bytes(ran.stderr)
        elif variant.after:
            after = [word.replace("{log}", str(log)) for word in variant.after]
            log.write_bytes(subprocess.run(after, capture_output=True, timeout=PATIENCE, check=True).stdout)
        if ran.returncode and not ran.stdout.startswith(b"ok"):
            said = ran.stderr.decode(errors="replace").splitlines()
            return Outcome(variant, Comparison(), missing=said[-1] if said else f"exit status {ran.returncode}")
        if keep is not None:
            (keep / "-".join(variant.words[1:]).replace("/", "_")).write_bytes(log.read_bytes())
        told = load(log)
        found = compare(real, told)
        if (wrong := variant.expected(told)) is not None:
            found.wrong.append(wrong)
        return Outcome(variant, found, len(told.tasks))


def table(outcomes: list[Outcome]) -> Iterator[str]:
    """A line a variant, with what is wrong below it."""
    width = max(len(outcome.variant.name) for outcome in outcomes)
    for outcome in outcomes:
        unknown = ", ".join(f"{what} of {count}" for what, count in outcome.comparison.unknown.items())
        said = outcome.missing or (f"{outcome.tasks:>3} tasks" + (f"; unknown: {unknown}" if unknown else ""))
        mark = "-" if outcome.missing else "✗" if outcome.comparison.wrong else "✓"
        yield f"{mark} {outcome.variant.name:<{width}}  {said}"
        for wrong in outcome.comparison.wrong:
            yield f"    {wrong}"
