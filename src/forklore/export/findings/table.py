"""Every format that findings are written in, by name. What writes it is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import IO, TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from forklore.findings.check import Checked
    from forklore.model.tasks import Trace


class FindingOptions(Struct, frozen=True):
    """What was asked for, and what the outputs say of the trace."""

    name: str = ""
    """The name of the trace's file; empty for one that is not kept."""
    base: str = ""
    """The directory that source files are named from where they lie in it; empty: by their whole path."""
    columns: int = 80
    verbose: bool = False
    """In the text: what could not be judged, rule by rule, and every task that a finding is folded of."""
    color: bool = False

    def file(self, name: str) -> str:
        """A source file's name, from :attr:`base` where it lies there."""
        return name.removeprefix(f"{self.base.rstrip('/')}/") if self.base else name


WriteFindings = Callable[["Checked", "Trace", IO[str], FindingOptions], None]


class FindingFormat(Struct, frozen=True):
    """A format, and the module of this folder that writes it."""

    about: str
    """What it is, for ``check --help``."""
    module: str

    def write(self, checked: Checked, trace: Trace, out: IO[str], options: FindingOptions) -> None:
        """Write what was found to ``out``. OSError of ``out``."""
        writes: WriteFindings = import_module(f"forklore.export.findings.{self.module}").write
        writes(checked, trace, out, options)


FORMATS: Final[dict[str, FindingFormat]] = {
    "text": FindingFormat("for people, the worst first", "text"),
    "json": FindingFormat("one object for programs", "json_findings"),
    "sarif": FindingFormat("SARIF 2.1.0, for editors and code scanning", "sarif"),
    "junit": FindingFormat("JUnit XML, a test a rule, for build servers", "junit"),
    "github": FindingFormat("annotations, as GitHub Actions reads them from a log", "github"),
}
