"""Kinds of descriptors by name, and this process's own ones."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.units import Fd, Tid
from forklore.linux.descriptors import (
    Descriptor,
    DescriptorKind,
    Inode,
    Raw,
    Reader,
    by_name,
    cloexec,
    parse_fdinfo,
)

OWN = Tid(os.getpid())
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"pipe:[12]", (DescriptorKind.PIPE, Inode(0, 12))),
        (b"socket:[3]", (DescriptorKind.SOCKET, Inode(0, 3))),
        (b"net:[4026531840]", (DescriptorKind.NAMESPACE, Inode(0, 4026531840))),
        (b"anon_inode:[eventfd]", (DescriptorKind.EVENTFD, None)),
        (b"anon_inode:inotify", (DescriptorKind.INOTIFY, None)),
        (b"anon_inode:bpf-map", (DescriptorKind.BPF, None)),
        (b"anon_inode:[new thing]", (DescriptorKind.OTHER, None)),
        (b"strange:[1]", (DescriptorKind.OTHER, Inode(0, 1))),
        (b"/tmp/pipe:[12]", (None, None)),
        (b"/x (deleted)", (None, None)),
    ],
)
def test_what_a_name_tells(target: bytes, expected: object) -> None:
    assert by_name(target) == expected


@given(st.binary(max_size=80))
@settings(max_examples=100, deadline=None)
def test_any_name_and_any_fdinfo_have_an_answer(raw: bytes) -> None:
    kind, _inode = by_name(raw)
    assert kind is None or kind in DescriptorKind
    assert all(b":" not in name for name in parse_fdinfo(raw))


def test_fdinfo_keeps_the_first_of_repeated_fields() -> None:
    raw = b"pos:\t0\nflags:\t02\nmnt_id:\t15\ntfd:        4 events: 19\ntfd:        5 events: 19\n"
    assert parse_fdinfo(raw) == {b"pos": b"0", b"flags": b"02", b"mnt_id": b"15", b"tfd": b"4 events: 19"}


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (b"pos:\t7\nflags:\t02100001\nmnt_id:\t15\nino:\t3\n", (7, os.O_WRONLY | 0o100000, True)),
        (b"pos:\t7\nflags:\t0100001\n", (7, os.O_WRONLY | 0o100000, False)),
        (b"flags:\t02\nmnt_id:\t15\npos:\t7\n", (7, os.O_RDWR, False)),
        (b"flags:\t8\npos:\tx\n", (None, None, None)),
        (b"", (None, None, None)),
    ],
)
def test_fdinfo_of_any_kernel_in_any_order(info: bytes, expected: object) -> None:
    found = Raw(Fd(3), b"pipe:[3]", info, None).described()
    assert (found.position, found.flags, found.cloexec) == expected
    assert cloexec(info) == found.cloexec


@contextmanager
def closing(*fds: int) -> Iterator[None]:
    try:
        yield
    finally:
        for fd in fds:
            os.close(fd)


def own(fd: int) -> Descriptor:
    with Reader(OWN) as reader:
        targets = reader.targets(reader.numbers())
        return reader.raw(Fd(fd), targets[Fd(fd)]).described()


def test_a_pipe_by_its_ends() -> None:
    reader, writer = os.pipe()
    with closing(reader, writer):
        read, write = own(reader), own(writer)
        assert (read.kind, write.kind) == (DescriptorKind.PIPE, DescriptorKind.PIPE)
        assert read.inode == write.inode == Inode(0, os.stat(reader).st_ino)
        assert (read.flags, write.flags) == (os.O_RDONLY, os.O_WRONLY)
        assert read.cloexec is True
        os.set_inheritable(reader, True)
        assert own(reader).cloexec is False


def test_a_file_with_its_offset_and_inode(tmp_path: Path) -> None:
    path = tmp_path / "file (deleted)"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    with closing(fd):
        os.lseek(fd, 7, os.SEEK_SET)
        about = os.fstat(fd)
        found = own(fd)
        assert (found.kind, found.target) == (DescriptorKind.FILE, os.fsencode(path))
        assert (found.position, found.inode) == (7, Inode(about.st_dev, about.st_ino))
        assert found.flags is not None
        assert found.flags & os.O_APPEND
        assert not found.flags & os.O_CLOEXEC
        path.unlink()
        gone = own(fd)
        assert (gone.kind, gone.target) == (DescriptorKind.FILE, os.fsencode(path) + b" (deleted)")


def test_a_path_only_descriptor(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    with closing(fd):
        found = own(fd)
        assert found.kind is DescriptorKind.DIRECTORY
        assert found.flags is not None
        assert found.flags & os.O_PATH


def test_every_kind_that_can_be_made_here(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with ExitStack() as stack:
        epoll = stack.enter_context(select.epoll())
        made = stack.enter_context(socket.socket(socket.AF_UNIX))
        scratch = stack.enter_context(tempfile.TemporaryFile())
        leader, follower = os.openpty()
        plain = {
            os.eventfd(5): DescriptorKind.EVENTFD,
            os.memfd_create("name"): DescriptorKind.MEMFD,
            os.pidfd_open(os.getppid()): DescriptorKind.PIDFD,
            os.open("/proc/self/ns/user", os.O_RDONLY): DescriptorKind.NAMESPACE,
            os.open("/dev/null", os.O_RDWR): DescriptorKind.DEVICE,
            os.open("/", os.O_RDONLY): DescriptorKind.DIRECTORY,
            os.open(fifo, os.O_RDWR): DescriptorKind.FIFO,
            LIBC.timerfd_create(1, 0): DescriptorKind.TIMERFD,
            LIBC.inotify_init1(0): DescriptorKind.INOTIFY,
            LIBC.signalfd(-1, (ctypes.c_ulong * 16)(), 0): DescriptorKind.SIGNALFD,
            leader: DescriptorKind.TTY,
            follower: DescriptorKind.TTY,
        }
        stack.enter_context(closing(*plain))
        expected = {
            **plain,
            epoll.fileno(): DescriptorKind.EPOLL,
            made.fileno(): DescriptorKind.SOCKET,
            scratch.fileno(): DescriptorKind.FILE,
        }
        assert {fd: own(fd).kind for fd in expected} == expected
        fifo_fd = list(plain)[6]
        assert own(fifo_fd).inode == Inode(fifo.stat().st_dev, fifo.stat().st_ino)


def test_a_process_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError), Reader(Tid(1 << 30)):
        pass
