"""The chains for people: a sentence, then who waits for whom. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from forklore.abi.text import printable
from forklore.decode.task_states import state_text
from forklore.features.why.conclude import Certainty, Chain, Conclusion, RootKind
from forklore.features.why.graph import Ender, Graph, Held, Role, Task
from forklore.features.why.sentences import headline, who
from forklore.report.styled_lines import Line, Piece, fit, wrapped
from forklore.report.styled_lines import Role as Style
from forklore.report.words.words import count, span

_ENDERS: Final = 6
"""Those who could end a wait and are shown; more are counted."""
_DEPTH: Final = 12
_REASONS: Final = 6
_ROLES: Final = {
    Role.WRITER: "write end held by", Role.READER: "read end held by", Role.PEER: "other end held by",
    Role.LISTENER: "to be accepted by", Role.LEASE_HOLDER: "lease of",
    Role.OWNER: "locked by", Role.THREAD: "thread", Role.CHILD: "child", Role.TRACEE: "traced",
    Role.VFORK_CHILD: "vfork child", Role.PROCESS: "process", Role.LOCK_HOLDER: "locked by",
    Role.TRACER: "traced by", Role.PARENT: "parent", Role.SIBLING: "could be woken by",
    Role.CREATOR: "was locked by", Role.LAST: "last changed by",
}  # fmt: skip


def lines(
    graph: Graph, found: Sequence[Conclusion], width: int, *, verbose: bool = False, everything: bool = False
) -> list[Line]:
    """The whole view. ``everything``: of many processes, those that look wrong, and a count of the others."""
    view = _View(graph, width, verbose=verbose)
    if everything:
        return [fit(line, width) for line in view.overview(found)]
    shown: list[Line] = []
    for conclusion in found:
        if shown:
            shown.append(())
        shown += view.process(conclusion)
    shown += view.tail()
    return [fit(line, width) for line in shown]


def worst(graph: Graph, found: Sequence[Conclusion], width: int) -> list[Line]:
    """Of several processes that belong together those that look wrong; the first of them in any case."""
    wrong = [each for each in found if each.chain.certainty is not Certainty.OPEN]
    said: set[int] = set()
    kept = []
    for each in [*wrong, *found[:1]]:
        # Who waits for one that was told already adds nothing but its own line.
        if each.pid not in said:
            kept.append(each)
            said |= {int(step.task.pid) for step in each.chain.steps}
    return lines(graph, kept, width)


class _View:
    def __init__(self, graph: Graph, width: int, *, verbose: bool) -> None:
        self._graph = graph
        self._width = width
        self._verbose = verbose

    def process(self, found: Conclusion) -> Iterator[Line]:
        chain = found.chain
        style: Style = "loud" if chain.certainty is not Certainty.OPEN else "name"
        for text in wrapped(headline(self._graph, chain), self._width):
            yield (Piece(text, style),)
        yield from self._task(chain.first, "  ", "", {chain.first.tid}, 0)
        rest = [each for each in found.others if self._tells(each)]
        for each in rest:
            yield from self._task(each.first, "  ", "", {each.first.tid}, 0)
        quiet = len(found.others) - len(rest)
        if quiet:
            yield (Piece(f"  {count(quiet, 'further thread')}: -v shows {'them' if quiet > 1 else 'it'}", "quiet"),)

    def _tells(self, chain: Chain) -> bool:
        return self._verbose or chain.certainty is not Certainty.OPEN

    def _task(self, task: Task, indent: str, lead: str, seen: set[int], depth: int) -> Iterator[Line]:
        times = f"  {span(task.asleep)}" if task.asleep is not None and task.state[:1] != "R" else ""
        yield (
            Piece(f"{indent}{lead}"),
            Piece(f"{task.tid}", "tid"),
            Piece(f" {printable(task.name)}", "name"),
            Piece(f"  {task.state}" if self._verbose else ""),
            Piece(f"  {self._call(task)}", "call"),
            Piece(times, "quiet"),
        )
        inner = indent + " " * len(lead) + "   "
        yield from self._details(task, inner)
        yield from self._enders(task, inner, seen, depth)

    def _call(self, task: Task) -> str:
        if task.call is not None and self._verbose:
            return printable(task.call)
        name = "" if task.call is None else printable(task.call).partition("(")[0]
        return f"{name}: {task.wait.what}" if name else task.wait.what

    def _details(self, task: Task, indent: str) -> Iterator[Line]:
        said = [task.wait.place] if task.wait.place and not task.stack else []
        if self._verbose:
            said += [f"waits for {task.wait.what}", f"state {task.state}: {state_text(task.state)}"]
            said.append(f"started {span(task.age)} ago, {span(task.cpu or 0)} of processor time")
            if task.kernel:
                said.append(f"in the kernel's {printable(task.kernel)}")
            if task.restarts is not None:
                said.append(
                    "goes on by itself after a stop"
                    if task.restarts
                    else "is interrupted by a stop or a signal (EINTR)"
                )
        unread = {each.why for each in task.unread}
        if task.wait.beyond and task.wait.beyond not in unread and (self._verbose or not task.wait.enders):
            said.append(f"could end as well by: {task.wait.beyond}")
        said += [f"not read: {each.why}" for each in task.unread]
        for text in said:
            for line in wrapped(printable(text), max(20, self._width - len(indent)), "  "):
                yield (Piece(f"{indent}{line}", "quiet"),)
        for text in task.stack:
            yield (Piece(f"{indent}{printable(text)}"),)
        if task.stack and task.stack_end not in ("", "outermost"):
            yield (Piece(f"{indent}… ({printable(task.stack_end)})", "quiet"),)

    def _enders(self, task: Task, indent: str, seen: set[int], depth: int) -> Iterator[Line]:
        enders = task.wait.enders
        shown = sorted(enders, key=lambda each: each.pid == task.pid and each.role is not Role.OWNER)[:_ENDERS]
        siblings = [each for each in shown if each.role is Role.SIBLING]
        if len(siblings) > 1 and not self._verbose:
            shown = [each for each in shown if each.role is not Role.SIBLING]
        for index, ender in enumerate(shown):
            last = index == len(shown) - 1 and len(shown) == len(enders)
            yield from self._ender(task, ender, indent, "└─ " if last else "├─ ", seen, depth)
        if len(shown) < len(enders):
            more = len(enders) - len(shown)
            what = "other thread" if siblings and not self._verbose else "more"
            text = count(more, what) + " of its process could" if what == "other thread" else f"{more} more"
            yield (Piece(f"{indent}└─ {text}", "quiet"),)

    def _ender(self, task: Task, ender: Ender, indent: str, branch: str, seen: set[int], depth: int) -> Iterator[Line]:
        following = self._following(ender)
        role = _ROLES[ender.role]
        name = (
            f"{ender.tid if ender.tid is not None else ender.pid}"
            if following is None
            else (f"{following.tid} {printable(following.name)}")
        )
        held = "".join(f"  {_held(each)}" for each in ender.held[:3])
        if len(ender.held) > 3:
            held += f"  and {len(ender.held) - 3} more"
        own = " (itself)" if following is not None and following.tid == task.tid else ""
        yield (
            Piece(f"{indent}{branch}{role} "),
            Piece(f"{name}{own}", "name"),
            Piece(held),
            Piece(f"  {ender.note}" if ender.note else ""),
        )
        below = indent + ("   " if branch.startswith("└") else "│  ")
        for each in ender.held[:3]:
            if each.origin:
                for line in wrapped(each.origin, max(20, self._width - len(below) - 3), "  "):
                    yield (Piece(f"{below}   {printable(line)}", "quiet"),)
        if following is None or not ender.able or following.tid in seen or depth >= _DEPTH:
            if following is not None and following.tid in seen and not own:
                yield (Piece(f"{below}   (above)", "quiet"),)
            return
        if ender.role is Role.SIBLING and not self._verbose:
            return
        seen.add(following.tid)
        yield from self._task_below(following, below, seen, depth + 1)

    def _task_below(self, task: Task, indent: str, seen: set[int], depth: int) -> Iterator[Line]:
        times = f"  {span(task.asleep)}" if task.asleep is not None and task.state[:1] != "R" else ""
        for line in wrapped(f"{self._call(task)}{times}", max(20, self._width - len(indent) - 3), "  "):
            yield (Piece(f"{indent}   "), Piece(printable(line), "call"))
        yield from self._details(task, f"{indent}   ")
        yield from self._enders(task, f"{indent}   ", seen, depth)

    def _following(self, ender: Ender) -> Task | None:
        if ender.tid is not None:
            return self._graph.tasks.get(ender.tid)
        threads = self._graph.threads(ender.pid)
        return next((task for task in threads if not task.ended), threads[0] if threads else None)

    # All of a machine

    def overview(self, found: Sequence[Conclusion]) -> Iterator[Line]:
        wrong = [each for each in found if each.chain.certainty is not Certainty.OPEN]
        wrong.sort(key=lambda each: (each.chain.certainty is not Certainty.CERTAIN, each.pid))
        for conclusion in wrong:
            yield from self.process(conclusion)
            yield ()
        kinds: dict[RootKind, list[Conclusion]] = {}
        for each in found:
            if each.chain.certainty is Certainty.OPEN:
                kinds.setdefault(each.chain.root, []).append(each)
        summary = (
            "none of them waits for what cannot come, as far as can be seen"
            if not wrong
            else (f"{len(wrong)} of them {'look' if len(wrong) > 1 else 'looks'} wrong")
        )
        yield (Piece(f"{count(len(found), 'process', 'processes')}: {summary}", "name"),)
        for kind, several in sorted(kinds.items(), key=lambda item: -len(item[1])):
            names: dict[str, int] = {}
            for each in several:
                name = printable(each.chain.first.name)
                names[name] = names.get(name, 0) + 1
            shown = ", ".join(name if many == 1 else f"{many} × {name}" for name, many in list(names.items())[:6])
            more = f", and {len(names) - 6} more names" if len(names) > 6 else ""
            yield (Piece(f"  {len(several):5}  {_KINDS[kind]}: {shown}{more}"),)
        yield from self._unread(found)
        yield from self.tail()

    def _unread(self, found: Sequence[Conclusion]) -> Iterator[Line]:
        """Of how many processes the first thing to read may not be read, and why."""
        reasons = Counter(each.why for conclusion in found for each in conclusion.chain.first.unread)
        for why, number in reasons.most_common(_REASONS):
            for line in wrapped(printable(f"{count(number, 'process', 'processes')}: {why}"), self._width, "  "):
                yield (Piece(line, "quiet"),)

    def tail(self) -> Iterator[Line]:
        said = [f"{gone.tid}: {gone.why}" for gone in self._graph.gone[:8]]
        if len(self._graph.gone) > 8:
            said.append(f"{len(self._graph.gone) - 8} more tasks ended meanwhile")
        if any(ender.held for task in self._graph.tasks.values() for ender in task.wait.enders):
            said += self._graph.unread
        if self._graph.left:
            said.append(f"{self._graph.left} processes that the chains lead to were not looked at")
        if said:
            yield ()
        for text in said:
            for line in wrapped(printable(text), self._width, "  "):
                yield (Piece(line, "quiet"),)


_KINDS: Final = {
    RootKind.CYCLE: "wait for each other", RootKind.OWNER_GONE: "wait for a lock whose owner is gone",
    RootKind.COPIED_LOCK: "wait for a lock that fork copied",
    RootKind.SELF: "wait for what only they themselves could do",
    RootKind.NOBODY: "wait for nobody", RootKind.STOPPED: "are stopped, or wait for who is",
    RootKind.TRACED: "are held by a tracer, or wait for who is", RootKind.FROZEN: "are frozen, or wait for who is",
    RootKind.KERNEL: "wait for the kernel", RootKind.RUNS: "run, or wait for who runs",
    RootKind.SLEEPS: "wait for a time", RootKind.SIGNAL: "wait for a signal",
    RootKind.INPUT: "wait for somebody to type",
    RootKind.IDLE: "wait for clients or work", RootKind.HELD: "wait for the other end of something",
    RootKind.UNREAPED: "are zombies, or wait for one", RootKind.WORD: "wait to be woken by another thread",
    RootKind.REMOTE: "wait for somebody who is not seen from here", RootKind.UNKNOWN: "wait for what is not known",
    RootKind.ENDED: "have ended",
}  # fmt: skip


def _held(held: Held) -> str:
    closes = "" if held.cloexec is None else " (close-on-exec)" if held.cloexec else " (stays open on exec)"
    return f"fd {held.fd}{closes}"


__all__ = ["lines", "who"]
