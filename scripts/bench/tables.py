"""The figures as text: for a terminal, or as Markdown for a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench import plan
from bench.analysis import Figure, Verdict
from bench.campaign import Results
from bench.scale import Scale

Rows = list[list[str]]


def _number(value: float | None, form: str = ".2f") -> str:
    return "–" if value is None else format(value, form)


def _milliseconds(nanoseconds: float) -> str:
    return f"{nanoseconds / 1e6:,.1f}"


def _table(head: list[str], rows: Rows, *, markdown: bool) -> str:
    if markdown:
        lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)
        ).rstrip()
        for row in [head, ["-" * width for width in widths], *rows]
    )


def _tool_row(tool: plan.Tool, workload: plan.Workload, results: Results, figure: Figure | None) -> list[str]:
    if figure is None:
        reason = results.failed.get((tool.name, workload.kind), "not run")
        return [tool.label, "–", reason, *["–"] * 6]
    own = tool.name == plan.UNTRACED
    return [
        tool.label,
        f"{figure.count:,}",
        _milliseconds(figure.wall_ns),
        _number(figure.ratio),
        "–" if own else _milliseconds(figure.added_ns),
        "–" if own else _number(figure.of_strace),
        "–" if own else _number(figure.of_floor),
        "–" if own else _number(figure.of_detail),
        "–" if own else _number(figure.of_detail_inside),
    ]


def _summary(
    tools: Sequence[plan.Tool], workloads: Sequence[plan.Workload], found: dict[tuple[str, str], Figure],
    *, markdown: bool,
) -> str:  # fmt: skip
    head = ["ratio to the untraced run", *(f"{workload.title}" for workload in workloads)]
    rows = [
        [tool.label, *(_ratio(found.get((tool.name, workload.kind))) for workload in workloads)]
        for tool in tools
        if any((tool.name, workload.kind) in found for workload in workloads) and tool.name != plan.PYTHON
    ]
    return _table(head, rows, markdown=markdown)


def _ratio(figure: Figure | None) -> str:
    return "–" if figure is None else f"{figure.ratio:.3g}"


def report(
    facts: dict[str, str], tools: Sequence[plan.Tool], workloads: Sequence[plan.Workload], results: Results,
    found: dict[tuple[str, str], Figure], verdicts: Iterable[Verdict], scale: Scale | str | None,
    *, rounds: int, quick: bool, markdown: bool,
) -> str:  # fmt: skip
    """The whole report, as plain text or as Markdown."""
    title = "## " if markdown else "== "
    how = "small counts: provisional" if quick else "full counts"
    parts = [f"{title}Machine", "\n".join(f"- {name}: {value}" for name, value in facts.items())]
    parts.append(f"Medians of {rounds} interleaved rounds, {how}.")
    parts += [f"{title}Ratios", _summary(tools, workloads, found, markdown=markdown)]
    head = ["tool", "items", "ms", "ratio", "added ms", "of strace", "of floor", "of detail", "of detail, inside"]
    for workload in workloads:
        rows = [
            _tool_row(tool, workload, results, found.get((tool.name, workload.kind)))
            for tool in tools
            if tool.name not in results.missing and workload.kind in tool.kinds
        ]
        parts += [f"{title}{workload.title}", _table(head, rows, markdown=markdown)]
    if results.missing:
        parts += [
            f"{title}Not measured",
            "\n".join(f"- {name}: {why}" for name, why in results.missing.items()),
        ]
    if scale is not None:
        parts += [f"{title}Scale", scale if isinstance(scale, str) else _scale(scale)]
    parts += [f"{title}Budgets", _budgets(verdicts, markdown=markdown)]
    return "\n\n".join(parts) + "\n"


def _scale(scale: Scale) -> str:
    few, many = scale.processes
    shown = ", ".join(f"{view} {seconds:.2f} s" for view, seconds in scale.show_s.items())
    return (
        f"{many:,} processes recorded in {scale.record_s:.1f} s, {scale.file_bytes / 2**20:.1f} MiB, "
        f"{scale.events:,} events; the largest process took {scale.largest_kib[1]:,} KiB "
        f"({scale.largest_kib[0]:,} KiB with {few:,}); shown as {shown}."
    )


def _budgets(verdicts: Iterable[Verdict], *, markdown: bool) -> str:
    words = {True: "met", False: "NOT MET", None: "–"}
    rows = [[verdict.what, verdict.limit, verdict.value, words[verdict.met]] for verdict in verdicts]
    return _table(["budget", "at most", "measured", ""], rows, markdown=markdown)
