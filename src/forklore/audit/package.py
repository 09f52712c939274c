"""A Debian package file, unpacked as far as a C library goes: an ar archive with a compressed tar in it (deb(5))."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from forklore.audit.archive import BrokenArchiveError, members
from forklore.audit.target import NoTargetError

_ENTRY_LIMIT: Final = 1 << 26
"""Bytes of one file: the largest C library has a few million."""
_TOTAL_LIMIT: Final = 1 << 28
_COUNT_LIMIT: Final = 100_000
_MODES: Final[dict[str, Literal["r:", "r:gz", "r:xz"]]] = {"": "r:", ".gz": "r:gz", ".xz": "r:xz"}


def cache() -> Path:
    """Where unpacked packages and built probes are kept: below $XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "forklore")


def unpack(package: Path) -> Path:
    """The root directory with a package's libraries, in the cache under the hash of its bytes.

    Raises NoTargetError for a file that is no such package.
    """
    try:
        if package.stat().st_size > _TOTAL_LIMIT:
            raise NoTargetError(f"{package} is too large for the package of a C library")
        raw = package.read_bytes()
    except OSError as problem:
        raise NoTargetError(f"{package}: {problem.strerror or problem}") from problem
    target = cache() / "packages" / hashlib.sha256(raw).hexdigest()[:32]
    if target.is_dir():
        return target
    suffix, data = _member(package, raw)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, "root")
        made.mkdir()
        try:
            _extract(data, suffix, made)
        except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError, OSError) as problem:
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
    if suffix not in _MODES:
        raise NoTargetError(
            f"{package} is compressed as {suffix[1:]}, which is not read here: unpack it with"
            f" `dpkg-deb -x {package} DIR` and give DIR"
        )
    return suffix, found[1]


def _extract(data: bytes, suffix: str, root: Path) -> None:
    import io

    total = 0
    with tarfile.open(fileobj=io.BytesIO(data), mode=_MODES[suffix]) as archive:
        for count, member in enumerate(archive):
            path = PurePosixPath(member.name)
            if count > _COUNT_LIMIT or path.is_absolute() or ".." in path.parts:
                raise ValueError(f"member {member.name!r} or their number is not that of a C library's package")
            if not path.name.startswith(("lib", "ld-", "ld.")) or ".so" not in path.name:
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
