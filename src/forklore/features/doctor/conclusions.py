"""What a machine's answers mean to a tracer: facts in, checks out, each with what is lost and what to do
about it.

Pure, so that a report of any machine can be judged on any other. :mod:`forklore.features.doctor.observe` collects the
facts.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct, field

from forklore.abi.units import Pid, Unavailable

Answer = bool | Unavailable
"""Whether something works: tried and so, tried and not so, or refused with an error."""

CAPABILITIES: Final[Mapping[str, int]] = {
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
    "CAP_CHECKPOINT_RESTORE": 40,
}
"""The capabilities that a tracer of process creation can use, by their bit
(include/uapi/linux/capability.h)."""


class PerfFacts(Struct, frozen=True, kw_only=True):
    """What the perf engine found when it opened its events."""

    opens: Answer
    whole_machine: bool = False
    """Events of the machine, not such as every child inherits."""
    tracepoints: Answer = False
    """Flags of creations and paths of execs are told."""


class BpfFacts(Struct, frozen=True, kw_only=True):
    """What the bpf engine found when its programs were loaded."""

    loads: Answer
    prepare_exec: bool = False
    """Arguments are read as they were given (Linux 6.10)."""
    group_dead: bool = False
    """The last thread of a process is told by the kernel (Linux 6.16)."""
    calls_seen_by: str = "nothing"
    """``functions``, ``tracepoints`` or ``nothing``: how refused calls are seen."""
    functions: Answer = False
    """Programs on the kernel's functions, which cost other calls nothing."""
    tracepoints: Answer | None = None
    """Programs on the tracepoints of system calls; None: not tried, for functions do."""
    btf: bool = True
    """/sys/kernel/btf/vmlinux is there."""
    lockdown: str = ""
    """The lockdown mode; empty where the kernel has none."""


class Facts(Struct, frozen=True, kw_only=True):
    """What was read and tried. A None says that this kernel has no such thing."""

    kernel: str
    machine: str
    user: str
    uid: int
    python: str
    capabilities: int
    """The effective set, a bit for each (capabilities(7))."""
    tracer: Pid
    """Who traces this process; 0 for nobody."""
    tracer_name: str
    yama: int | None
    """kernel.yama.ptrace_scope, 0 to 3."""
    seize: Answer
    syscall_info: Answer
    registers: Answer
    """Whether forklore and python-ptrace read the same registers of a stopped child."""
    read_memory: Answer
    filter_plain: Answer
    """A seccomp filter without no_new_privs."""
    filter_no_new_privs: Answer
    seccomp_mode: int
    """0 none, 1 strict, 2 a filter is on this process already."""
    seccomp_filters: int | None
    seccomp_actions: tuple[str, ...]
    no_new_privs: bool
    clone3: Answer
    kcmp: Answer
    pagemap: Answer
    page_frames: bool
    """pagemap shows frame numbers."""
    soft_dirty: Answer
    new_user_ns: Answer
    container: tuple[str, ...]
    """What tells of a container, sign by sign."""
    first_pid_ns: bool
    first_user_ns: bool
    hidepid: str
    """The hidepid option that /proc is mounted with; ``off`` without one."""
    tracefs: Answer
    abis: Mapping[str, Answer]
    """The ABIs besides the machine's own."""
    bpf: BpfFacts = BpfFacts(loads=Unavailable(0, "not tried"))
    perf: PerfFacts = PerfFacts(opens=Unavailable(0, "not tried"))
    limits: Mapping[str, int] = field(default_factory=dict)
    """Names as in :mod:`forklore.linux.limits`, and ``rlimit_nofile``."""


class CheckState(StrEnum):
    """How a check came out."""

    OK = "ok"
    LIMITED = "limited"
    """forklore works, with less."""
    BLOCKED = "blocked"
    """forklore cannot trace."""
    INFO = "info"
    """Worth knowing; nothing is lost."""


class Check(Struct, frozen=True):
    """One line of the doctor's report. ``loses`` and ``remedy`` are empty where all is well."""

    name: str
    state: CheckState
    found: str
    loses: str = ""
    remedy: str = ""


def can_trace(checks: Sequence[Check]) -> bool:
    """Whether tracing works at all, by any engine."""
    return by_ptrace(checks) or bool(without_stops(checks))


