"""The part that is about system calls: what was asked for, what came of it, and why the kernel refused."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from forklore.abi.arch import Arch
from forklore.abi.errors import errno_name
from forklore.abi.flags import EXECVEAT
from forklore.abi.signals import signal_name
from forklore.abi.units import Unavailable
from forklore.decode.creation import CallName, Creation
from forklore.decode.flagset import flag_set
from forklore.decode.rules.table import Reason
from forklore.decode.sharing import shared_names
from forklore.events import records as ev
from forklore.export.json_tree.code import AttributionObject
from forklore.export.json_tree.parts import (
    Limit,
    TaskNumber,
    Time,
    UnavailableObject,
    Word,
    limit,
    named,
    told,
    unavailable,
    word,
)
from forklore.model.tasks import FailedExec, Failure, Image, MadeCall


class CreationObject(Struct, frozen=True):
    """A call that asks for a new task."""

    call: CallName
    """``fork``, ``vfork``, ``clone``, ``clone3``, or ``unknown``."""
    arch: Arch
    """The ABI that the call came through: ``x86_64``, ``i386``, ``x32``, ``aarch64``, ``riscv64``."""
    flags: tuple[str, ...]
    """Names of the flags, in the order of their bits."""
    flags_raw: Word | None
    """The flags word without an exit signal; null if not known."""
    unknown_bits: Word
    """Bits that have no name for this call."""
    exit_signal: int | None
    """What the parent gets when the child ends, 0 for nothing."""
    exit_signal_name: str | None
    """Its name."""
    args: tuple[Word | None, ...]
    """The call's argument words; null where the source does not tell one."""
    fields: dict[str, str]
    """The fields that count, as text: ``stack``, ``stack_size``, ``tls``, ``parent_tid``, ``child_tid``, ``pidfd``,
    ``set_tid``, ``cgroup``, ``size``."""
    set_tid: tuple[int, ...]
    """The pids that were asked for, innermost namespace first."""
    struct_size: Word | None
    """The size argument of clone3."""
    problems: tuple[str, ...]
    """What could not be read, or makes no sense."""
    shares: tuple[str, ...]
    """What the call asked to share (``mm``, ``files``, …), then the new namespaces (``newpid``, …)."""
    ptrace_event: ev.CreateStop | UnsetType | None = UNSET
    """``fork``, ``vfork``, ``clone``: what the kernel told the tracer; only in a task."""
    untraced_cleared: bool | UnsetType = UNSET
    """CLONE_UNTRACED was cleared for the call, so that the child could be followed; only in a task."""

    @classmethod
    def of(
        cls, creation: Creation, event: ev.CreateStop | UnsetType | None = UNSET, cleared: bool | UnsetType = UNSET
    ) -> CreationObject:
        """A decoded call, of a task with what ptrace told of it."""
        flags = creation.flags
        signal = creation.exit_signal
        return cls(
            creation.call,
            creation.arch,
            flags.names,
            word(flags.raw),
            word(flags.unknown),
            signal,
            signal_name(signal) if signal else None,
            tuple(map(word, creation.args)),
            dict(creation.details()),
            creation.set_tid,
            word(creation.struct_size),
            creation.problems,
            shared_names(creation),
            event,
            cleared,
        )


class ExecAtObject(Struct, frozen=True):
    """How execveat was told its file."""

    fd: int
    """The descriptor where the path begins, unless it is absolute; -100 (AT_FDCWD): the working directory."""
    directory: ev.Text | UnavailableObject | None
    """What that descriptor referred to; null where the path does not begin there."""
    path: ev.Text | UnavailableObject
    """As it was passed; empty where the descriptor itself was meant."""
    flags: tuple[str, ...]
    """Names of the flags: ``AT_EMPTY_PATH``, ``AT_SYMLINK_NOFOLLOW``, ``AT_EXECVE_CHECK``."""
    flags_raw: ev.Word
    """The flags word."""

    @classmethod
    def of(cls, at: ev.ExecAt | None) -> ExecAtObject | None:
        """What is told of an exec besides its path; None for execve."""
        if at is None:
            return None
        directory = unavailable(at.directory) if isinstance(at.directory, Unavailable) else at.directory
        path = unavailable(at.path) if isinstance(at.path, Unavailable) else at.path
        return cls(at.fd, directory, path, flag_set(EXECVEAT, at.flags).names, at.flags)


class ExecObject(Struct, frozen=True):
    """A program that a task executed."""

    t: Time
    """When the new image began."""
    path: ev.Text | UnavailableObject
    """As given to execve; of execveat, from the directory that its descriptor referred to."""
    at: ExecAtObject | None
    """Of execveat; null for execve."""
    argv: list[ev.Text] | UnavailableObject
    """The arguments."""
    argc: ev.Count | None
    """How many there were, where ``argv`` has only the first ones."""
    cut: list[int]
    """Which of ``argv`` are cut off, counted from 0."""
    exe: ev.Text | UnavailableObject | None
    """The file that runs: the interpreter, for a script."""
    comm: ev.Text | None
    """The task's name from then on."""
    t_called: Time
    """When execve was called."""
    former_tid: int | None
    """The tid before, for a thread that was not the leader of its group."""
    set_id: ev.SetId | None
    """Of a set-user-id or set-group-id file; null for others."""

    @classmethod
    def of(cls, image: Image) -> ExecObject:
        """One of a task's images."""
        return cls(
            t=image.t,
            path=told(image.path),
            at=ExecAtObject.of(image.at),
            argv=_arguments(image.argv),
            argc=image.argc,
            cut=sorted(image.cut),
            exe=None if image.exe is None else told(image.exe),
            comm=named(image.comm),
            t_called=image.began,
            former_tid=image.former_tid,
            set_id=image.set_id,
        )


