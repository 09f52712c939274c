"""Out of a Debian kernel package: the image that qemu boots, and an initial file system with its modules."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from emulator.machines import MODULES, Problem

GUEST: Final = Path(__file__).resolve().parent / "guest"

PATH: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))

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


class Boot(NamedTuple):
    """What a machine boots, and what of the kernel's modules it has beside those of the first file system."""

    kernel: Path
    initrd: Path
    modules: Path | None
    """``/usr/lib/modules`` of the package; None: they are on the disk."""


def boot_files(root: Path, target: Path, busybox: Path) -> None:
    """Write ``target``/vmlinuz and ``target``/initrd from a kernel package that is unpacked in ``root``."""
    kernels = sorted(root.glob("boot/vmlinu[xz]-*"))
    if not kernels:
        raise Problem(f"no kernel in {root}/boot: the kernel package was not unpacked, or it is not one")
    kernel = kernels[-1]
    release = kernel.name.partition("-")[2]
    shutil.copy(kernel, target / "vmlinuz")
    early = target / "early"
    shutil.rmtree(early, ignore_errors=True)
    for name in ("bin", "modules", "proc", "dev", "root"):
        (early / name).mkdir(parents=True)
    shutil.copy(busybox, early / "bin/busybox")
    shutil.copy(GUEST / "init", early / "init")
    (early / "init").chmod(0o755)
    order = Modules(next(path for path in modules_folders(root) if (path / release).is_dir()) / release)
    loaded = order.in_order(MODULES)
    for name, contents in loaded:
        (early / "modules" / f"{name}.ko").write_bytes(contents)
    (early / "modules/order").write_text("".join(f"{name}\n" for name, _ in loaded))
    _archive(early, target / "initrd")
    shutil.rmtree(early)


def modules_folders(root: Path) -> list[Path]:
    """Where an unpacked package can have its modules: /lib before Debian 13, /usr/lib since."""
    return [root / "usr/lib/modules", root / "lib/modules"]


def without_devices(root: Path) -> None:
    """Take the modules of devices away, which an emulated machine does not have; depmod would read them all."""
    for modules in modules_folders(root):
        for folder in ("drivers", "sound"):
            for found in modules.glob(f"*/kernel/{folder}"):
                shutil.rmtree(found)


def other_kernel(package: str, cache: Path, busybox: Path) -> Boot:
    """That of another Debian package, a file or a name that this machine's apt knows, unpacked once in ``cache``."""
    tools = (("dpkg-deb", "dpkg"), ("apt-get", "apt"), ("depmod", "kmod"))
    if lacking := [name for tool, name in tools if shutil.which(tool, path=PATH) is None]:
        raise Problem(f"not installed: {' '.join(lacking)}. On Debian: apt install {' '.join(lacking)}")
    file = Path(package) if package.endswith(".deb") else _fetched(package, cache)
    if not file.is_file():
        raise Problem(f"{package} is no file: --kernel takes a .deb, or the name of a package that apt knows")
    folder = cache / f"kernel-{file.name.removesuffix('.deb')}"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        root = folder / "root"
        root.mkdir(parents=True)
        run(["dpkg-deb", "-x", str(file), str(root)], f"{file} was not unpacked")
        boot_files(root, folder, busybox)
        without_devices(root)
        modules = _modules(root)
        release = next(modules.iterdir()).name
        run(["depmod", "-b", str(modules.parent.parent), release], "the modules' dependencies were not found out")
        (folder / "ready").touch()
    return Boot(folder / "vmlinuz", folder / "initrd", _modules(folder / "root"))


def _modules(root: Path) -> Path:
    return next(path for path in modules_folders(root) if path.is_dir())


def _fetched(package: str, cache: Path) -> Path:
    # The file's name has the version, and colons of it are written as apt writes them.
    cache.mkdir(parents=True, exist_ok=True)
    there = sorted(cache.glob(f"{package}_*.deb"))
    if not there:
        run(
            ["apt-get", "download", "-q", package],
            f"apt could not fetch {package} (apt-cache search linux-image has the names; for another architecture: "
            f"dpkg --add-architecture, apt-get update, and NAME:ARCHITECTURE)",
            cache,
        )
        there = sorted(cache.glob(f"{package.partition(':')[0]}_*.deb"))
    if not there:
        raise Problem(f"apt fetched no file for {package}")
    return there[-1]


def run(command: list[str], problem: str, where: Path | None = None) -> None:
    """A command; its last lines are in the Problem that is raised where it fails."""
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", cwd=where, env={**os.environ, "PATH": PATH},
    )  # fmt: skip
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines()[-8:]
        raise Problem("\n  ".join([f"{problem}. {command[0]} ended with status {done.returncode}:", *lines]))


def _archive(folder: Path, target: Path) -> None:
    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*"))]
    with target.open("wb") as out:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], input="\n".join([*names, ""]).encode(), stdout=out,
            cwd=folder, check=True,
        )  # fmt: skip