def without_stops(checks: Sequence[Check]) -> list[str]:
    """The engines that need no ptrace and can be used, the one that sees more first, as ``--engine`` takes them."""
    usable = {check.name for check in checks if check.state is CheckState.OK}
    return [name for check, name in ((_BPF, "bpf"), (_PERF, "perf")) if check in usable]


def by_ptrace(checks: Sequence[Check]) -> bool:
    """Whether the engine that is the default can trace."""
    return not any(check.state is CheckState.BLOCKED for check in checks)


def judge(facts: Facts) -> list[Check]:
    """Every check, the ones that decide first."""
    return [
        *_ptrace(facts),
        *_seccomp(facts),
        *_observation(facts),
        *_surroundings(facts),
        *_bpf(facts),
        _perf(facts.perf),
        _limits(facts),
    ]


_MISSING_RIGHTS: Final = frozenset({errno.EPERM, errno.EACCES})


def _bpf(facts: Facts) -> Iterator[Check]:
    bpf = facts.bpf
    if bpf.loads is not True:
        yield Check(_BPF, CheckState.LIMITED, _why(bpf.loads), "--engine bpf, and forklore watch", _bpf_remedy(facts))
        return
    mode = f"lockdown {bpf.lockdown}" if bpf.lockdown else "lockdown not told (securityfs is not mounted, or none)"
    yield Check(_BPF, CheckState.OK, f"programs load, refused calls by {bpf.calls_seen_by}; BTF is there, {mode}")
    for there, since, lacks in (
        (bpf.prepare_exec, "6.10", _NO_PREPARE_EXEC),
        (bpf.group_dead, "6.16", _NO_GROUP_DEAD),
    ):
        if not there:
            yield Check(f"bpf: Linux {since}", CheckState.INFO, lacks, "", f"Linux {since} or newer")
    yield from _refused_calls(bpf)


def _refused_calls(bpf: BpfFacts) -> Iterator[Check]:
    if bpf.functions is True:
        return
    by_tracepoints = bpf.tracepoints is True
    instead = "tracepoints are, at some 0.1 µs for each system call" if by_tracepoints else "nor are tracepoints"
    yield Check("bpf: functions", CheckState.INFO, f"not used for refused calls, {instead}: {_why(bpf.functions)}")
    if not by_tracepoints:
        yield Check(
            "bpf: tracepoints", CheckState.LIMITED, _why(bpf.tracepoints or False),
            "with --engine bpf: refused creations and execs, unshare, setns, close_range and setsid",
            "let forklore read tracefs, or run it as root: docs/engines.md",
        )  # fmt: skip


_NO_PREPARE_EXEC: Final = (
    "no tracepoint sched_prepare_exec: the arguments of an exec are read from the new memory, in which a script's"
    " first one is lost"
)
_NO_GROUP_DEAD: Final = (
    "sched_process_exit has no group_dead: which thread is the last of its process is concluded from how many are"
    " left, and of two that end at once both find none"
)
_BPF: Final = "bpf engine"
_PERF: Final = "perf engine"
_NEEDS: Final = (5, 17)
"""The Linux that fits programs to its own structs (CO-RE in the kernel)."""


def _bpf_remedy(facts: Facts) -> str:
    release = re.match(r"(\d+)\.(\d+)", facts.kernel)
    if release is not None and (int(release[1]), int(release[2])) < _NEEDS:
        return f"Linux 5.17 or newer, with BTF: this is {facts.kernel}"
    if not facts.bpf.btf:
        return "a kernel built with CONFIG_DEBUG_INFO_BTF: /sys/kernel/btf/vmlinux is not there"
    if facts.bpf.lockdown == "confidentiality":
        return "lockdown=integrity, or none, on the kernel's command line: confidentiality forbids to read its memory"
    if isinstance(facts.bpf.loads, Unavailable) and facts.bpf.loads.errno in _MISSING_RIGHTS:
        return "run as root, or with CAP_BPF and CAP_PERFMON: docs/engines.md"
    return "report it, with this text: docs/engines.md names the kernels on which they were tried"


