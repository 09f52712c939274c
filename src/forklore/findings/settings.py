"""What a project has said of its findings: which are to be ignored, and from which severity on a check fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from forklore.findings.check import Ignored
from forklore.findings.finding import SEVERITIES, Severity

NEVER: Final = "never"
FAIL_ON: Final = (*SEVERITIES, NEVER)
"""What ``--fail-on`` takes."""
DEFAULT_FAIL_ON: Final = "warning"


class SettingsError(ValueError):
    """A setting that there is not, or that cannot be; the text says what was expected."""


class Settings(Struct, frozen=True):
    """Of ``[tool.forklore.check]`` in pyproject.toml, or ``[check]`` in forklore.toml."""

    ignored: tuple[Ignored, ...] = ()
    fail_on: Severity | None = None
    """None: never, or not said (:attr:`said`)."""
    said: bool = False
    """Whether ``fail-on`` was given."""


def settings(table: object) -> Settings:
    """The settings of a table of a TOML file. Raises SettingsError, and IgnoreError for a rule that there is not."""
    if not isinstance(table, Mapping):
        raise SettingsError("this is no table")
    unknown = set(table) - {"ignore", "fail-on"}
    if unknown:
        raise SettingsError(f"no setting {min(unknown)!r}; there are ignore and fail-on")
    given = table.get("ignore", [])
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise SettingsError('ignore is a list of strings, as ignore = ["left-behind", "killed:worker.c:*"]')
    fail_on = table.get("fail-on")
    ignored = tuple(map(Ignored.read, given))
    return Settings(ignored) if fail_on is None else Settings(ignored, severity(str(fail_on)), said=True)


def severity(text: str) -> Severity | None:
    """A severity by its name; None for ``never``. Raises SettingsError for another word."""
    if text == NEVER:
        return None
    found = next((each for each in SEVERITIES if each == text), None)
    if found is None:
        raise SettingsError(f"fail-on is one of {', '.join(FAIL_ON)}, not {text!r}")
    return found
