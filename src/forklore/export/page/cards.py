"""The card of each task: titles with lines, as JSON. What many tasks have in common is made once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from forklore.abi.flags import CLONE, CLONE3, Vocabulary
from forklore.abi.text import as_text, printable
from forklore.abi.units import TaskId
from forklore.model.attributions import form_of
from forklore.model.environment import environment_changes
from forklore.model.tasks import Task, Trace
from forklore.model.timing import own_cpu
from forklore.model.vfork_holds import Holding
from forklore.report.stacks import ShownStacks
from forklore.report.styled_lines import plain
from forklore.report.task_facts import Companions, command_text, later, made_texts, no_creation, resources
from forklore.report.tree import label
from forklore.report.tree.edges import Edges
from forklore.report.tree.fold import Leaf, TreeRow
from forklore.report.tree.label import Detail
from forklore.report.words import words
from forklore.report.words.deaths import death_words, gone_words

Lines = Iterator[tuple[str, str]]


class Cards:
    """Makes the cards of a trace; what tasks shared is on them where the trace was read with it."""

    def __init__(self, trace: Trace, edges: Edges, wrong: Mapping[TaskId, Sequence[tuple[str, str]]]) -> None:
        """``wrong``: what was found of each task."""
        self._trace = trace
        self._wrong = wrong
        self._sharing = trace.sharing
        self._edges = edges
        self._holding = Holding(trace)
        self._companions = None if trace.sharing is None else Companions(trace, trace.sharing)
        self._own = own_cpu(trace)
        self._known: dict[object, list[msgspec.Raw]] = {}

    def card(self, task: Task) -> list[msgspec.Raw]:
        """All that is known of a task, each part as it stands in the file."""
        found: list[msgspec.Raw] = []
        for title, lines in (
            ("What is wrong", iter(self._wrong.get(task.id, ()))),
            ("How it went", self._went(task)),
            ("What it ran", self._ran(task)),
            ("Refused", self._refused(task)),
        ):
            found += _parts(title, lines)
        found += self._once("made", self._made_key(task), task)
        for index in range(len(task.images)):
            found += _parts(*self._environment(task, index))
        if task.creation is None:
            found += _parts("What it has of its creator", iter([("", no_creation(task))]))
        elif self._sharing is not None:
            found += self._once("resources", self._resources_key(task), task)
        for section in later(self._trace, task, self._holding, self._companions, verbose=True):
            found.append(_encoded(section.title, section.lines))
        found += self._once("stack", self._stack_key(task), task)
        return found

    def _once(self, what: str, key: object, task: Task) -> list[msgspec.Raw]:
        if key is not None:
            key = what, key
            known = self._known.get(key)
            if known is not None:
                return known
        made = {"made": self._made, "resources": self._resources, "stack": self._stack}[what](task)
        if key is not None:
            self._known[key] = made
        return made

    def _went(self, task: Task) -> Lines:
        yield "ended", gone_words(task.gone) if task.death is None else death_words(task.death, task.tgid)
        if (age := task.lifetime) is not None:
            yield "lived", words.span(age)
        if (after := task.exec_after) is not None and task.how != "root":
            yield "executed", f"after {words.span(after)}"
        own = self._own.get(task.id)
        if task.cpu is not None:
            with_children = "" if own == task.cpu else f"{words.span(task.cpu * 1000)} with the children it waited for"
            alone = "" if own is None else words.span(own * 1000)
            yield "CPU", ", ".join(filter(None, [alone, with_children]))
        if task.peak is not None:
            children = ", of it or a child that it waited for" if task.children else ""
            yield "memory", f"{words.size(task.peak * 1024)} at most{children}"
        if task.tracer_held:
            yield "held by forklore", words.span(task.tracer_held)
        row = TreeRow([task], each=1)
        for part in label.task_notes(row, self._trace):
            yield "", part
        for stop in task.stops:
            until = "" if stop.resumed is None or stop.t is None else f" for {words.span(stop.resumed - stop.t)}"
            yield "stopped", f"by {words.signal(stop.signal)}{until}"

    def _ran(self, task: Task) -> Lines:
        for image in task.images:
            when = "" if image.t is None or task.created is None else f"after {words.span(image.t - task.created)}"
            yield "exec", " ".join(filter(None, [words.executed(image.path, image.at), when]))
            if isinstance(image.exe, bytes) and image.exe != image.path:
                yield "executable", words.path(image.exe)
            if text := command_text(image):
                yield "command", text
        if task.title:
            yield "its own title", words.command(task.title)

    def _refused(self, task: Task) -> Lines:
        leaves: list[Leaf] = [*task.failures, *task.failed_execs, *task.calls]
        for leaf in leaves:
            line, why = label.leaf_line(TreeRow([], each=1, leaves=[leaf]), Detail.FULL)
            text = plain(line)
            yield text[:1], text[1:].strip() + (f": {plain(why)}" if why else "")

    def _made_key(self, task: Task) -> object:
        # Addresses and descriptors of the call differ from task to task.
        creation = task.creation
        if creation is None or creation.details() or creation.problems or task.names:
            return None
        return form_of(task)

    def _made(self, task: Task) -> list[msgspec.Raw]:
        return _parts("How it was made", self._call(task))

    def _call(self, task: Task) -> Lines:
        edge = self._edges.of(task)
        if edge is not None and (text := edge.text()):
            yield "by", text
        for text in made_texts(task, self._edges, verbose=True):
            yield "", text
        creation = task.creation
        if creation is None:
            return
        yield "call", creation.text()
        vocabulary: Vocabulary = CLONE3 if creation.call == "clone3" else CLONE
        for name in creation.flags.names:
            flag = vocabulary.by_name(name)
            yield name, "" if flag is None else f"{flag.meaning} (since Linux {flag.since})"
        if creation.flags.unknown:
            yield f"{creation.flags.unknown:#x}", "bits that have no name for this call"
        if creation.exit_signal:
            yield words.signal(creation.exit_signal), "what the parent gets when the child ends"
        yield from creation.details()
        for problem in creation.problems:
            yield "in its call", problem

    def _environment(self, task: Task, index: int) -> tuple[str, Lines]:
        changes = environment_changes(self._trace, task, index)
        which = "its exec" if len(task.images) == 1 else f"exec {index + 1}"
        title = f"Environment that {which} changed"
        if changes is None:
            return title, iter(())
        if not changes:
            return title, iter([("", "nothing")])
        return title, (
            (as_text(name), _change(before, after)) for name, before, after in changes
        )

    def _resources_key(self, task: Task) -> object:
        creation = task.creation
        assert creation is not None
        answers = None if self._sharing is None else self._sharing.answers.get(task.id)
        return task.form, creation.stack is None, creation.words.stack is None, creation.cgroup, id(answers)

    def _resources(self, task: Task) -> list[msgspec.Raw]:
        assert self._sharing is not None
        return [_encoded(section.title, section.lines) for section in resources(task, self._sharing)]

    def _stack_key(self, task: Task) -> object:
        return None if task.stack is None else (task.stack.number, None if task.script is None else task.script.script)

    def _stack(self, task: Task) -> list[msgspec.Raw]:
        texts = ShownStacks(verbose=True).texts(task)
        return _parts("Its creator's call stack then, innermost first", (_frame(text) for text, _ in texts))


def _frame(text: str) -> tuple[str, str]:
    number, space, rest = text.partition(" ")
    return (number, rest) if space and number.startswith("#") else ("", text)


def _change(before: bytes | None, after: bytes | None) -> str:
    old, new = (None if value is None else printable(value) for value in (before, after))
    if old is None:
        return f"set to {new}"
    return f"removed; it was {old}" if new is None else f"{old} → {new}"


def _parts(title: str, lines: Lines) -> list[msgspec.Raw]:
    found = tuple(lines)
    return [_encoded(title, found)] if found else []


def _encoded(title: str, lines: tuple[tuple[str, str], ...]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode((title, [(printable(term), printable(text)) for term, text in lines])))

