"""The probe: built once an arch and kept, for it depends on no C library's headers, symbols or versions.

A shared object with an entry of its own that names libc.so.6 and libdl.so.2 as needed but takes no versioned symbol
from them: glibc of any version loads it, and musl takes both names for itself (ldso/dynlink.c: load_library).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path
from typing import Final

from forklore.abi.arch import Arch
from forklore.features.audit.errors import AuditError
from forklore.features.audit.observe.package import cache

_NEEDED: Final = ("libc.so.6", "libdl.so.2")
_FLAGS: Final = (
    "-O1", "-std=gnu11", "-ffreestanding", "-fPIC", "-fno-stack-protector", "-shared", "-nostdlib",
    "-Wl,-e,probe_start", "-Wl,--no-as-needed", "-Wl,--hash-style=both",
)  # fmt: skip
ARCH_FLAGS: Final = {Arch.X86_64: ["-m64"], Arch.I386: ["-m32"]}
LIMIT: Final = 120
"""Seconds for a step of the build."""
NO_COMPILER: Final = "there is no C compiler here (cc, gcc or clang; Debian: apt install gcc)"
ELSEWHERE: Final = "build one elsewhere with `forklore audit --build-probe FILE` and give it with --probe FILE"


class NoProbeError(AuditError):
    """The probe could not be built; the text says why and what to do."""


def source() -> bytes:
    """probe.c."""
    return resources.files("forklore.features.audit.observe").joinpath("probe.c").read_bytes()


def probe(arch: Arch) -> Path:
    """The probe for ``arch``, from the cache or built by $CC, cc, gcc or clang. NoProbeError."""
    found = compiler()
    flags = [*_FLAGS, *ARCH_FLAGS.get(arch, [])]
    text = source()
    key = hashlib.sha256(b"\0".join([text, str(found).encode(), *(flag.encode() for flag in flags)])).hexdigest()
    target = cache() / "probes" / f"{arch}-{key[:24]}"
    if target.exists():
        return target
    if found is None:
        kept = sorted((cache() / "probes").glob(f"{arch}-*"))
        if kept:
            return kept[-1]
        raise NoProbeError(f"{NO_COMPILER} and no probe was built before: {ELSEWHERE}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, "probe")
        _build(found, flags, text, Path(folder), made, arch)
        made.rename(target)
    return target


def compiler() -> str | None:
    """The path of $CC, cc, gcc or clang."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        found = shutil.which(name) if name else None
        if found:
            return found
    return None


def _build(compiler: str, flags: list[str], text: bytes, folder: Path, made: Path, arch: Arch) -> None:
    code = folder / "probe.c"
    code.write_bytes(text)
    machine = ARCH_FLAGS.get(arch, [])
    empty = folder / "empty.c"
    empty.write_text("")
    stubs = []
    for soname in _NEEDED:
        stub = folder / soname
        named = ["-shared", "-nostdlib", f"-Wl,-soname,{soname}", "-o", str(stub)]
        compile_probe([compiler, *machine, *named, str(empty)], arch)
        stubs.append(str(stub))
    compile_probe([compiler, *flags, str(code), *stubs, "-o", str(made)], arch)


def compile_probe(command: list[str], arch: Arch) -> None:
    """Run a step of building a probe. NoProbeError with what the compiler says."""
    hint = " (Debian: apt install gcc-multilib)" if arch is Arch.I386 else ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT)
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise NoProbeError(f"{command[0]} cannot build the probe for {arch}: {problem}") from problem
    if done.returncode != 0:
        said = "; ".join(done.stderr.split("\n")).strip("; ")[:500]
        raise NoProbeError(f"{command[0]} cannot build the probe for {arch}{hint}: {said}")