def _perf(perf: PerfFacts) -> Check:
    if perf.opens is not True:
        remedy = "sysctl kernel.perf_event_paranoid=2, or CAP_PERFMON: docs/engines.md"
        return Check(_PERF, CheckState.INFO, _why(perf.opens), "--engine perf", remedy)
    scope = "records of the whole machine" if perf.whole_machine else "records of one's own programs"
    if perf.tracepoints is True:
        return Check(_PERF, CheckState.OK, f"{scope}, with flags and paths by tracepoints")
    return Check(_PERF, CheckState.OK, f"{scope}, without flags and paths: {_why(perf.tracepoints)}")


def _why(answer: Answer) -> str:
    return answer.why if isinstance(answer, Unavailable) else "tried in vain"


def _has(facts: Facts, capability: str) -> bool:
    return bool(facts.capabilities >> CAPABILITIES[capability] & 1)


def _ptrace(facts: Facts) -> Iterator[Check]:
    if facts.seize is True:
        yield Check("ptrace", CheckState.OK, "a child was seized with every option that forklore sets")
    else:
        yield Check("ptrace", CheckState.BLOCKED, _why(facts.seize), "nothing can be traced", _ptrace_remedy(facts))
    if facts.syscall_info is True:
        yield Check("syscall-info", CheckState.OK, "PTRACE_GET_SYSCALL_INFO tells entry from exit, and the ABI")
    elif facts.seize is True:
        yield Check(
            "syscall-info", CheckState.BLOCKED, _why(facts.syscall_info),
            "the ABI of a call and whether a stop is its entry or its exit cannot be known",
            "use Linux 5.3 or newer",
        )  # fmt: skip
    if facts.registers is True:
        yield Check("registers", CheckState.OK, "a stopped child's registers read the same by python-ptrace's layout")
    elif facts.seize is True:
        yield Check(
            "registers", CheckState.LIMITED, _why(facts.registers),
            "a call that no entry stop showed, and CLONE_UNTRACED, depend on the layout of the registers",
            "report it, with the machine and the kernel's version",
        )  # fmt: skip
    if facts.read_memory is True:
        yield Check("memory", CheckState.OK, "process_vm_readv reads a traced child")
    elif facts.seize is True:
        yield Check(
            "memory", CheckState.LIMITED, _why(facts.read_memory),
            "clone3's struct, paths and arguments cannot be read: such calls show as unreadable",
            "allow process_vm_readv in the container's seccomp profile (CAP_SYS_PTRACE adds it to Docker's)",
        )  # fmt: skip
    yield _yama(facts)
    if facts.tracer:
        yield Check(
            "traced", CheckState.LIMITED,
            f"this process is traced itself, by {facts.tracer_name} (pid {facts.tracer})",
            "a tracer that follows forks has our children before us, and a task has one tracer",
            "run forklore outside of it, or let it not follow forks",
        )  # fmt: skip
    yield _capabilities(facts)


def _ptrace_remedy(facts: Facts) -> str:
    if facts.yama == 3:
        return "kernel.yama.ptrace_scope is 3, which holds until the next boot: set another value at boot"
    if facts.yama == 2 and not _has(facts, "CAP_SYS_PTRACE"):
        return "run as root, or: sysctl kernel.yama.ptrace_scope=1"
    if facts.tracer:
        return f"run outside of {facts.tracer_name} (pid {facts.tracer}), which traces this process"
    if facts.container or facts.seccomp_mode == 2:
        return (
            "a container's seccomp profile refuses ptrace: docker run --cap-add=SYS_PTRACE, in Kubernetes "
            "securityContext.capabilities.add: [SYS_PTRACE]"
        )
    if isinstance(facts.seize, Unavailable) and facts.seize.errno == errno.ENOSYS:
        return "this kernel, or what emulates it, has no ptrace: use another one"
    return "look for a security module that refuses ptrace (dmesg, ausearch -m avc)"


