"""kcmp(2) and /proc, asked about tasks whose sharing the test itself arranged."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from forklore.abi.flags import CLONE_FILES, CLONE_IO, CLONE_SYSVSEM
from forklore.abi.kcmp import UNSET, KcmpType
from forklore.abi.resources import KCMP
from forklore.abi.units import Tid, Unavailable
from forklore.linux import kcmp, observe
from forklore.linux.kcmp import Order, Unset
from forklore.linux.namespaces import NAMES, namespaces
from forklore.linux.observe import Pair, pair

SOURCE = Path(__file__).resolve().parents[2] / "src"
NOBODY = 65534
ME = Tid(os.getpid())


@contextmanager
def child(prepare: Callable[[], object] = lambda: None) -> Iterator[Tid]:
    """A fork child that has done ``prepare`` and waits for a pipe to close."""
    wait, key = os.pipe()
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(key)
            prepare()
            os.write(tell, b".")
            os.read(wait, 1)
        finally:
            os._exit(0)
    os.close(tell)
    assert os.read(told, 1) == b"."
    try:
        yield Tid(pid)
    finally:
        for fd in (wait, key, told):
            os.close(fd)
        os.waitpid(pid, 0)


@contextmanager
def zombie() -> Iterator[Tid]:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        yield Tid(pid)
    finally:
        os.waitpid(pid, 0)


@contextmanager
def thread() -> Iterator[Tid]:
    wait, key = os.pipe()
    started = threading.Event()
    tids: list[int] = []

    def run() -> None:
        tids.append(threading.get_native_id())
        started.set()
        os.read(wait, 1)

    running = threading.Thread(target=run)
    running.start()
    started.wait()
    try:
        yield Tid(tids[0])
    finally:
        os.close(key)
        running.join()
        os.close(wait)


def compare(a: Tid, b: Tid, what: KcmpType) -> Order | Unavailable:
    answer = kcmp.raw(a, b, what)
    return Order(answer) if answer >= 0 else kcmp.refused(a, b, -answer)


def test_a_task_equals_itself() -> None:
    assert [compare(ME, ME, what) for what in KCMP.values()] == [Order.EQUAL] * 6


def test_a_fork_child_has_its_own_and_the_order_is_the_same_seen_from_both() -> None:
    with child() as pid:
        for what in (KcmpType.VM, KcmpType.FILES, KcmpType.FS, KcmpType.SIGHAND):
            there, back = compare(ME, pid, what), compare(pid, ME, what)
            assert {there, back} == {Order.LESS, Order.GREATER}


def test_a_thread_shares_all_but_the_io_context() -> None:
    with thread() as tid:
        found = pair(ME, tid)
        assert (found.mm, found.files, found.fs, found.sighand, found.sysvsem) == (0, 0, 0, 0, 0)
        assert found.io in (UNSET, Order.LESS, Order.GREATER)


def test_two_that_have_none_are_not_said_to_share() -> None:
    """A plain fork: kcmp itself answers EQUAL for SEM_UNDO lists and I/O contexts, for both are NULL."""
    with child() as one, child() as other:
        assert kcmp.raw(one, other, KcmpType.SYSVSEM) == Order.EQUAL
        for flags in (None, int(signal.SIGCHLD)):
            found = pair(one, other, flags)
            assert found.sysvsem == UNSET
            assert found.io == UNSET
            assert Order.EQUAL not in (found.mm, found.files, found.fs, found.sighand)


def test_flags_decide_without_asking_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    asked = kcmp.raw

    def counted(a: int, b: int, what: int) -> int:
        calls.append(what)
        return asked(a, b, what)

    monkeypatch.setattr(kcmp, "raw", counted)
    with child() as one, child() as other:
        assert pair(one, other, CLONE_FILES).sysvsem == UNSET
        assert len(calls) == 6
        assert pair(one, other, CLONE_SYSVSEM).sysvsem == Order.EQUAL  # the kernel makes a list where there was none
        assert len(calls) == 12
        assert pair(one, other, CLONE_IO).io == UNSET


def set_io_priority() -> None:
    from forklore.linux.libc import syscall

    assert syscall(251 if os.uname().machine == "x86_64" else 30, 1, 0, 2 << 13 | 5, 0, 0, 0) == 0


def test_unset_is_told_even_where_this_process_has_all_of_it() -> None:
    """A thread gives this process a SEM_UNDO list, ioprio_set an I/O context: equality with it says nothing then."""
    script = f"""if True:
        import os, sys
        sys.path[:0] = {[str(SOURCE), str(Path(__file__).parent)]!r}
        import test_kcmp as t
        with t.child() as plain, t.child(t.set_io_priority) as has_io, t.thread():
            t.set_io_priority()
            with t.Unset() as unset:
                for what in (t.KcmpType.SYSVSEM, t.KcmpType.IO):
                    assert t.kcmp.raw(os.getpid(), plain, what) != 0
                    assert unset.is_null(plain, what) is True
                assert unset.is_null(has_io, t.KcmpType.SYSVSEM) is True
                assert unset.is_null(has_io, t.KcmpType.IO) is False
            assert t.pair(plain, has_io).sysvsem == t.UNSET
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


def test_the_control_is_gone_after_use() -> None:
    before = (sorted(os.listdir("/proc/self/fd")), [each.pid for each in psutil.Process().children()])
    with Unset() as unset:
        control = unset.control()
        assert kcmp.is_zombie(control)
        assert unset.control() == control
    assert (sorted(os.listdir("/proc/self/fd")), [each.pid for each in psutil.Process().children()]) == before
    assert isinstance(compare(ME, control, KcmpType.VM), Unavailable)


