"""The views for people, as lines of text."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final

from forklore.export.table import ExportOptions
from forklore.report import styled_lines

if TYPE_CHECKING:
    from forklore.model.tasks import Trace
    from forklore.report.styled_lines import Line
    from forklore.report.tree.tree import Limits

_TABLE_LINES: Final = 400


def write(trace: Trace, out: IO[str], options: ExportOptions) -> None:
    """Write the view that is asked for. NoSuchTaskError where it is of a task that the trace does not have."""
    with styled_lines.drawn_for(out):
        styled_lines.write(_lines(trace, options), out, color=options.color)


def _lines(trace: Trace, options: ExportOptions) -> list[Line]:
    # Each view is imported only when it is asked for: the start of `forklore run` counts.
    everything = options.everything
    columns = None if everything else options.columns
    match options.view:
        case "tree":
            from forklore.report.tree.tree import tree_lines

            return tree_lines(trace, limits(options))
        case "sites":
            from forklore.report.sites import SHOWN, site_lines

            return site_lines(trace, columns, None if everything else SHOWN)
        case "time":
            from forklore.report.times import time_lines

            return time_lines(trace, columns, everything=everything)
        case "sharing":
            from forklore.report.sharing_table import table_lines

            return table_lines(trace, columns, None if everything else _TABLE_LINES)
        case "descriptors":
            from forklore.report.descriptors import descriptor_lines

            return descriptor_lines(trace, options.columns, verbose=options.verbose or everything)
        case "environment":
            from forklore.report.environments import environment_lines

            return environment_lines(trace, columns)
        case "task":
            from forklore.report.task_card import card_lines, find

            task = find(trace, options.task or "")
            return card_lines(trace, task, options.columns, verbose=options.verbose)


def limits(options: ExportOptions) -> Limits:
    """What of the tree is shown."""
    from msgspec.structs import replace

    from forklore.report.tree.tree import Limits

    shown = Limits(columns=options.columns, stacks=options.stacks, verbose=options.verbose)
    if options.everything:
        return replace(shown, depth=1 << 30, siblings=None, lines=None, fold=1 << 30)
    return replace(shown, depth=options.depth, siblings=options.siblings)