def _yama(facts: Facts) -> Check:
    name = "ptrace-scope"
    privileged = _has(facts, "CAP_SYS_PTRACE")
    if facts.yama is None:
        return Check(name, CheckState.OK, "no Yama: a process may trace others of its user")
    if facts.yama == 0:
        return Check(name, CheckState.OK, "Yama's ptrace_scope is 0: a process may trace others of its user")
    if facts.yama == 3:
        return Check(name, CheckState.BLOCKED, "Yama's ptrace_scope is 3: nobody traces", "all", _ptrace_remedy(facts))
    if privileged:
        return Check(name, CheckState.OK, f"Yama's ptrace_scope is {facts.yama}, which CAP_SYS_PTRACE overrides")
    if facts.yama == 1:
        return Check(
            name, CheckState.LIMITED, "Yama's ptrace_scope is 1: only descendants may be traced",
            "attaching to programs that forklore did not start; `run` works",
            "run as root, or: sysctl kernel.yama.ptrace_scope=0",
        )  # fmt: skip
    return Check(
        name,
        CheckState.BLOCKED,
        "Yama's ptrace_scope is 2: tracing needs CAP_SYS_PTRACE",
        "all",
        _ptrace_remedy(facts),
    )


def _capabilities(facts: Facts) -> Check:
    held = [name for name in CAPABILITIES if _has(facts, name)]
    where = "" if facts.first_user_ns else " (in this user namespace only)"
    names = ", ".join(held) or "none of " + ", ".join(CAPABILITIES)
    found = f"uid {facts.uid} ({facts.user}) with {names}{where}"
    if "CAP_SYS_PTRACE" in held and facts.first_user_ns:
        return Check("capabilities", CheckState.OK, found)
    return Check(
        "capabilities", CheckState.LIMITED, found,
        "set-id programs run without their privilege while traced (ptrace(2)); processes of other users, and "
        "non-dumpable ones, cannot be traced or inspected",
        "run as root where that matters",
    )  # fmt: skip


def _seccomp(facts: Facts) -> Iterator[Check]:
    yield _filter(facts)
    if facts.seccomp_mode:
        count = "" if facts.seccomp_filters is None else f", {facts.seccomp_filters} deep"
        yield Check(
            "own-filter", CheckState.LIMITED, f"a seccomp filter is on this process already{count}",
            "calls that it answers itself never reach forklore's filter: their failures stay unseen, and "
            "programs may take other ways than elsewhere",
            "run outside the container or sandbox, or with its profile off (docker run --security-opt "
            "seccomp=unconfined)",
        )  # fmt: skip
    if facts.clone3 is True:
        yield Check("clone3", CheckState.OK, "clone3 reaches the kernel")
    else:
        yield Check(
            "clone3", CheckState.LIMITED, _why(facts.clone3),
            "C libraries fall back to clone here: what is traced is not what they do elsewhere",
            "a newer container runtime allows it; Linux has it since 5.3",
        )  # fmt: skip


def _filter(facts: Facts) -> Check:
    name = "seccomp"
    if "trace" not in facts.seccomp_actions and facts.seccomp_actions:
        found = f"the kernel's filters know {' '.join(facts.seccomp_actions)}, not trace"
    elif facts.filter_plain is True:
        extra = "; no_new_privs is set already, so set-id programs have no effect" if facts.no_new_privs else ""
        return Check(name, CheckState.OK, f"a filter stops programs at the calls of interest alone{extra}")
    elif facts.filter_no_new_privs is True:
        return Check(
            name, CheckState.LIMITED, "a filter can be installed with no_new_privs only",
            "set-id bits and file capabilities give traced programs nothing, and they can see it",
            "run with CAP_SYS_ADMIN, or: forklore run --stops syscalls (slower), --stops events (sees less)",
        )  # fmt: skip
    else:
        found = _why(facts.filter_no_new_privs)
    return Check(
        name, CheckState.LIMITED, found,
        "failed creations, unshare and setns are seen only at the price of stopping at every system call",
        "forklore run --stops syscalls, or --stops events to do without them; a kernel with "
        "CONFIG_SECCOMP_FILTER, a sandbox that allows seccomp(2)",
    )  # fmt: skip


