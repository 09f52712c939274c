"""What this machine and user allow: read from /proc, and tried (:mod:`forklore.linux.ours.trials`).

:mod:`forklore.features.doctor.conclusions` says what it means.
"""

from __future__ import annotations

import os
import platform
import re
import resource
from typing import Final

import psutil

from forklore.abi.units import NsInode, Pid, Tid, Unavailable
from forklore.features.doctor.conclusions import Answer, BpfFacts, Facts, PerfFacts
from forklore.linux import limits, proc
from forklore.linux.namespaces import FIRST_PID, namespaces
from forklore.linux.ours import trials
from forklore.linux.ours.this_process import effective_capabilities
from forklore.linux.pages import pagemap
from forklore.linux.tasks import process_name
from forklore.sources.ptrace.options import Stops, trace_options

_FIRST_USER_NS: Final = NsInode(0xEFFFFFFD)
"""include/linux/proc_ns.h: PROC_USER_INIT_INO."""


def _container() -> tuple[str, ...]:
    """Signs of a container, each a phrase; none of them is proof."""
    signs = [f"{path} exists" for path in ("/.dockerenv", "/run/.containerenv") if os.path.exists(path)]
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        signs.append("KUBERNETES_SERVICE_HOST is set")
    entries = proc.environment(Tid(1))
    if not isinstance(entries, Unavailable):
        signs += [f"pid 1 has {os.fsdecode(entry)}" for entry in entries if entry.startswith(b"container=")]
    groups = proc.read_file("/proc/self/cgroup")
    if not isinstance(groups, Unavailable):
        engines = sorted(set(re.findall(rb"docker|kubepods|libpod|lxc|containerd", groups)))
        signs += [f"the cgroup's path has {engine.decode()}" for engine in engines]
    return tuple(signs)


def _tracefs(mounts: list[psutil._common.sdiskpart]) -> Answer:
    places = [mount.mountpoint for mount in mounts if mount.fstype == "tracefs"]
    if not places:
        return Unavailable(0, "tracefs is not mounted")
    event = f"{places[0]}/events/task/task_newtask/id"
    answer = proc.read_file(event)
    return answer if isinstance(answer, Unavailable) else True


def _limits() -> dict[str, int]:
    found = limits.room(Tid(os.getpid()))
    if "rlimit_nproc" in found:
        found["user_tasks"] = limits.tasks_of(os.getuid())
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:
        found["rlimit_nofile"] = soft
    return found


def _bpf() -> BpfFacts:
    from forklore.linux.bpf import rights
    from forklore.linux.bpf.loader import LoadError
    from forklore.linux.lockdown import lockdown
    from forklore.sources.bpf.kernel import Events, Failures

    arch = proc.machine()
    mode, btf = lockdown(), os.path.exists(rights.BTF)
    if arch is None:
        return BpfFacts(loads=Unavailable(0, "there are no programs for this machine"), btf=btf, lockdown=mode)
    try:
        events = Events(arch, buffer=1 << 16, failures=Failures.AUTO)
    except LoadError as problem:
        cause = problem.__cause__
        number = cause.errno if isinstance(cause, OSError) else 0
        return BpfFacts(loads=Unavailable(number or 0, str(problem)), btf=btf, lockdown=mode)
    with events:
        by_functions = events.calls_seen_by == "functions"
        return BpfFacts(
            loads=True, prepare_exec="late arguments" not in events.without, group_dead=events.group_dead,
            calls_seen_by=events.calls_seen_by, btf=btf, lockdown=mode,
            functions=True if by_functions else Unavailable(0, events.functions_refused),
            tracepoints=None if by_functions else (
                True if events.calls_seen_by == "tracepoints" else Unavailable(0, events.unseen_because)
            ),
        )  # fmt: skip


def _perf() -> PerfFacts:
    from forklore.linux.perf.tasks import TaskRecords
    from forklore.sources.perf.kernel import refusal

    try:
        records = TaskRecords(1 << 16)
    except OSError as problem:
        return PerfFacts(opens=Unavailable(problem.errno or 0, refusal(problem)))
    try:
        return PerfFacts(
            opens=True, whole_machine=records.whole_machine,
            tracepoints=True if records.flags_told else Unavailable(0, records.why_no_tracepoints),
        )  # fmt: skip
    finally:
        records.close()


def collect() -> Facts:
    """Read and try everything. Takes some hundredths of a second and a few short-lived children."""
    machine = proc.machine()
    status = proc.status(os.getpid())
    fields = {} if isinstance(status, Unavailable) else status
    tracer = proc.number(fields, b"TracerPid") or 0
    tracing = trials.tracing(machine, trace_options(Stops.SECCOMP, ends=True))
    pages = pagemap.probe()
    spaces = namespaces(Tid(os.getpid()), ("pid", "user"))
    mounts = psutil.disk_partitions(all=True)
    actions = proc.read_file("/proc/sys/kernel/seccomp/actions_avail")
    own = psutil.Process()
    return Facts(
        bpf=_bpf(),
        perf=_perf(),
        kernel=platform.release(),
        machine=platform.machine(),
        user=own.username(),
        uid=own.uids().effective,
        python=platform.python_version(),
        capabilities=effective_capabilities(),
        tracer=Pid(tracer),
        tracer_name=(process_name(Pid(tracer)) or "a process out of sight") if tracer else "",
        yama=proc.setting("/proc/sys/kernel/yama/ptrace_scope"),
        seize=tracing.seize,
        syscall_info=tracing.syscall_info,
        registers=tracing.registers,
        read_memory=tracing.read_memory,
        filter_plain=trials.seccomp_filter(no_new_privs=False),
        filter_no_new_privs=trials.seccomp_filter(no_new_privs=True),
        seccomp_mode=proc.number(fields, b"Seccomp") or 0,
        seccomp_filters=proc.number(fields, b"Seccomp_filters"),
        seccomp_actions=() if isinstance(actions, Unavailable) else tuple(actions.decode().split()),
        no_new_privs=proc.number(fields, b"NoNewPrivs") == 1,
        clone3=trials.clone3(machine),
        kcmp=tracing.kcmp,
        pagemap=pages.exclusive,
        page_frames=pages.frames is True,
        soft_dirty=pages.soft_dirty or Unavailable(0, "a page just written does not read as dirty"),
        new_user_ns=trials.user_namespace(),
        container=_container(),
        first_pid_ns=spaces["pid"] == FIRST_PID,
        first_user_ns=spaces["user"] == _FIRST_USER_NS,
        hidepid=proc.hidepid(),
        tracefs=_tracefs(mounts),
        abis=trials.other_abis(machine),
        limits=_limits(),
    )