class FailedExecObject(Struct, frozen=True):
    """One or more refused execve of one program: a search through PATH is one."""

    t: Time
    """Of the first."""
    paths: list[ev.Text | UnavailableObject]
    """In the order in which they were tried."""
    errnos: list[int]
    """The error of each."""
    errno_names: list[str]
    """Their names."""
    argv: list[ev.Text] | UnavailableObject
    """The arguments, the same each time."""
    argc: ev.Count | None
    """How many there were, where ``argv`` has only the first ones."""
    at: ExecAtObject | None
    """Of execveat; null for execve."""
    injected: bool
    """Not the kernel's answers but strace's (``--inject``)."""

    @classmethod
    def of(cls, failed: FailedExec) -> FailedExecObject:
        """Refused execve of one program."""
        return cls(
            t=failed.t,
            paths=[told(path) for path in failed.paths],
            errnos=failed.errnos,
            errno_names=[errno_name(number) for number in failed.errnos],
            argv=_arguments(failed.argv),
            argc=failed.argc,
            at=ExecAtObject.of(failed.at),
            injected=failed.injected,
        )


def _arguments(argv: tuple[bytes, ...] | Unavailable) -> list[ev.Text] | UnavailableObject:
    return unavailable(argv) if isinstance(argv, Unavailable) else [ev.text(argument) for argument in argv]


class ReasonObject(Struct, frozen=True, gc=False):
    """A rule that explains why a call was refused."""

    rule: str
    """The [rule](rules.md)'s name."""
    text: str
    """What is wrong."""
    advice: str
    """What to do about it."""
    certain: bool
    """False: it may be this, and nothing known denies it."""
    source: str
    """Where the kernel checks it."""

    @classmethod
    def of(cls, reason: Reason) -> ReasonObject:
        """One of the rules that fit."""
        return cls(reason.rule, reason.text, reason.advice, reason.certain, reason.source)


class CallObject(Struct, frozen=True):
    """A call that changes what the task itself shares."""

    t: Time
    """When it returned."""
    call: str
    """The call as text."""
    result: int | None
    """What it returned, -errno if it failed; null if that is not known."""
    errno_name: str | None
    """If it failed."""
    injected: bool
    """As in ``failed_execs``; nothing came of the call, then."""
    target: str | None
    """For setns what the descriptor was."""
    reasons: list[ReasonObject]
    """What explains it, if it failed."""

    @classmethod
    def of(cls, made: MadeCall) -> CallObject:
        """One of a task's calls."""
        result = made.result
        error = errno_name(-result) if result is not None and result < 0 else None
        why = [ReasonObject.of(reason) for reason in made.reasons]
        return cls(made.t, made.call.text(), result, error, made.injected, made.target, why)


class FailureObject(Struct, frozen=True):
    """A creation that the kernel refused."""

    t: Time
    """When it returned."""
    task: TaskNumber
    """Who called."""
    call: CallName
    """``fork``, ``vfork``, ``clone``, ``clone3``, ``unknown``."""
    errno: int | None
    """The error; null where a log does not tell it."""
    errno_name: str | None
    """Its name."""
    flags: tuple[str, ...]
    """As in its ``creation``."""
    creation: CreationObject
    """The call."""
    attribution: AttributionObject | None
    """Who made the call."""
    stack: ev.Id | None
    """As in a task."""
    script: ev.Id | None
    """As in a task."""
    limits: dict[str, Limit]
    """Numbers read right after that may have decided for this error, by name: of EAGAIN ``uid``, ``cap_eff``,
    ``rlimit_nproc``, ``user_tasks``, ``threads_max``, ``threads_now``, ``pid_max``, ``pids_max``, ``pids_current``; of
    others fewer. In a run of refusals ``user_tasks`` may be the count of an earlier one: while no traced task came or
    went, 50 ms or ten times what counting took."""
    injected: bool
    """As in ``failed_execs``."""
    reasons: list[ReasonObject]
    """What explains it."""

    @classmethod
    def of(cls, failure: Failure, attribution: AttributionObject | None) -> FailureObject:
        """A failure of a trace."""
        creation = CreationObject.of(failure.creation)
        return cls(
            t=failure.t,
            task=failure.task,
            call=creation.call,
            errno=failure.errno,
            errno_name=None if failure.errno is None else errno_name(failure.errno),
            flags=creation.flags,
            creation=creation,
            attribution=attribution,
            stack=None if failure.stack is None else failure.stack.number,
            script=None if failure.script is None else failure.script.script,
            limits={name: limit(value) for name, value in failure.limits.items()},
            injected=failure.injected,
            reasons=[ReasonObject.of(reason) for reason in failure.reasons],
        )
