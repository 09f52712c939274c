"""A Debian package file, unpacked as far as a C library goes: an ar archive with a compressed tar in it (deb(5))."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import os
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Final

from forklore.features.audit.observe.target import NoTargetError
from forklore.features.audit.static.archive import BrokenArchiveError, members

_FORM: Final = b"2"
"""What is taken out of a package: part of the name that it is kept under, and changed with :func:`_wanted`."""
_STATIC: Final = frozenset({
    "libc.a", "libpthread.a", "librt.a", "libutil.a", "libanl.a", "crt1.o", "crti.o", "crtn.o",
})  # fmt: skip
"""What a static program is linked with."""
_ENTRY_LIMIT: Final = 1 << 26
"""Bytes of one file: the largest C library has a few million."""
_TOTAL_LIMIT: Final = 1 << 28
_COUNT_LIMIT: Final = 100_000
_SUFFIXES: Final = frozenset({"", ".gz", ".xz"})


def cache() -> Path:
    """Where unpacked packages and built probes are kept: below $XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "forklore")


def refusal(problem: OSError) -> str:
    """What the system refused to an audit, of which file, and what to do about it."""
    said = problem.strerror or str(problem)
    if problem.filename is None:
        hint = "; `forklore doctor` says what this machine allows" if isinstance(problem, PermissionError) else ""
        return f"{said}{hint}"
    where, kept = os.fsdecode(problem.filename), str(cache())
    if where.startswith(kept) or kept.startswith(f"{where.rstrip('/')}/"):
        keeping = f"built probes and packages are kept below {kept}"
        return f"{where}: {said}: {keeping}; set XDG_CACHE_HOME to a directory that you may write"
    return f"{where}: {said}"


def unpack(package: Path) -> Path:
    """The root directory with a package's libraries, shared and static, in the cache under the hash of its bytes.

    Raises NoTargetError for a file that is no such package.
    """
    try:
        if package.stat().st_size > _TOTAL_LIMIT:
            raise NoTargetError(f"{package} is too large for the package of a C library")
        raw = package.read_bytes()
    except OSError as problem:
        raise NoTargetError(f"{package}: {problem.strerror or problem}") from problem
    target = cache() / "packages" / hashlib.sha256(_FORM + raw).hexdigest()[:32]
    if target.is_dir():
        return target
    suffix, data = _member(package, raw)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, "root")
        made.mkdir()
        try:
            _extract(data, suffix, made)
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, ValueError, OSError) as problem:
            raise NoTargetError(f"{package} is a broken package: {problem}") from problem
        if not target.is_dir():
            made.rename(target)
    return target


def _member(package: Path, raw: bytes) -> tuple[str, bytes]:
    try:
        found = next((each for each in members(raw) if each[0].startswith("data.tar")), None)
    except BrokenArchiveError as problem:
        raise NoTargetError(f"{package} {problem}: not a Debian package") from problem
    if found is None:
        raise NoTargetError(f"{package} holds no data.tar: not a Debian package")
    suffix = found[0].rstrip("/").removeprefix("data.tar")
    if suffix not in _SUFFIXES:
        raise NoTargetError(
            f"{package} is compressed as {suffix[1:]}, which is not read here: unpack it with"
            f" `dpkg-deb -x {package} DIR` and give DIR"
        )
    return suffix, found[1]


def _opened(data: bytes, suffix: str) -> io.BufferedIOBase:
    file = io.BytesIO(data)
    if suffix == ".gz":
        return gzip.GzipFile(fileobj=file)
    return lzma.LZMAFile(file) if suffix == ".xz" else file


def _wanted(name: str) -> bool:
    return name in _STATIC or (name.startswith(("lib", "ld-", "ld.")) and ".so" in name)


def _extract(data: bytes, suffix: str, root: Path) -> None:
    total = 0
    # Unpacked as a whole and no further: a few bytes of it can stand for very many.
    with _opened(data, suffix) as packed:
        raw = packed.read(_TOTAL_LIMIT + 1)
    if len(raw) > _TOTAL_LIMIT:
        raise ValueError(f"it holds more than {_TOTAL_LIMIT} bytes")
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
        for count, member in enumerate(archive):
            path = PurePosixPath(member.name)
            if count > _COUNT_LIMIT or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"member {member.name!r} or their number is not that of a C library's package")
            if not _wanted(path.name):
                continue
            place = root / path
            if member.isfile():
                total += member.size
                if member.size > _ENTRY_LIMIT or total > _TOTAL_LIMIT:
                    raise ValueError(f"{member.name!r} has {member.size} bytes")
                file = archive.extractfile(member)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.read() if file is not None else b"")
                place.chmod(0o755)
            elif member.issym() and "/" not in member.linkname:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(member.linkname)
