"""Descriptors of other processes: which open file descriptions they share, and who keeps a pipe open."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from held import Held, forked, in_child
from tracing import Program, said

from forklore.abi.units import Fd, Tid, Unavailable
from forklore.linux.descriptors import Descriptor, DescriptorKind, Reader, order
from forklore.linux.kcmp import Order

ME = Tid(os.getpid())
NOBODY = 65534


def held(tid: int) -> tuple[Descriptor, ...]:
    with Reader(Tid(tid)) as reader:
        numbers = reader.numbers()
        targets = reader.targets(numbers)
        assert list(targets) == numbers
        return tuple(reader.raw(fd, target).described() for fd, target in targets.items())


def test_who_keeps_a_reader_waiting(program: Program) -> None:
    with subprocess.Popen([program("fds_pipe_hang"), "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        lines = said("".join(running.stdout.readline().decode() for _ in range(2)))
        (hang,) = (line for line in lines if line.word == "hang")
        reader, helper = hang.number("pid"), hang.number("child")
        tables = [(reader, held(reader)), (helper, held(helper))]
        running.stdin.close()
        assert running.wait() == 0
    (pipe,) = (d for d in tables[0][1] if d.fd == hang.number("fd"))
    assert (pipe.kind, pipe.flags) == (DescriptorKind.PIPE, os.O_RDONLY)
    assert pipe.inode is not None
    # The helper was forked before the reader closed its copy of the write end, and executed: that end leaked.
    ends = [(task, d) for task, table in tables for d in table if d.inode == pipe.inode]
    assert [(task, d.fd) for task, d in ends if d.flags == os.O_WRONLY] == [(helper, hang.number("held_fd"))]
    (leaked,) = (d for d in tables[1][1] if d.fd == hang.number("held_fd"))
    assert leaked.cloexec is False


def test_what_survives_exec(program: Program) -> None:
    class Execs(Held):
        def __init__(self) -> None:
            super().__init__()
            self.tables: list[tuple[Descriptor, ...]] = []
            self.after: list[tuple[Descriptor, ...]] = []

        def executing(self, tid: Tid) -> None:
            self.tables.append(held(tid))

        def executed(self, tid: Tid) -> None:
            self.after.append(held(tid))

    run = Execs()
    assert run.run(program("fds_leak")) == 0
    # The first execve is that of the program itself, of which only the event is seen.
    assert len(run.tables) == len(run.after) - 1 >= 1
    for before, after in zip(run.tables, run.after[1:], strict=True):
        assert [d.fd for d in after] == [d.fd for d in before if not d.cloexec]
    assert any(d.cloexec for table in run.tables for d in table)


def test_a_fork_child_has_the_same_descriptions_under_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    first, second = (Fd(os.open(path, os.O_RDONLY)) for _ in range(2))
    try:
        with forked() as child:
            assert order(ME, first, child, first) is Order.EQUAL
            assert order(ME, first, child, second) in (Order.LESS, Order.GREATER)
            assert order(ME, first, ME, Fd(os.dup(first))) is Order.EQUAL
            os.lseek(first, 42, os.SEEK_SET)
            assert {d.fd: d.position for d in held(child) if d.fd in (first, second)} == {first: 42, second: 0}
            ways = {order(ME, first, child, second), order(ME, second, child, first)}
            assert ways == {Order.LESS, Order.GREATER}
    finally:
        os.close(first)
        os.close(second)


def test_a_number_that_is_not_open_is_named() -> None:
    answer = order(ME, Fd(1 << 20), ME, Fd(0))
    assert isinstance(answer, Unavailable)
    assert answer.errno == 9
    assert str(1 << 20) in answer.why


def test_another_users_process_is_unavailable_with_the_reason() -> None:
    def look() -> None:
        own = Tid(os.getpid())
        with Reader(own) as mine:
            assert mine.numbers()
        with Reader(Tid(1)) as theirs, pytest.raises(PermissionError):
            theirs.numbers()
        compared = order(own, Fd(0), Tid(1), Fd(0))
        assert isinstance(compared, Unavailable)
        assert compared.errno == 1

    if os.getuid() == 0:
        in_child(look, uid=NOBODY)
    else:
        look()


@pytest.mark.parametrize("count", [1009])
def test_a_thousand_descriptors(count: int) -> None:
    import resource

    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 50:
        pytest.skip(f"RLIMIT_NOFILE is {soft}")
    made = [os.open("/dev/null", os.O_RDONLY) for _ in range(count)]
    try:
        with forked() as child:
            assert sum(d.target == b"/dev/null" and d.fd in made for d in held(child)) == count
    finally:
        for fd in made:
            os.close(fd)
