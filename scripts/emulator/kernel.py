"""Out of a Debian kernel package: the image that qemu boots, and an initial file system with its modules."""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from emulator.machines import MODULES, Problem

GUEST: Final = Path(__file__).resolve().parent / "guest"

_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")


def _contents(module: Path) -> bytes:
    raw = module.read_bytes()
    return lzma.decompress(raw) if module.suffix == ".xz" else raw


class Modules:
    """The modules of one kernel, by name; what is built in is not among them and needs no loading."""

    def __init__(self, folder: Path) -> None:
        found = (path for path in folder.rglob("*.ko*") if path.suffix in (".ko", ".xz"))
        self._paths = {path.name.partition(".")[0].replace("-", "_"): path for path in found}
        if not self._paths:
            raise Problem(f"{folder} has no modules that can be read (.ko or .ko.xz): is the kernel package complete?")

    def in_order(self, names: Iterable[str]) -> list[tuple[str, bytes]]:
        """Names and contents of modules, each after those that it depends on."""
        loaded: dict[str, bytes] = {}
        for name in names:
            self._load(name, loaded)
        return list(loaded.items())

    def _load(self, name: str, loaded: dict[str, bytes]) -> None:
        path = self._paths.get(name)
        if path is None or name in loaded:
            return
        contents = _contents(path)
        depends = _DEPENDS.search(contents)
        for needed in depends[1].decode().split(",") if depends is not None else ():
            self._load(needed.replace("-", "_"), loaded)
        loaded[name] = contents


def boot_files(root: Path, target: Path) -> None:
    """Write ``target``/vmlinuz and ``target``/initrd from the unpacked system in ``root``."""
    kernels = sorted(root.glob("boot/vmlinu[xz]-*"))
    if not kernels:
        raise Problem(f"no kernel in {root}/boot: the kernel package was not unpacked")
    kernel = kernels[-1]
    release = kernel.name.partition("-")[2]
    shutil.copy(kernel, target / "vmlinuz")
    early = target / "early"
    shutil.rmtree(early, ignore_errors=True)
    for name in ("bin", "modules", "proc", "dev", "root"):
        (early / name).mkdir(parents=True)
    shutil.copy(root / "bin/busybox", early / "bin/busybox")
    shutil.copy(GUEST / "init", early / "init")
    (early / "init").chmod(0o755)
    order = Modules(root / "usr/lib/modules" / release).in_order(MODULES)
    for name, contents in order:
        (early / "modules" / f"{name}.ko").write_bytes(contents)
    (early / "modules/order").write_text("".join(f"{name}\n" for name, _ in order))
    _archive(early, target / "initrd")
    shutil.rmtree(early)


def _archive(folder: Path, target: Path) -> None:
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))]
    with target.open("wb") as out:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], input="\n".join([*names, ""]).encode(), stdout=out,
            cwd=folder, check=True,
        )  # fmt: skip
