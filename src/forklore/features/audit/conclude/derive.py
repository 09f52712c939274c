"""From the log of a run to its row: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from msgspec import Struct

from forklore.abi.errors import errno_name
from forklore.abi.syscalls import CREATIONS
from forklore.abi.units import TaskId
from forklore.decode.creation import Creation, decode_creation, signal_text
from forklore.events.records import COMPARED
from forklore.features.audit.conclude import calls
from forklore.features.audit.conclude.place import Surroundings, stack_of
from forklore.features.audit.record import Became, Born, Happening, ProbeSaid, ProbeWord, Run, SeenCall, TaskEnded
from forklore.features.audit.result import Attempt, AuditRow, ThreadIdentity

CALLER: Final = TaskId(1)
SETTING_UP: Final = frozenset({
    "rseq", "set_robust_list", "rt_sigprocmask", "sched_setscheduler", "sched_setaffinity", "sched_setparam", "gettid",
    "prctl", "set_tid_address", "futex", "sched_yield", "madvise",
})
"""What a thread does before it works. Of a thread of the library's own the first call after these is told as well."""

_HANDLERS: Final = {
    ProbeWord.PREPARE: "[atfork: prepare]", ProbeWord.PARENT: "[atfork: parent]", ProbeWord.CHILD: "[atfork: child]",
}  # fmt: skip


class _Made(Struct, frozen=True):
    # A creation call, where it is in the log, and whom it made.
    at: int
    call: SeenCall
    decoded: Creation
    born: Born | None


def injected_text(run: Run) -> str | None:
    """What a row says of the calls that were refused."""
    if not run.injected:
        return None
    errors = {number for _, number in run.injected}
    if len(errors) == 1 and len(run.injected) > 1:
        return f"all {errno_name(errors.pop())}"
    return ", ".join(f"{name} {errno_name(number)}" for name, number in run.injected)


def row(run: Run) -> AuditRow:
    """Everything that is told of one call of a function."""
    log = run.log
    injected = injected_text(run)
    for happening in log:
        if isinstance(happening, ProbeSaid) and happening.word is ProbeWord.MISSING:
            return AuditRow(function=run.function, mode=run.mode, injected=injected, outcome="missing")
        if isinstance(happening, ProbeSaid) and happening.word is ProbeWord.CANNOT:
            why = errno_name(happening.values[1])
            return AuditRow(function=run.function, mode=run.mode, injected=injected, outcome="cannot", why=why)
    begin = _index(log, ProbeWord.BEGIN, 0)
    if begin is None:
        return AuditRow(function=run.function, mode=run.mode, injected=injected, outcome="cannot", why=_death(log))
    end = _index(log, ProbeWord.RETURN, begin)
    made = list(_creations(log, begin))
    threads = {one.born.child for one in made if one.born is not None and one.decoded.is_thread}
    attempts = [_attempt(run, begin, one, threads) for one in made]
    first, last = (made[0].at, made[-1].at) if made else (end or len(log), begin)
    own = [one for one in made if one.call.task == CALLER]
    if own:
        first, last = own[0].at, own[-1].at
    succeeded = next((one for one in made if one.born is not None), None)
    return AuditRow(
        function=run.function, mode=run.mode, injected=injected,
        outcome="killed" if run.timed_out else "called",
        result=_result(log, end, succeeded),
        attempts=attempts,
        before=calls.lines(_of(log[begin + 1 : first], CALLER)),
        after=calls.lines(_of(log[last + 1 : end], CALLER)) if own else [],
        calls=_names(log[begin:], made),
        exec_failure=_exec_failure(log, succeeded),
        held_ns=_held(succeeded),
    )  # fmt: skip


def _index(log: Sequence[Happening], word: ProbeWord, start: int) -> int | None:
    return next((i for i in range(start, len(log)) if isinstance(h := log[i], ProbeSaid) and h.word is word), None)


