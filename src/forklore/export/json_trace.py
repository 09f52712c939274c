"""A trace as one JSON object, documented in docs/json.md: for programs, so its names do not change."""

from __future__ import annotations

from typing import IO, Any, Final

import msgspec

from forklore.abi.errors import errno_name
from forklore.abi.signals import signal_name
from forklore.abi.units import Unavailable
from forklore.decode.creation import Creation
from forklore.decode.rules.table import Reason
from forklore.decode.sharing import shared_names
from forklore.events import records as ev
from forklore.export import json_code as code
from forklore.export.table import Options
from forklore.model.sharing import Sharing
from forklore.model.tasks import Death, FailedExec, Failure, Image, MadeCall, Task, Trace
from forklore.model.vfork_holds import Holding
from forklore.report.tree.edges import Edges
from forklore.report.words.vfork_holds import vfork_data

JSON_FORMAT: Final = {"name": "forklore-tree", "version": [1, 0]}


def write(trace: Trace, out: IO[bytes], _options: Options) -> None:
    """Write the object."""
    out.write(to_json(trace))


def to_json(trace: Trace) -> bytes:
    """The object, indented, with a newline at its end."""
    return msgspec.json.format(msgspec.json.encode(to_data(trace)), indent=2) + b"\n"


def to_data(trace: Trace) -> dict[str, Any]:
    """The object as Python builtins."""
    edges, holding = Edges(trace), Holding(trace)
    return {
        "format": JSON_FORMAT,
        "header": msgspec.to_builtins(trace.header),
        "tasks": [_task(task, trace, edges, holding) for task in trace.tasks.values()],
        "failures": [_failure(failure, edges) for failure in trace.failures],
        "modules": [code.module_data(module) for module in trace.code.modules.values()],
        "stacks": [code.stack_data(stack) for stack in trace.code.stacks.values()],
        "scripts": [code.script_data(script) for script in trace.code.scripts.values()],
        "notes": [{"what": what, "why": why} for what, why in trace.notes],
        "warnings": list(trace.warnings),
        "end": {"t": trace.ended, "reason": trace.end_reason},
    }


def _text(value: bytes | Unavailable | None) -> Any:  # noqa: ANN401 - JSON
    if value is None:
        return None
    if isinstance(value, Unavailable):
        return {"unavailable": value.why, "errno": value.errno}
    return msgspec.to_builtins(ev.text(value))


def _task(task: Task, trace: Trace, edges: Edges, holding: Holding) -> dict[str, Any]:
    sharing = trace.sharing
    held = holding.of(task)
    return {
        "id": task.id,
        "tid": task.tid,
        "tgid": task.tgid,
        "ns_tids": list(task.ns_tids),
        "kind": task.kind,
        "comm": _text(task.comm),
        "names": [code.naming_data(naming) for naming in task.names],
        "how": task.how,
        "traced": task.traced,
        "creator": task.creator,
        "parent": task.parent,
        "leader": task.leader,
        "heir": task.heir,
        "reaper": [{"t": r.t, "tid": r.tid, "task": r.task} for r in task.reapers],
        "creation": None if task.creation is None else _creation(task.creation, task),
        "attribution": code.attribution_data(edges.attribution(task)),
        "runs": code.runs_data(task.runs, trace),
        "stack": None if task.stack is None else task.stack.number,
        "script": None if task.script is None else task.script.script,
        "execs": [_image(image) for image in task.images],
        "sharing": None if sharing is None else _sharing(task, sharing),
        "standing": None if task.standing is None else msgspec.to_builtins(task.standing),
        "cow": [_cow(record) for record in task.cow],
        "vfork": None if held is None else vfork_data(held),
        "borrowed": [_borrowed(record) for record in task.borrowed],
        "descriptors": [_descriptors(record) for record in task.descriptors],
        "failed_execs": [_failed_exec(failed) for failed in task.failed_execs],
        "calls": [_call(call) for call in task.calls],
        "stops": [{"t": s.t, "signal": signal_name(s.signal), "resumed": s.resumed} for s in task.stops],
        "exit": None if task.death is None else _death(task.death),
        "gone": task.gone,
        "t_created": task.created,
        "t_ended": task.ended,
        "lifetime": task.lifetime,
        "exec_after": task.exec_after,
        "vfork_held": task.held,
    }


def _cow(record: ev.Cow) -> dict[str, Any]:
    copied = record.copied
    return {
        "t": record.t,
        "creator": record.creator,
        "moment": record.moment,
        "side": record.side,
        "source": record.source,
        "exact": record.exact,
        "page_size": record.page_size,
        "common": record.common,
        "still": record.still,
        "parted": record.parted,
        "swapped": record.swapped,
        "gone": record.gone,
        "copied": _absent(copied) if isinstance(copied, ev.Absent) else copied,
        "told_by": record.told_by,
        "unknown": None if record.unknown is None else _absent(record.unknown),
    }


