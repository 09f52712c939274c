"""A disk with Debian of another architecture, made without executing anything of that architecture on this machine.

The packages are unpacked, not installed: their scripts could not run here. What tests need of those scripts' work is
done by :mod:`emulator.image` as far as it is files, and by guest/prepare in the emulated machine, once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Final

from emulator.kernel import GUEST, PATH, Boot, boot_files, other_kernel, run, without_devices
from emulator.machines import MODULES, PACKAGES, Machine, Problem

ROOT: Final = Path(__file__).resolve().parents[2]
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SIZE: Final = "12G"
"""Of the disk; the file is sparse and takes what is in it."""

HOST_PACKAGES: Final = (("mmdebstrap", "mmdebstrap"), ("mkfs.ext4", "e2fsprogs"), ("cpio", "cpio"))

_LINKS: Final = {"usr/bin/awk": "mawk", "usr/bin/cc": "gcc", "usr/bin/pager": "/bin/more"}
"""Alternatives that scripts of packages set."""


def say(text: str) -> None:
    """A line about the progress."""
    print(f"emulated: {text}", file=sys.stderr, flush=True)


def cache() -> Path:
    """Below $XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "forklore/emulated")


def mirror() -> str:
    """The Debian mirror of this machine's own apt sources."""
    for file in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        for line in file.read_text(errors="replace").splitlines() if file.is_file() else ():
            found = re.match(r"(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s*)?)(\S+/debian/?)(?:\s|$)", line)
            if found:
                return found[1]
    raise Problem("no Debian mirror in this machine's apt sources: a line `deb URL/debian SUITE main` is needed")


def require(machine: Machine) -> None:
    """Raise a Problem that names what this machine lacks to build and boot an image."""
    needed = (*HOST_PACKAGES, *machine.host_packages)
    there = [what for what, _ in needed if shutil.which(what, path=PATH) is not None or Path(what).is_file()]
    lacking = sorted({package for what, package in needed if what not in there})
    if lacking:
        raise Problem(f"not installed: {' '.join(lacking)}. On Debian: apt install {' '.join(lacking)}")


class Image:
    """The disk, kernel and first file system of one machine and suite, in a folder of the cache."""

    def __init__(self, machine: Machine, suite: str) -> None:
        self.machine = machine
        self.suite = suite
        made_by = [(GUEST / name).read_text() for name in ("init", "prepare")]
        parts = [repr(machine), *PACKAGES, *MODULES, *requirements(), *made_by]
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
        self.folder = cache() / f"{machine.name}-{suite}-{key}"

    @property
    def disk(self) -> Path:
        """A raw ext4 file system."""
        return self.folder / "disk"

    @property
    def kernel(self) -> Path:
        """What qemu boots."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial file system."""
        return self.folder / "initrd"

    @property
    def busybox(self) -> Path:
        """The static one of that architecture: of which a first file system is made, for another kernel too."""
        return self.folder / "busybox"

    def boot(self, kernel: str | None) -> Boot:
        """What is booted: the image's own kernel, or that of another package."""
        if kernel is None:
            return Boot(self.kernel, self.initrd, None)
        return other_kernel(kernel, self.folder, self.busybox)

    @property
    def programs(self) -> Path:
        """What the tests have compiled there in earlier runs, by the sources' and the compiler's identities."""
        return self.folder / "programs"

    @property
    def built(self) -> bool:
        """Whether it was made; it may have to be prepared."""
        return (self.folder / "built").exists()

    @property
    def ready(self) -> bool:
        """Whether it was made and prepared."""
        return (self.folder / "ready").exists()

    def build(self) -> None:
        """Everything but the preparation in the emulated machine, after which :meth:`finished` is called."""
        if os.geteuid() != 0:
            raise Problem("an image can be made by root alone: it has files of root's and of others")
        shutil.rmtree(self.folder, ignore_errors=True)
        root = self.folder / "root"
        self.folder.mkdir(parents=True)
        say(f"fetching and unpacking Debian {self.suite} for {self.machine.debian} (a minute)")
        self._unpack(root)
        self._configure(root)
        say("fetching Python packages")
        self._python(root)
        shutil.copy(root / "bin/busybox", self.busybox)
        boot_files(root, self.folder, self.busybox)
        without_devices(root)
        with self.disk.open("wb") as disk:
            disk.truncate(0)
        run(["mkfs.ext4", "-q", "-F", "-d", str(root), str(self.disk), SIZE], "could not make the disk")
        shutil.rmtree(root)
        (self.folder / "built").touch()

    def finished(self) -> None:
        """The machine has prepared the image."""
        (self.folder / "ready").touch()

    def _unpack(self, root: Path) -> None:
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        usr = 'for d in bin sbin lib; do mkdir -p "$1/usr/$d"; [ -e "$1/$d" ] || ln -s "usr/$d" "$1/$d"; done'
        packages = ",".join((*PACKAGES, self.machine.kernel, *self.machine.debian_python))
        run(
            [
                "mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--architectures={self.machine.debian}",
                "--include=?essential", f"--include={packages}", f"--setup-hook={usr}", self.suite, str(root),
                f"deb {signed}{mirror()} {self.suite} main",
            ],
            f"mmdebstrap could not unpack Debian {self.suite} for {self.machine.debian} (is there a network? does the "
            f"suite have that architecture? is the machine's debian-archive-keyring new enough for the suite?)",
        )  # fmt: skip

    @staticmethod
    def _configure(root: Path) -> None:
        for name in ("passwd", "group"):
            shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / f"etc/{name}")
        shutil.copy(root / "usr/share/libc-bin/nsswitch.conf", root / "etc/nsswitch.conf")
        (root / "etc/hosts").write_text("127.0.0.1 localhost emulated\n::1 localhost\n")
        (root / "etc/hostname").write_text("emulated\n")
        (root / "etc/resolv.conf").write_text("")
        for link, target in _LINKS.items():
            if not os.path.lexists(root / link):
                (root / link).symlink_to(target)

    def _python(self, root: Path) -> None:
        library = next(iter(sorted(root.glob("usr/lib/python3.*/os.py"))), None)
        if library is None:
            raise Problem(f"Debian {self.suite} unpacked without a Python 3")
        version = library.parent.name.removeprefix("python")
        if tuple(map(int, version.split("."))) < (3, 11):
            raise Problem(f"Debian {self.suite} has Python {version}, and forklore needs 3.11: take a newer suite")
        own = {name.removeprefix("python3-") for name in self.machine.debian_python}
        wanted = [line for line in requirements() if re.split(r"[<>=!~ ]", line)[0] not in own]
        target = root / f"usr/local/lib/python{version}/dist-packages"
        platforms = [word for platform in self.machine.platforms for word in ("--platform", platform)]
        run(
            [
                sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile",
                "--only-binary=:all:", "--implementation=cp", f"--python-version={version}", *platforms,
                f"--target={target}", *wanted,
            ],
            f"pip could not fetch the Python packages for {self.machine.name} (is there a network? does each have a "
            f"wheel for {self.machine.platforms[0]}? is pip there: {sys.executable} -m pip --version)",
        )  # fmt: skip
        (target / "forklore.pth").write_text("/forklore/src\n")


def requirements() -> list[str]:
    """What the project and its tests need, without the tools that check or build something and without the browser."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = ("argparse-manpage", "build", "import-linter", "mypy", "playwright", "ruff")
    tests = [line for line in project["optional-dependencies"]["dev"] if not line.startswith(tools)]
    return sorted({*project["dependencies"], *tests})
