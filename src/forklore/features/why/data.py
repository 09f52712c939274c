"""The chains for programs: one JSON object (docs/why.md). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from forklore.abi.errors import errno_name
from forklore.abi.units import Unavailable
from forklore.decode.task_states import state_text
from forklore.events.records import text as record_text
from forklore.features.why.conclude import Chain, Conclusion
from forklore.features.why.graph import Ender, Graph, Task, Wait
from forklore.features.why.sentences import headline

JSON_FORMAT: Final = {"name": "forklore-why", "version": [1, 0]}


def to_json(graph: Graph, found: Sequence[Conclusion]) -> bytes:
    """The object, indented, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(to_data(graph, found)), indent=2) + b"\n"


def to_data(graph: Graph, found: Sequence[Conclusion]) -> dict[str, Any]:
    """The object as Python builtins."""
    return {
        "format": JSON_FORMAT,
        "processes": [
            {
                "pid": each.pid,
                "comm": _text(each.chain.first.name),
                "headline": headline(graph, each.chain),
                **_chain(each.chain),
                "others": [{"headline": headline(graph, chain), **_chain(chain)} for chain in each.others],
            }
            for each in found
        ],
        "tasks": [_task(task) for task in graph.tasks.values()],
        "gone": [{"tid": each.tid, "why": each.why} for each in graph.gone],
        "unread": list(graph.unread),
        "not_looked_at": graph.left,
        "seconds": round(graph.seconds, 6),
    }


def _chain(chain: Chain) -> dict[str, Any]:
    return {
        "root": chain.root,
        "certainty": chain.certainty,
        "doubt": chain.why or None,
        "steps": [
            {"tid": step.task.tid, "as": None if step.ender is None else step.ender.role} for step in chain.steps
        ],
        "cycle_from": chain.cycle,
    }


def _task(task: Task) -> dict[str, Any]:
    return {
        "tid": task.tid,
        "pid": task.pid,
        "ppid": task.ppid,
        "comm": _text(task.name),
        "state": task.state,
        "state_text": state_text(task.state),
        "start": task.start,
        "age_ns": task.age,
        "asleep_ns": task.asleep,
        "cpu_ns": task.cpu,
        "call": task.call,
        "restarts": task.restarts,
        "kernel_function": task.kernel,
        "ran_meanwhile": not task.steady,
        "stack": list(task.stack),
        "unread": [_unavailable(each) for each in task.unread],
        "zombies": list(task.zombies),
        "wait": _wait(task.wait),
    }


def _wait(wait: Wait) -> dict[str, Any]:
    return {
        "kind": wait.kind,
        "what": wait.what,
        "object": wait.object,
        "name": wait.name,
        "address": None if wait.address is None else f"{wait.address:#x}",
        "timeout": wait.timed,
        "ends_in_ns": wait.ends_in,
        "enders_are_all": wait.closed,
        "also": wait.beyond or None,
        "place": wait.place or None,
        "signals": wait.by_signal or None,
        "note": wait.note or None,
        "enders": [_ender(each) for each in wait.enders],
    }


def _ender(ender: Ender) -> dict[str, Any]:
    return {
        "pid": ender.pid,
        "tid": ender.tid,
        "role": ender.role,
        "able": ender.able,
        "note": ender.note or None,
        "descriptors": [
            {"fd": held.fd, "close_on_exec": held.cloexec, "origin": held.origin or None} for held in ender.held
        ],
    }


def _unavailable(value: Unavailable) -> dict[str, Any]:
    return {"unavailable": value.why, "errno_name": errno_name(value.errno) if value.errno else None}


def _text(raw: bytes) -> Any:  # noqa: ANN401 - JSON
    return msgspec.to_builtins(record_text(raw))