def _death(log: Iterable[Happening]) -> str:
    status = next((h.status for h in log if isinstance(h, TaskEnded) and h.task == CALLER), None)
    if status is None:
        return "it was killed"
    return f"it ended by {signal_text(status & 0x7F)}" if status & 0x7F else f"it ended with status {status >> 8}"


def _creations(log: Sequence[Happening], begin: int) -> Iterable[_Made]:
    for at in range(begin + 1, len(log)):
        call = log[at]
        if not isinstance(call, SeenCall) or call.name not in CREATIONS:
            continue
        decoded = decode_creation(call.arch, call.nr, call.words, call.data)
        born = None
        for later in log[at + 1 :]:
            if isinstance(later, Born) and later.task == call.task:
                born = later
                break
            if isinstance(later, SeenCall) and later.task == call.task:
                break
        yield _Made(at, call, decoded, born)


def creations(run: Run) -> Iterable[tuple[SeenCall, int]]:
    """The creation calls of a run, each with what the caller's pthread_self said before."""
    begin = _index(run.log, ProbeWord.BEGIN, 0)
    start = None if begin is None else run.log[begin]
    if begin is not None and isinstance(start, ProbeSaid):
        for made in _creations(run.log, begin):
            yield made.call, start.values[0]


def _of(log: Iterable[Happening], task: TaskId) -> list[SeenCall | str]:
    found: list[SeenCall | str] = []
    for happening in log:
        if isinstance(happening, SeenCall) and happening.task == task:
            found.append(happening)
        elif isinstance(happening, ProbeSaid) and happening.task == task and happening.word in _HANDLERS:
            found.append(_HANDLERS[happening.word])
    return found


def _names(log: Iterable[Happening], made: Sequence[_Made]) -> list[str]:
    # By the caller, and by children before user code or exec; helpers stay out: how far they get is chance.
    threads = {one.born.child for one in made if one.born is not None and one.decoded.is_thread}
    done: set[TaskId] = set()
    names: set[str] = set()
    for happening in log:
        over = isinstance(happening, ProbeSaid) and happening.word in (ProbeWord.USER, ProbeWord.RETURN)
        if over or isinstance(happening, Became):
            done.add(happening.task)
        elif isinstance(happening, SeenCall) and happening.task not in done and (
            happening.task not in threads or happening.name in SETTING_UP
        ):
            names.add(happening.name)
    return sorted(names - calls.UNTOLD)


def _attempt(run: Run, begin: int, made: _Made, threads: set[TaskId]) -> Attempt:
    log, call, decoded, born = run.log, made.call, made.decoded, made.born
    said = _said(log, born)
    here = Surroundings.of(log, begin, made.at, decoded, said.get(ProbeWord.SELF))
    child, until = _child(log, made) if born is not None else ([], None)
    failed = call.result is not None and call.result < 0 and born is None
    return Attempt(
        call=decoded.call,
        by="caller" if call.task == CALLER else "helper" if call.task in threads else "child",
        flags=list(decoded.flags.names),
        unknown=decoded.flags.unknown,
        exit_signal=signal_text(decoded.exit_signal) if decoded.exit_signal else None,
        size=decoded.struct_size,
        stack=stack_of(log[: made.at], call, decoded),
        tls=here.tls(call, decoded),
        parent_tid=here.place(decoded.parent_tid),
        child_tid=here.place(decoded.child_tid),
        pidfd=here.place(decoded.pidfd),
        cgroup=decoded.cgroup is not None,
        refused=errno_name(-call.result) if failed and call.result is not None else None,
        injected=call.injected is not None,
        blocked=calls.mask_text(_mask(log[: made.at], call.task)),
        shared=_shared(born),
        child=child,
        until=until,
        says=_says(run, begin, made, said),
    )


def _mask(log: Iterable[Happening], task: TaskId) -> int:
    mask = 0
    for happening in log:
        if isinstance(happening, SeenCall) and happening.task == task and happening.name == "rt_sigprocmask":
            mask = calls.masked(mask, happening)
    return mask


