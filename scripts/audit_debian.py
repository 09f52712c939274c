"""Audit the C libraries of Debian's suites and write what they do: docs/libc/ and tests/golden/audit-*.json.

    scripts/audit-debian            fetch, audit, write
    scripts/audit-debian --offline  with the packages that are in the cache already
    scripts/audit-debian --prove    write nothing; run each function under just the filter that `--view seccomp` tells

The packages are fetched by apt with a configuration of its own, from the mirror that this machine's own sources name,
into a cache directory ($XDG_CACHE_HOME/forklore/debian); nothing is installed. Needs apt and, for i386, a compiler
that can build for it (gcc-multilib). Exit status: 0 done, 1 something could not be had.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from forklore.abi.syscalls import CREATIONS
from forklore.features.audit.audit import audit
from forklore.features.audit.observe.package import cache, unpack
from forklore.features.audit.observe.run import prober
from forklore.features.audit.observe.target import Target, targets
from forklore.features.audit.result import Audit, encode, lasting
from forklore.features.audit.show import view
from forklore.features.audit.show.compare import compare
from forklore.features.audit.static import findings

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests/live"))

SUITES = ("bullseye", "bookworm", "trixie", "sid")
PACKAGES = ("libc6:amd64", "libc6-i386:amd64", "musl:amd64", "libc6:arm64")
DOCS = ROOT / "docs/libc"
GOLDEN = ROOT / "tests/golden"
HOW = (
    "Each row: the probe, built without the library's headers, run by the library's own dynamic linker under the"
    " tracer."
)
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def mirror() -> str:
    """The Debian mirror of this machine's own apt sources."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for file in files:
        text = file.read_text(errors="replace") if file.is_file() else ""
        for line in text.splitlines():
            found = re.match(r"(?:URIs:\s*|deb\s+(?:\[[^]]*\]\s*)?)(\S+/debian/?)(?:\s|$)", line)
            if found:
                return found[1]
    sys.exit("no Debian mirror in this machine's apt sources: a line `deb URL/debian SUITE main` is needed")


