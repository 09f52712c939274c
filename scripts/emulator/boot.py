"""Boots an image, with a folder of this machine's shared as the emulated machine's /host."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from emulator.image import Image
from emulator.kernel import GUEST

PLAIN: Final = "nokaslr mitigations=off kpti=off init_on_alloc=0"
"""For the kernel: without what guards against attackers of the processor and costs a fifth of the time here."""


@contextmanager
def booted(
    image: Image, shared: Path, start: str, *, processors: int, memory: int, cpu: str | None, keep: bool,
    pidfile: Path | None = None,
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """A running emulator; its console is the process's output. ``start`` is a file of guest/ that it runs.

    ``keep``: what is written to the disk stays. There is no network. The machine has ended, or is ended, at the end.
    """
    for name in ("system", start):
        (shared / ("start" if name == start else name)).write_text((GUEST / name).read_text())
    command = [
        "nice", "-n", "19", image.machine.qemu, "-machine", "virt", "-cpu", cpu or image.machine.cpu,
        "-accel", "tcg,thread=multi,tb-size=512", "-smp", str(processors), "-m", str(memory), "-nographic",
        "-nic", "none", "-no-reboot", "-monitor", "none", "-serial", "stdio",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd),
        "-append", f"console={image.machine.console} quiet panic=-1 {PLAIN}",
        "-drive", f"file={image.disk},format=raw,if=none,id=disk,cache=unsafe,snapshot={'off' if keep else 'on'}",
        "-device", "virtio-blk-device,drive=disk",
        "-fsdev", f"local,id=shared,path={shared},security_model=none",
        "-device", "virtio-9p-device,fsdev=shared,mount_tag=forklore",
    ]  # fmt: skip
    if pidfile is not None:
        command += ["-pidfile", str(pidfile)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def console(process: subprocess.Popen[str], log: Path) -> Iterator[str]:
    """What guest scripts say on the console, without their prefix; everything goes to ``log``."""
    assert process.stdout is not None
    with log.open("a") as copy:
        for line in process.stdout:
            copy.write(line)
            copy.flush()
            _, found, said = line.partition("emulated: ")
            if found:
                yield said.strip()


def last_words(log: Path, count: int = 12) -> Sequence[str]:
    """The end of a console's log, for an error."""
    return log.read_text(errors="replace").splitlines()[-count:] if log.exists() else []