def _shared(born: Born | None) -> list[str] | None:
    if born is None or born.compared is None or any(answer < 0 for answer in born.compared):
        return None
    return [name for name, answer in zip(COMPARED, born.compared, strict=True) if answer == 0]


def _child(log: Sequence[Happening], made: _Made) -> tuple[list[str], str | None]:
    # The child's calls, to the point where it leaves the library's hands.
    assert made.born is not None
    own = [happening for happening in log[made.at + 1 :] if happening.task == made.born.child]
    for index, happening in enumerate(own):
        if isinstance(happening, ProbeSaid) and happening.word is ProbeWord.USER:
            return calls.lines(_of(own[:index], made.born.child)), "user code"
        if isinstance(happening, Became):
            return calls.lines(_of(own[:index], made.born.child)), "exec"
    if not made.decoded.is_thread:
        ended = any(isinstance(happening, SeenCall) and happening.name.startswith("exit") for happening in own)
        return calls.lines(_of(own, made.born.child)), "exit" if ended else None
    for index, happening in enumerate(own):
        if isinstance(happening, SeenCall) and happening.name not in SETTING_UP:
            return calls.lines(_of(own[: index + 1], made.born.child)), None
    return calls.lines(_of(own, made.born.child)), None


def _said(log: Iterable[Happening], born: Born | None) -> dict[ProbeWord, tuple[int, int, int]]:
    if born is None:
        return {}
    return {h.word: h.values for h in log if isinstance(h, ProbeSaid) and h.task == born.child}


def _says(run: Run, begin: int, made: _Made, said: dict[ProbeWord, tuple[int, int, int]]) -> ThreadIdentity | None:
    ids, self_ = said.get(ProbeWord.IDS), said.get(ProbeWord.SELF)
    start = run.log[begin]
    if made.born is None or ids is None or self_ is None or not isinstance(start, ProbeSaid):
        return None
    tid = int(made.born.tid)
    pid = int(run.pid) if made.decoded.is_thread else tid
    getpid, cached, gettid = ids
    return ThreadIdentity(
        getpid=_verdict(getpid, pid, int(run.pid)),
        gettid="none" if gettid == -1 else _verdict(gettid, tid, int(run.pid)),
        cached_tid="not found" if cached == -1 else _verdict(cached, tid, int(run.pid)),
        pthread_self="the caller's" if self_[0] == start.values[0] else "its own",
    )


def _verdict(value: int, right: int, creator: int) -> str:
    if value == right:
        return "own"
    return "the creator's" if value == creator else "0" if value == 0 else "another"


def _result(log: Sequence[Happening], end: int | None, made: _Made | None) -> str | None:
    if end is None:
        return None
    said = log[end]
    assert isinstance(said, ProbeSaid)
    value, errno, _ = said.values
    if made is not None and made.born is not None and value == made.born.tid:
        return "pid"
    return f"-1 {errno_name(errno)}" if value == -1 else str(value)


def _exec_failure(log: Sequence[Happening], made: _Made | None) -> str | None:
    # What the child does after an execve that failed tells how the caller comes to know.
    if made is None or made.born is None:
        return None
    own = [h for h in log[made.at :] if isinstance(h, SeenCall) and h.task == made.born.child]
    failed = next((i for i, call in enumerate(own) if call.name.startswith("execve") and (call.result or 0) < 0), None)
    if failed is None or not any(call.name.startswith("exit") for call in own[failed:]):
        return None
    writes = any(call.name in ("write", "writev") for call in own[failed:])
    way = "through a pipe" if writes else "through the memory they share" if _shares_memory(made) else "its exit status"
    ending = next(call for call in own[failed:] if call.name.startswith("exit"))
    return f"{way}; the child ends by {calls.text(ending)}"


def _shares_memory(made: _Made) -> bool:
    return "CLONE_VM" in made.decoded.flags.names


def _held(made: _Made | None) -> int | None:
    if made is None or made.call.until is None:
        return None
    return made.call.until - made.call.t
