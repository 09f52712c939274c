"""The machines that can be emulated, and what Debian calls their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


class Problem(Exception):  # noqa: N818 - what its reader gets is a sentence, not a class name
    """Why the machine cannot be set up or run, and what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One architecture. ``host_packages`` are what brings its emulator: a command or file, and its package."""

    name: str
    debian: str
    """Debian's name of the architecture."""
    qemu: str
    board: str
    """qemu's ``-machine``."""
    bus: str
    """What its devices hang on, as the names of qemu's virtio devices end."""
    cpu: str
    console: str
    kernel: str
    """Debian's package of the kernel."""
    suite: str
    """The oldest suite that has the architecture and a Python that is new enough."""
    host_packages: tuple[tuple[str, str], ...]
    platforms: tuple[str, ...]
    """The wheel platforms that run there."""
    options: str = ""
    """Words for the kernel's command line."""
    debian_python: tuple[str, ...] = ()
    """Debian's packages of Python modules for which the package index has no wheel of the architecture."""


MACHINES: Final[Mapping[str, Machine]] = MappingProxyType(
    {
        "aarch64": Machine(
            name="aarch64",
            debian="arm64",
            qemu="qemu-system-aarch64",
            board="virt",
            bus="device",
            cpu="cortex-a72",
            console="ttyAMA0",
            kernel="linux-image-arm64",
            suite="bookworm",
            host_packages=(("qemu-system-aarch64", "qemu-system-arm"),),
            platforms=("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
        ),
        "riscv64": Machine(
            name="riscv64",
            debian="riscv64",
            qemu="qemu-system-riscv64",
            board="virt",
            bus="device",
            cpu="rv64",
            console="ttyS0",
            kernel="linux-image-riscv64",
            suite="trixie",
            host_packages=(
                ("qemu-system-riscv64", "qemu-system-misc"),
                ("/usr/lib/riscv64-linux-gnu/opensbi/generic/fw_dynamic.bin", "opensbi"),
            ),
            platforms=("manylinux_2_39_riscv64", "manylinux_2_31_riscv64"),
            debian_python=("python3-msgspec", "python3-psutil", "python3-capstone", "python3-hypothesis"),
        ),
        "x86_64": Machine(
            name="x86_64",
            debian="amd64",
            qemu="qemu-system-x86_64",
            board="q35",
            bus="pci",
            cpu="max,la57=off",
            console="ttyS0",
            kernel="linux-image-amd64",
            suite="bookworm",
            host_packages=(("qemu-system-x86_64", "qemu-system-x86"), ("/usr/share/seabios/bios-256k.bin", "seabios")),
            platforms=("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
            options="no_timer_check",  # on a busy machine the timer's ticks come too late, and the kernel gives up
        ),
    }
)
"""By the name that :class:`forklore.abi.arch.Arch` has for them."""

MODULES: Final = (
    "virtio_mmio", "virtio_pci", "virtio_blk", "crc32c_generic", "libcrc32c", "ext4", "9pnet_virtio", "9p",
)  # fmt: skip
"""Kernel modules for the disk and the shared folder, in the order in which they are loaded."""

PACKAGES: Final = (
    "bash", "binutils", "bubblewrap", "busybox-static", "gcc", "gdb", "git", "iproute2", "kmod", "libc6-dbg",
    "libc6-dev", "libcap2-bin", "make", "mount", "musl-tools", "passwd", "perl", "procps", "psmisc", "python3",
    "strace", "tini", "util-linux",
)  # fmt: skip
"""What the tests use, and what starts the machine."""
