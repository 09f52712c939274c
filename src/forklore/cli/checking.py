"""What ``check`` and ``run --check`` have in common: settings, judging a trace, and what is printed."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO

from forklore.cli.common import columns, wants_color
from forklore.cli.main import complain

if TYPE_CHECKING:
    from forklore.findings.settings import Settings
    from forklore.model.tasks import Trace

FOUND: Final = 1
"""Exit status where a finding is as bad as ``--fail-on`` or worse."""


def settings_of(arguments: argparse.Namespace) -> Settings:
    """What the options and the configuration say. Raises SettingsError, IgnoreError and OSError."""
    from msgspec.structs import replace

    from forklore.findings.check import Ignored
    from forklore.findings.settings import DEFAULT_FAIL_ON, severity

    found = _configured(arguments.config)
    fail_on = arguments.fail_on
    if fail_on is None and not found.said:
        fail_on = DEFAULT_FAIL_ON
    if fail_on is not None:
        found = replace(found, fail_on=severity(fail_on))
    return replace(found, ignored=(*found.ignored, *map(Ignored.read, arguments.ignore)))


def _configured(name: str | None) -> Settings:
    from forklore.findings.settings import Settings

    if name is not None:
        found = _read(Path(name))
        return Settings() if found is None else found
    here = Path.cwd()
    for folder in (here, *here.parents):
        for file in (folder / "forklore.toml", folder / "pyproject.toml"):
            if file.is_file() and (found := _read(file)) is not None:
                return found
    return Settings()


def _read(file: Path) -> Settings | None:
    """The settings in a file; None for a pyproject.toml without any."""
    import tomllib

    from forklore.findings.check import IgnoreError
    from forklore.findings.settings import SettingsError, settings

    try:
        with file.open("rb") as raw:
            whole = tomllib.load(raw)
    except tomllib.TOMLDecodeError as problem:
        raise SettingsError(f"{file}: {problem}") from None
    if file.name == "pyproject.toml":
        whole = whole.get("tool", {}).get("forklore", {})
        if "check" not in whole:
            return None
    try:
        return settings(whole.get("check", {}))
    except (SettingsError, IgnoreError) as problem:
        raise SettingsError(f"{file}: [check]: {problem}") from None


def judge(
    trace: Trace, name: str, said: Settings, out: TextIO, arguments: argparse.Namespace, shape: TextIO | None = None
) -> int:
    """Judge a trace, and write what is found; the exit status. ``shape``: the file that ``out`` goes to, where that is
    another object. OSError of ``out``."""
    from forklore.export.findings.table import FORMATS, FindingOptions
    from forklore.findings.check import check

    for warning in trace.warnings:
        complain(warning)
    checked = check(trace, said.ignored)
    options = FindingOptions(
        name=name,
        base=os.getcwd(),
        columns=columns(arguments, shape or out),
        verbose=arguments.verbose,
        color=wants_color(arguments.color, shape or out),
    )
    FORMATS[getattr(arguments, "format", "text")].write(checked, trace, out, options)
    return FOUND if checked.fails(said.fail_on) else 0

