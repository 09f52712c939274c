"""One run of the probe after another, on a C library, under the tracer."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from forklore.abi.arch import Arch
from forklore.features.audit.functions import parts
from forklore.features.audit.observe import build
from forklore.features.audit.observe.listen import listen
from forklore.features.audit.observe.target import NoTargetError, Target, runs_here
from forklore.features.audit.record import Run
from forklore.linux import proc

_ENVIRONMENT: Final = (b"PATH=/usr/bin:/bin", b"LC_ALL=C", b"HOME=/")
"""The same for everyone who audits: a library reads its environment."""


class Prober(Struct, frozen=True, kw_only=True):
    """A C library with the probe that is built for it."""

    target: Target
    probe: Path
    machine: Arch
    program: str
    """What the probe has the library start."""

    def run(self, function: str, mode: str, refuse: Mapping[str, int] | None = None, tid: int | None = None,
            allowed: bytes = b"") -> Run:
        """Call a function once. ``tid``: the offset of the cached tid, where the probe cannot find it by itself.

        ``allowed``: a seccomp filter, as the kernel takes it, under which the call is made.
        """
        refuse = refuse or {}
        command = self.command(function, mode)
        if tid is not None or allowed:
            command.append(str(tid or 0))
        if allowed:
            command.append("".join(chr(97 + (byte >> 4)) + chr(97 + (byte & 15)) for byte in allowed))
        log, pid, killed = listen(self.machine, command, _ENVIRONMENT, refuse)
        return Run(function, mode, tuple(sorted(refuse.items())), log, pid, killed)

    def command(self, function: str, mode: str) -> list[str]:
        """The library's own dynamic linker, told to look nowhere but beside the library; or the static program."""
        target = self.target
        if target.linker is None:
            return [str(self.probe), function, mode, self.program]
        words = [str(target.linker)]
        if target.family == "glibc":
            words.append("--inhibit-cache")
            preload = parts(function, mode, target.number)
            if preload:
                words += ["--preload", " ".join(preload)]
        return [*words, "--library-path", str(target.folder), str(self.probe), function, mode, self.program]


def prober(target: Target, probe: Path | None = None) -> Prober:
    """What runs the probe on ``target``.

    ``probe``: a prebuilt one, for an archive the program that was linked with it.

    Raises NoTargetError where this machine cannot run the library, NoProbeError.
    """
    machine = proc.machine()
    if machine is None or not runs_here(target, machine):
        raise NoTargetError(
            f"{target.path} is {target.name}, and this is a {os.uname().machine}: it cannot run here;"
            " `forklore audit --static` reads it without running it"
        )
    program = shutil.which("true", path="/usr/bin:/bin")
    if program is None:
        raise NoTargetError("there is no `true` in /usr/bin or /bin for the library to start (Debian: coreutils)")
    if target.static:
        target, probe = _linked(target, probe)
    elif probe is None:
        probe = build.probe(target.arch)
    elif not probe.is_file():
        raise build.NoProbeError(f"there is no probe {probe}: `forklore audit --build-probe FILE` builds one")
    return Prober(target=target, probe=probe, machine=machine, program=program)


def _linked(target: Target, probe: Path | None) -> tuple[Target, Path]:
    # An archive has no build-id; the program does.
    from forklore.features.audit.observe.link import program
    from forklore.features.audit.static.elf_file import identify

    linked = program(target.path, target.arch) if probe is None else probe.resolve()
    identity = identify(linked)
    if not identity.executable or identity.interpreter is not None:
        raise NoTargetError(
            f"{linked} is not linked statically: a probe for {target.path} is built with"
            f" `forklore audit --build-probe FILE {target.path}`"
        )
    return replace(target, build_id=identity.build_id), linked