def test_zombies_are_recognised() -> None:
    with zombie() as ended, child() as alive, child(lambda: os.closerange(0, 1)) as without_stdin:
        assert kcmp.is_zombie(ended)
        assert not kcmp.is_zombie(alive)
        assert not kcmp.is_zombie(without_stdin)
    assert kcmp.is_zombie(ended)  # gone altogether


def test_a_task_that_is_gone_is_esrch() -> None:
    with child() as pid:
        pass
    answer = compare(ME, pid, KcmpType.VM)
    assert isinstance(answer, Unavailable)
    assert answer == Unavailable(errno.ESRCH, f"ESRCH: {pid} ended, or is in no pid namespace of ours")
    assert pair(ME, pid) == Pair(*[-errno.ESRCH] * 6)
    found = observe.state(pid)
    assert isinstance(found, Unavailable)
    assert found.errno == errno.ESRCH
    assert {value.errno for value in namespaces(pid).values() if isinstance(value, Unavailable)} == {errno.ESRCH}


def as_nobody(script: str) -> str:
    """Run a script as an ordinary user; ``other``: a process of ours, ``own``: a child of that user's."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    whole = f"""if True:
        import os, sys
        sys.path[:0] = {[str(SOURCE), str(Path(__file__).parent)]!r}
        import test_kcmp as t
        other = os.getppid()
        os.setgroups([]); os.setresgid({NOBODY}, {NOBODY}, {NOBODY}); os.setresuid({NOBODY}, {NOBODY}, {NOBODY})
        t.prctl_dumpable(1)
        me = os.getpid()
    """
    done = subprocess.run(
        [sys.executable, "-c", whole + script], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def prctl_dumpable(value: int) -> None:
    from forklore.linux.libc import prctl

    assert prctl(4, value, 0, 0, 0) == 0


def test_another_users_process_is_eperm_with_the_rule() -> None:
    said = as_nobody(
        """
        found = t.compare(me, other, t.KcmpType.VM)
        print(found.errno, found.why)
        print(set(t.pair(me, other).__struct_fields__) and t.pair(other, me).io)
        print(t.namespaces(other)["mnt"].why)
        print(t.observe.state(other).tgid == other)
        """
    )
    rule = "it runs as another user (uid 0), and this process lacks CAP_SYS_PTRACE over it"
    assert said.splitlines() == [f"1 EPERM: {rule}", "-1", f"EACCES: {rule}", "True"]


def test_ones_own_non_dumpable_child_is_eperm_with_the_rule() -> None:
    said = as_nobody(
        """
        with t.child(lambda: t.prctl_dumpable(0)) as pid:
            print(t.compare(me, pid, t.KcmpType.VM).why)
        """
    )
    assert said.startswith("EPERM: it is not dumpable")


def test_namespaces_are_the_inodes_of_proc() -> None:
    with child() as pid:
        found = namespaces(pid)
        assert tuple(found) == NAMES
        for name, inode in found.items():
            link = f"/proc/{pid}/ns/{name}"
            if os.path.lexists(link):
                assert inode == os.stat(link).st_ino
            else:
                assert isinstance(inode, Unavailable)


def test_a_new_pid_namespace_without_a_process_is_not_a_failure_to_read() -> None:
    new_pid = 0x20000000
    if os.geteuid() != 0:
        pytest.skip("unshare(CLONE_NEWPID) needs CAP_SYS_ADMIN")
    import ctypes

    from forklore.linux.libc import function

    unshare = function("unshare", ctypes.c_int, ctypes.c_int)
    with child(lambda: unshare(new_pid)) as pid:
        found = namespaces(pid)["pid_for_children"]
        assert found == Unavailable(errno.ENOENT, "ENOENT: a new pid namespace that has no process yet")
        assert namespaces(pid)["pid"] == namespaces(ME)["pid"]


def test_state_is_what_the_process_has() -> None:
    def prepare() -> None:
        os.umask(0o27)
        os.setsid()
        from forklore.linux.libc import prctl

        prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS

    with child(prepare) as pid:
        found = observe.state(pid)
        assert not isinstance(found, Unavailable)
        seen = psutil.Process(pid)
        assert (int(found.tgid), found.ppid) == (pid, os.getpid())
        assert (found.pgrp, found.session) == (os.getpgid(pid), os.getsid(pid))
        assert (found.umask, found.no_new_privs, found.exit_signal) == (0o27, True, signal.SIGCHLD)
        assert (found.uid, found.comm.decode()) == (seen.uids().effective, seen.name()[:15])
        assert found.ns_tids[0] == pid
        status = Path(f"/proc/{pid}/status").read_text()
        assert f"Seccomp:\t{found.seccomp}\n" in status
        assert found.seccomp_filters is None or f"Seccomp_filters:\t{found.seccomp_filters}\n" in status
    with thread() as tid:
        found = observe.state(tid)
        assert not isinstance(found, Unavailable)
        assert (found.tid, found.tgid, found.exit_signal) == (tid, os.getpid(), -1)


def test_cgroups_are_the_lines_of_proc() -> None:
    found = observe.cgroup(ME)
    assert not isinstance(found, Unavailable)
    lines = [b"%d:%b:%b" % (each.hierarchy, each.controllers, each.path) for each in found]
    assert b"\n".join(lines) == Path("/proc/self/cgroup").read_bytes().rstrip(b"\n")
