"""Boots an image, with a folder of this machine's shared as the emulated machine's /host."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from emulator.image import Image
from emulator.kernel import GUEST, Boot

PLAIN: Final = "nokaslr mitigations=off kpti=off init_on_alloc=0"
"""For the kernel: without what guards against attackers of the processor and costs a fifth of the time here."""


@contextmanager
def booted(
    image: Image, shared: Path, start: str, *, processors: int, memory: int, cpu: str | None, keep: bool,
    pidfile: Path | None = None, boot: Boot | None = None, options: str = "", nice: int = 19,
) -> Iterator[subprocess.Popen[str]]:  # fmt: skip
    """A running emulator; its console is the process's output. ``start`` is a file of guest/ that it runs.

    ``keep``: what is written to the disk stays. ``boot``: another kernel than the image's; ``options``: more words for
    the kernel. There is no network. The machine has ended, or is ended, at the end.
    """
    for name in ("system", start):
        (shared / ("start" if name == start else name)).write_text((GUEST / name).read_text())
    boot = boot or image.boot(None)
    if boot.modules is not None:
        shutil.copytree(boot.modules, shared / "modules", symlinks=True)
    command = [
        "nice", "-n", str(nice), image.machine.qemu, "-machine", image.machine.board, "-cpu", cpu or image.machine.cpu,
        "-accel", "tcg,thread=multi,tb-size=512", "-smp", str(processors), "-m", str(memory), "-nographic",
        "-nic", "none", "-no-reboot", "-monitor", "none", "-serial", "stdio",
        "-kernel", str(boot.kernel), "-initrd", str(boot.initrd),
        "-append", f"console={image.machine.console} quiet panic=-1 {PLAIN} {image.machine.options} {options}",
        "-drive", f"file={image.disk},format=raw,if=none,id=disk,cache=unsafe,snapshot={'off' if keep else 'on'}",
        "-device", f"virtio-blk-{image.machine.bus},drive=disk",
        "-fsdev", f"local,id=shared,path={shared},security_model=none",
        "-device", f"virtio-9p-{image.machine.bus},fsdev=shared,mount_tag=forklore",
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
