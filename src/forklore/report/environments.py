"""``show --view environment``: what is other in each program's environment than in the one before."""

from __future__ import annotations

from forklore.model.environment import environments
from forklore.model.tasks import Trace
from forklore.report.run_changes import variable_words
from forklore.report.styled_lines import Line, Piece, fit, wrapped
from forklore.report.words import words

_NONE = "No environment was recorded: forklore run --env does, and logs of other tools have none."


def environment_lines(trace: Trace, columns: int | None) -> list[Line]:
    """The view, wrapped to ``columns``; None: no limit."""
    found = list(environments(trace))
    if not found:
        return [(Piece(part),) for part in wrapped(_NONE, columns or 1 << 20)]
    lines: list[Line] = []
    same = 0
    for each in found:
        if each.before is not None and not each.changed:
            same += 1
            continue
        lines.append((Piece(f"{words.tid(each.task.tid)} ", "tid"), Piece(words.path(each.image.path), "name")))
        if each.before is None:
            told = f"   {words.count(each.entries, 'variable')}; no environment before it is known"
            lines.append((Piece(told, "quiet"),))
        lines += [(Piece(f"   {variable_words(changed)}"),) for changed in each.changed]
    if same:
        text = f"{words.count(same, 'exec')} with the environment of the program before."
        lines.append((Piece(text, "quiet"),))
    return [fit(line, columns) for line in lines]