def fetch(suite: str, folder: Path) -> None:
    """Download a suite's packages into ``folder``/debs."""
    for name in ("lists/partial", "archives/partial", "state", "etc/preferences.d", "debs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "state/status").touch()
    signed = f"signed-by={KEYRING} " if KEYRING.exists() else ""
    (folder / "etc/sources.list").write_text(f"deb [{signed}arch=amd64,arm64] {mirror()} {suite} main\n")
    settings = {
        "Dir::State": folder / "state", "Dir::State::status": folder / "state/status",
        "Dir::State::lists": folder / "lists", "Dir::Cache": folder, "Dir::Cache::archives": folder / "archives",
        "Dir::Etc::sourcelist": folder / "etc/sources.list", "Dir::Etc::sourceparts": "-",
        "Dir::Etc::preferences": "-", "Dir::Etc::preferencesparts": folder / "etc/preferences.d",
        "APT::Architecture": "amd64", "Acquire::Languages": "none", "Acquire::Check-Valid-Until": "false",
        "APT::Sandbox::User": "",
    }  # fmt: skip
    lines = [f'{name} "{value}";' for name, value in settings.items()]
    (folder / "apt.conf").write_text("\n".join([*lines, 'APT::Architectures { "amd64"; "arm64"; };', ""]))
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf")}
    subprocess.run(["apt-get", "-q", "update"], check=True, env=environment, stdout=subprocess.DEVNULL)
    for old in (folder / "debs").glob("*.deb"):
        old.unlink()
    subprocess.run(
        ["apt-get", "-q", "download", *PACKAGES], check=True, env=environment, cwd=folder / "debs",
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def audited(packages: list[Path]) -> dict[str, list[Audit]]:
    """By kind (glibc, glibc i386, musl), the audits in the order of the suites."""
    found: dict[str, list[Audit]] = {}
    for package in packages:
        for target in targets(unpack(package)):
            if target.arch == "aarch64":
                continue
            print(f"auditing {target.name} ({target.package or package.name})")
            kind = target.family if target.arch == "x86_64" else f"{target.family}-{target.arch}"
            found.setdefault(kind, []).append(lasting(audit(prober(target), HOW)))
    return found


def slug(made: Audit) -> str:
    """A file's name for an audit."""
    return f"{made.library.family}-{made.library.version}-{made.library.arch}"


def proved(packages: list[Path]) -> bool:
    """Whether each function lives under just the filter that is told for it, on every library that runs here."""
    from filter_proof import dying

    whole = True
    for package in packages:
        for target in targets(unpack(package)):
            if target.arch == "aarch64":
                continue
            tried, dead = dying(target, lasting(audit(prober(target), HOW)))
            print(f"{target.name} {target.arch} ({target.package or package.name}): {tried} runs, {len(dead)} died")
            for (function, mode), call in dead.items():
                print(f"  {function}, {mode}: {call}")
            whole = whole and not dead
    return whole


def matrix(found: dict[str, list[Audit]]) -> str:
    """docs/libc/matrix.md."""
    about = (
        "Each cell is the call that the function makes in a single-threaded program, as it was seen;"
        " [history.md](history.md) says what it means."
    )
    lines = ["# Functions by versions", "", about, ""]
    for kind, audits in found.items():
        lines += [f"## {kind}", "", *view.matrix(audits), ""]
    return "\n".join(lines)


def changes(found: dict[str, list[Audit]]) -> str:
    """docs/libc/changes.md: each library against the one before."""
    lines = ["# What changed", "", "`forklore diff` of each library with the next one of Debian's suites.", ""]
    for audits in found.values():
        for old, new in pairwise(audits):
            lines += [f"## {old.library.name} to {new.library.version}", ""]
            comparison = compare(old, new)
            lines += [f"- {change.sentence}" for change in comparison.changes]
            lines += ["", "```", *comparison.text().splitlines()[-1:], "```", ""] if comparison.same else [""]
    return "\n".join(lines)


def foreign(packages: list[Path]) -> str:
    """docs/libc/aarch64.md: what cannot run here, read."""
    about = "`forklore audit --static`, of which the creating calls:"
    lines = ["# glibc for aarch64, without running it", "", about, ""]
    for package in packages:
        for target in targets(unpack(package)):
            if target.arch == "aarch64":
                lines += static_lines(target)
    return "\n".join([*lines, ""])


def static_lines(target: Target) -> list[str]:
    """One library's creating instructions."""
    looked = findings.look(target.path)
    calls = looked.calls if isinstance(looked.calls, list) else []
    sites = [site for site in calls if site.name in CREATIONS]
    shown = [f"- `{site.name}` in `{site.function}`" if site.function else f"- `{site.name}`" for site in sites]
    unknown = sum(site.name is None for site in calls)
    count = f"{len(calls)} system-call instructions, {unknown} of them with a number that cannot be told:"
    return [f"## {target.name} ({target.package})", "", count, "", *shown, ""]


def main() -> int:
    """Fetch, audit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--offline", action="store_true", help="use the packages that are in the cache")
    parser.add_argument("--prove", action="store_true", help="write nothing, and prove the filters of --view seccomp")
    arguments = parser.parse_args()
    base = cache() / "debian"
    packages: list[Path] = []
    for suite in SUITES:
        folder = base / suite
        if not arguments.offline:
            try:
                fetch(suite, folder)
            except (subprocess.CalledProcessError, OSError) as problem:
                print(f"{suite}: {problem}", file=sys.stderr)
                return 1
        packages += sorted((folder / "debs").glob("*.deb"))
    if not packages:
        sys.exit(f"no packages in {base}: run it once without --offline")
    if arguments.prove:
        return 0 if proved(packages) else 1
    found = audited(packages)
    DOCS.mkdir(parents=True, exist_ok=True)
    for audits in found.values():
        for made in audits:
            (DOCS / f"{slug(made)}.md").write_text(view.markdown(made))
            (GOLDEN / f"audit-{slug(made)}.json").write_bytes(encode(made))
    (DOCS / "matrix.md").write_text(matrix(found))
    (DOCS / "changes.md").write_text(changes(found))
    (DOCS / "aarch64.md").write_text(foreign(packages))
    return 0


if __name__ == "__main__":
    sys.exit(main())