def _borrowed(record: ev.Borrowed) -> dict[str, Any]:
    changes = record.changes
    return {
        "t": record.t,
        "creator": record.creator,
        "changes": _absent(changes) if isinstance(changes, ev.Absent) else msgspec.to_builtins(changes),
        "more": record.more,
        "remaps": msgspec.to_builtins(record.remaps),
        "left_out": msgspec.to_builtins(record.left_out),
        "threads": record.threads,
    }


def _descriptors(record: ev.Descriptors) -> dict[str, Any]:
    table = record.table
    return {
        "t": record.t,
        "table": _absent(table) if isinstance(table, ev.Absent) else [_held(held) for held in table],
        "left_out": record.left_out,
        "creator": record.creator,
        "creators_pipes": [_held(held) for held in record.creators_pipes],
    }


def _absent(value: ev.Absent) -> dict[str, Any]:
    return {"unavailable": value.why, "errno": value.errno}


def _held(held: ev.Held) -> dict[str, Any]:
    return {
        "fd": held.fd,
        "kind": held.kind,
        "target": msgspec.to_builtins(held.target),
        "flags": held.flags,
        "position": held.position,
        "device": held.device,
        "inode": held.inode,
        "cloexec": held.cloexec,
        "creators": None if held.same is None or held.same < 0 else held.same == 0,
        "creators_error": errno_name(-held.same) if held.same is not None and held.same < 0 else None,
        "creators_cloexec": held.creators_cloexec,
    }


def _sharing(task: Task, sharing: Sharing) -> dict[str, Any]:
    return {
        "at_creation": [
            {
                "resource": answer.resource,
                "asked": answer.asked,
                "observed": answer.observed,
                "source": answer.how,
                "reason": answer.reason,
                "sentence": answer.sentence,
            }
            for answer in sharing.answers.get(task.id, ())
        ],
        "holds": [
            {
                "resource": hold.resource,
                "group": hold.group,
                "since": hold.since,
                "until": hold.until,
                "ended_by": hold.ended_by,
                "source": hold.how,
                "inode": hold.inode,
            }
            for holds in sharing.holds[task.id].values()
            for hold in holds
        ],
        "asked_again": [
            {
                "t": change.t,
                "resource": change.resource,
                "cause": change.cause,
                "with": change.other,
                "shared": change.shared,
                "reason": change.reason,
            }
            for change in sharing.changes.get(task.id, ())
        ],
    }


def _creation(creation: Creation, task: Task | None = None) -> dict[str, Any]:
    data: dict[str, Any] = {
        "call": creation.call,
        "arch": creation.arch.value,
        "flags": list(creation.flags.names),
        "flags_raw": creation.flags.raw,
        "unknown_bits": creation.flags.unknown,
        "exit_signal": creation.exit_signal,
        "exit_signal_name": signal_name(creation.exit_signal) if creation.exit_signal else None,
        "args": list(creation.args),
        "fields": dict(creation.details()),
        "set_tid": list(creation.set_tid),
        "struct_size": creation.struct_size,
        "problems": list(creation.problems),
        "shares": list(shared_names(creation)),
    }
    if task is not None:
        data["ptrace_event"] = task.stop
        data["untraced_cleared"] = task.untraced_cleared
    return data


def _image(image: Image) -> dict[str, Any]:
    argv = image.argv
    return {
        "t": image.t,
        "path": _text(image.path),
        "argv": _text(argv) if isinstance(argv, Unavailable) else [_text(word) for word in argv],
        "argc": image.argc,
        "exe": _text(image.exe),
        "comm": _text(image.comm),
        "t_called": image.began,
        "former_tid": image.former_tid,
    }


def _failed_exec(failed: FailedExec) -> dict[str, Any]:
    return {
        "t": failed.t,
        "paths": [_text(path) for path in failed.paths],
        "errnos": list(failed.errnos),
        "errno_names": [errno_name(number) for number in failed.errnos],
    }


def _call(made: MadeCall) -> dict[str, Any]:
    failed = made.result is not None and made.result < 0
    return {
        "t": made.t,
        "call": made.call.text(),
        "result": made.result,
        "errno_name": errno_name(-made.result) if failed and made.result is not None else None,
        "target": made.target,
        "reasons": [_reason(reason) for reason in made.reasons],
    }


def _failure(failure: Failure, edges: Edges) -> dict[str, Any]:
    return {
        "t": failure.t,
        "task": failure.task,
        "call": failure.creation.call,
        "errno": failure.errno,
        "errno_name": errno_name(failure.errno),
        "flags": list(failure.creation.flags.names),
        "creation": _creation(failure.creation),
        "attribution": code.attribution_data(edges.attribution(failure)),
        "stack": None if failure.stack is None else failure.stack.number,
        "script": None if failure.script is None else failure.script.script,
        "limits": failure.limits,
        "reasons": [_reason(reason) for reason in failure.reasons],
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "rule": reason.rule,
        "text": reason.text,
        "advice": reason.advice,
        "certain": reason.certain,
        "source": reason.source,
    }


def _death(death: Death) -> dict[str, Any]:
    if death.signal is None:
        return {"code": death.code}
    return {
        "signal": death.signal,
        "signal_name": signal_name(death.signal),
        "core": death.core,
        "sender": death.sender,
        "address": death.address,
    }