def _observation(facts: Facts) -> Iterator[Check]:
    if facts.kcmp is True:
        yield Check("kcmp", CheckState.OK, "the kernel says what two tasks share")
    else:
        yield Check(
            "kcmp", CheckState.LIMITED, _why(facts.kcmp),
            "what a child really shares cannot be observed, only what the call asked for",
            "a kernel with CONFIG_KCMP; in a container, CAP_SYS_PTRACE or a profile that allows kcmp",
        )  # fmt: skip
    if facts.pagemap is True:
        frames = "with" if facts.page_frames else "without"
        yield Check(
            "pagemap",
            CheckState.OK,
            f"tells pages that are still shared by copy-on-write ({frames} frame numbers)",
        )
    else:
        yield Check(
            "pagemap", CheckState.LIMITED, _why(facts.pagemap),
            "pages that are still shared by copy-on-write cannot be counted",
            "a kernel with CONFIG_PROC_PAGE_MONITOR",
        )  # fmt: skip
    if facts.soft_dirty is True:
        yield Check("soft-dirty", CheckState.OK, "a freshly written page reads as dirty")
    else:
        yield Check(
            "soft-dirty", CheckState.INFO, f"not here: {_why(facts.soft_dirty)}", "",
            "nothing: CONFIG_MEM_SOFT_DIRTY is rare, and pagemap's exclusive bit serves as well",
        )  # fmt: skip


def _surroundings(facts: Facts) -> Iterator[Check]:
    if facts.container:
        yield Check("container", CheckState.INFO, "signs of one: " + ", ".join(facts.container))
    else:
        yield Check("container", CheckState.OK, "no sign of one")
    yield (
        Check("pid-namespace", CheckState.OK, "the machine's first: pids are the kernel's own")
        if facts.first_pid_ns
        else Check(
            "pid-namespace", CheckState.INFO, "one of its own: pids are numbers of this namespace",
            "", "compare with tools of the host by NSpid of /proc/PID/status",
        )
    )  # fmt: skip
    if facts.hidepid in ("off", "0"):
        yield Check("hidepid", CheckState.OK, "/proc shows every process")
    else:
        yield Check(
            "hidepid", CheckState.LIMITED, f"/proc is mounted with hidepid={facts.hidepid}",
            "processes of other users cannot be looked at, nor counted against limits",
            "run as root or in the group that /proc's gid= option names",
        )  # fmt: skip
    if facts.new_user_ns is True:
        yield Check("user-namespaces", CheckState.OK, "programs here may create them")
    else:
        yield Check(
            "user-namespaces", CheckState.INFO, f"programs here cannot create them: {_why(facts.new_user_ns)}", "",
            "CLONE_NEWUSER fails in what you trace: sysctl user.max_user_namespaces, "
            "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns",
        )  # fmt: skip
    if facts.tracefs is True:
        yield Check("tracefs", CheckState.OK, "the kernel's tracepoints can check a trace (scripts/compare)")
    else:
        yield Check(
            "tracefs", CheckState.INFO, _why(facts.tracefs), "",
            "run as root on the host to check traces against the kernel's tracepoints; tracing needs it not",
        )  # fmt: skip
    for abi, answer in facts.abis.items():
        found = f"programs of this ABI {'run' if answer is True else 'do not run: ' + _why(answer)}"
        yield Check(abi, CheckState.OK if answer is True else CheckState.INFO, found)


_LOW: Final = 200
"""Less room than this for new tasks is worth a warning: a parallel build or a thread pool takes as many."""

_ROOMS: Final = (
    ("rlimit_nproc", "user_tasks", "tasks of this user (ulimit -u)"),
    ("threads_max", "threads_now", "tasks of the machine (kernel.threads-max)"),
    ("pids_max", "pids_current", "tasks of this cgroup (pids.max)"),
)
_SIZES: Final = (("pid_max", "pids (kernel.pid_max)"), ("rlimit_nofile", "descriptors (ulimit -n)"))


def _limits(facts: Facts) -> Check:
    limits = facts.limits
    known = [row for row in _ROOMS if row[0] in limits and row[1] in limits]
    phrases = [f"{limits[now]} of {limits[most]} {what}" for most, now, what in known]
    phrases += [f"{limits[name]} {what}" for name, what in _SIZES if name in limits]
    found = ", ".join(phrases) or "none could be read"
    room = min((limits[most] - limits[now] for most, now, _ in known), default=_LOW)
    if room >= _LOW:
        return Check("limits", CheckState.OK, found)
    return Check(
        "limits", CheckState.LIMITED, found,
        f"there is room for {max(room, 0)} more tasks: then fork fails with EAGAIN",
        "raise the limit that is near (ulimit -u, sysctl kernel.threads-max, the cgroup's pids.max)",
    )  # fmt: skip
