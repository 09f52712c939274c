"""Set-user-id and set-group-id programs that run without the privilege of their file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from forklore.abi.flags import CLONE_FS
from forklore.findings.finding import Finding
from forklore.findings.rule import Rule
from forklore.findings.subject import Subject
from forklore.findings.told import SET_IDS
from forklore.model.tasks import Task


def _lost(subject: Subject) -> Iterator[Finding]:
    for task in subject.tasks:
        for image in task.images:
            ids = image.set_id
            if ids is None:
                continue
            pairs = (("user", ids.uid, ids.euid), ("group", ids.gid, ids.egid))
            missed = [f"{kind} {wanted} and not {got}" for kind, wanted, got in pairs if wanted not in (None, got)]
            if not missed:
                continue
            why, by_us = _why(subject, task)
            yield Finding(
                rule="set-id-lost",
                severity="note" if by_us else "warning",
                text=f"{subject.who_was(task, image.t)} was to run as {', '.join(missed)}, as its file says{why}",
                tasks=(task.id,),
                t=image.t,
                where=subject.where(task),
                program=subject.program(task, image.t),
                same=by_us,
            )


def _why(subject: Subject, task: Task) -> tuple[str, bool]:
    """What took it, as far as that is known, and whether it is the tracer."""
    if subject.header.uid not in (None, 0):
        return ": a tracer without privilege takes it (fs/exec.c, LSM_UNSAFE_PTRACE)", True
    if task.form is not None and (task.form.flags or 0) & CLONE_FS and task.kind == "process":
        return ": it shares its working directory with its creator (CLONE_FS)", False
    return ": no_new_privs, a nosuid mount, a user namespace, or CLONE_FS takes it", False


RULES: Final = (
    Rule(
        id="set-id-lost",
        severity="warning",
        title="a set-id program runs without the privilege of its file",
        about=(
            "execve ignores the bits where no_new_privs is set, the file system is mounted nosuid, its owner is none of"
            " the user namespace, root and working directory are shared with another process (CLONE_FS), or a tracer"
            " without CAP_SYS_PTRACE is there. A note where that tracer is forklore. Seen right after the exec."
        ),
        right="A set-id program that got its file's user or group, or had it before.",
        advice="look at NoNewPrivs in /proc/PID/status and at the mount's options; trace set-id programs as root",
        find=_lost,
        needs=(SET_IDS,),
    ),
)
