"""Packages and library files, sound and broken ones."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forklore.abi.arch import Arch
from forklore.features.audit import audits
from forklore.features.audit.observe.package import unpack
from forklore.features.audit.observe.target import NoTargetError, Target, from_file, running, targets, under
from forklore.features.audit.static.elf_file import BrokenElfError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def member(name: str, data: bytes) -> bytes:
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n"
    return header.encode() + data + b"\n" * (len(data) % 2)


def package(files: dict[str, bytes], links: dict[str, str] | None = None, suffix: str = ".xz") -> bytes:
    packed = io.BytesIO()
    mode = "w:xz" if suffix == ".xz" else "w:"
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    members = member("debian-binary", b"2.0\n") + member(f"data.tar{suffix}", packed.getvalue())
    return b"!<arch>\n" + members


def test_only_libraries_and_links_beside_them_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "libc6.deb"
    path.write_bytes(
        package(
            {
                "./lib/libc-2.31.so": b"x", "./usr/share/doc/libc6/README": b"y", "./usr/lib/libc.a": b"z",
                "./usr/lib/crt1.o": b"z", "./usr/lib/libm.a": b"z",
            },
            {"./lib/libc.so.6": "libc-2.31.so", "./lib64/ld-linux.so.2": "/lib/ld-2.31.so"},
        )
    )
    root = unpack(path)
    assert sorted(str(file.relative_to(root)) for file in root.rglob("*") if not file.is_dir()) == [
        "lib/libc-2.31.so", "lib/libc.so.6", "usr/lib/crt1.o", "usr/lib/libc.a",
    ]  # fmt: skip
    assert unpack(path) == root


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "no ar archive"),
        (b"!<arch>\n", "no data.tar"),
        (b"!<arch>\n" + b"x" * 60, "broken ar archive at byte 8"),
        (package({"lib/libc.so.6": b"x"})[:-20], "cut short"),
        (b"!<arch>\n" + member("data.tar.zst", b"x"), "dpkg-deb -x"),
        (b"!<arch>\n" + member("data.tar.xz", b"no xz"), "broken package"),
        (package({"../../etc/libc.so": b"x"}), "broken package"),
    ],
)
def test_a_broken_package_is_refused_with_a_reason(tmp_path: Path, raw: bytes, says: str) -> None:
    path = tmp_path / "broken.deb"
    path.write_bytes(raw)
    with pytest.raises(NoTargetError, match=says):
        unpack(path)
    assert not (tmp_path.parent / "etc").exists()


def test_the_running_library_names_itself() -> None:
    found = running()
    assert found.family in ("glibc", "musl")
    assert found.number >= (1, 1)
    assert found.linker is not None
    assert found.linker.is_file()


def test_what_is_no_library_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "libc.so.6"
    text.write_text("/* GNU ld script */")
    with pytest.raises(BrokenElfError, match="not an ELF file"):
        from_file(text)
    with pytest.raises(NoTargetError, match="No such file"):
        from_file(tmp_path / "nothing")
    with pytest.raises(NoTargetError, match="not a C library"):
        from_file(Path("/proc/self/exe"))
    (tmp_path / "lib").mkdir()
    text.rename(tmp_path / "lib/libc.so.6")
    assert list(under(tmp_path)) == []
    with pytest.raises(NoTargetError, match="no C library below it"):
        targets(tmp_path)


HEAD = running().path.read_bytes()[:4096]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_head_is_an_error_or_a_library_and_nothing_else(data: st.DataObject) -> None:
    import tempfile

    raw = bytearray(HEAD[: data.draw(st.integers(16, len(HEAD)))])
    for at, value in data.draw(st.lists(st.tuples(st.integers(4, len(raw) - 1), st.integers(0, 255)), max_size=12)):
        raw[at] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "libc.so.6")
        path.write_bytes(raw)
        with pytest.raises((NoTargetError, BrokenElfError)):
            from_file(path)


def test_two_roots_are_compared_by_their_shared_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    # Which libraries are audited is looked at here, and not the audits.
    shared, static = Target(**{**ANY, "linker": Path("ld.so")}), Target(**ANY)
    audited: list[Target] = []
    monkeypatch.setattr(audits, "audit_of", lambda target, *_: audited.append(target))
    for found, wanted in (([shared, static], [shared]), ([static], [static]), ([shared], [shared])):
        monkeypatch.setattr(audits, "targets", lambda *_, found=found: found)
        audited.clear()
        audits.named(Path("/"), audits.How(shared_only=True), print)
        assert audited == wanted
        audited.clear()
        audits.named(Path("/"), audits.How(), print)
        assert audited == found


ANY: dict[str, Any] = {
    "family": "musl", "version": "1.2.5", "package": None, "arch": Arch.X86_64, "build_id": None,
    "path": Path("libc.a"), "linker": None,
}  # fmt: skip
