"""From samples to figures: medians, ratios, added times, and whether a budget is met."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bench import plan
from bench.campaign import Results
from bench.measure import Sample


@dataclass(frozen=True)
class Figure:
    """One tool on one workload, from medians, in nanoseconds.

    ``wall_ns`` and ``runs`` are of the ``count`` items that were run. All other figures are for the table's
    full count: a tool that was given fewer has its time inside the workload scaled up, its own start and end
    not. Figures named ``inside`` come from the workload's own time and are None where it tells none; the
    others from the whole command, the tool's start and end included. of_strace, of_floor and of_detail are
    the added time as a multiple of what that tool adds, None where it was not measured or added nothing.
    """

    tool: str
    kind: str
    count: int
    runs: int
    wall_ns: float
    ratio: float
    ratio_inside: float | None
    added_ns: float
    added_inside_ns: float | None
    of_strace: float | None = None
    of_floor: float | None = None
    of_detail: float | None = None
    of_strace_inside: float | None = None
    of_floor_inside: float | None = None
    of_detail_inside: float | None = None


@dataclass(frozen=True)
class Verdict:
    """A budget and what was measured: ``value`` is None where it could not be."""

    what: str
    limit: str
    value: str
    met: bool | None


def figures(
    results: Results, workloads: Iterable[plan.Workload], *, quick: bool
) -> dict[tuple[str, str], Figure]:
    """All figures, by (tool, kind)."""
    full = {workload.kind: workload.quick if quick else workload.count for workload in workloads}
    raw = {
        (tool, kind): _figure(results, tool, kind, full[kind])
        for (tool, kind) in results.variants
        if (tool, kind) not in results.failed
    }
    return {key: _compared(figure, raw) for key, figure in raw.items()}


def _figure(results: Results, tool: str, kind: str, full: int) -> Figure:
    variant = results.variants[tool, kind]
    own = results.samples[tool, variant]
    bare = results.samples[plan.UNTRACED, variant]
    whole = results.samples[plan.UNTRACED, replace(variant, count=full)]
    inside, untraced_inside = _inside(own), _inside(bare)
    added = _wall(own) - _wall(bare)
    added_inside = None
    if inside is not None and untraced_inside is not None:
        here = inside - untraced_inside
        added_inside = here * full / variant.count
        added += added_inside - here
    return Figure(
        tool=tool,
        kind=kind,
        count=variant.count,
        runs=len(own),
        wall_ns=_wall(own),
        ratio=1 + added / _wall(whole),
        ratio_inside=inside / untraced_inside if inside is not None and untraced_inside else None,
        added_ns=added,
        added_inside_ns=added_inside,
    )


def _wall(samples: list[Sample]) -> float:
    return statistics.median(sample.wall_ns for sample in samples)


def _inside(samples: list[Sample]) -> float | None:
    told = [sample.inside_ns for sample in samples if sample.inside_ns is not None]
    return statistics.median(told) if told else None


def _compared(figure: Figure, raw: dict[tuple[str, str], Figure]) -> Figure:
    def of(tool: str) -> tuple[float | None, float | None]:
        other = raw.get((tool, figure.kind))
        if other is None:
            return None, None
        return _quotient(figure.added_ns, other.added_ns), _quotient(figure.added_inside_ns, other.added_inside_ns)

    of_strace, of_strace_inside = of(plan.STRACE)
    of_floor, of_floor_inside = of(plan.FLOOR)
    of_detail, of_detail_inside = of(plan.DETAIL)
    return replace(
        figure, of_strace=of_strace, of_floor=of_floor, of_detail=of_detail,
        of_strace_inside=of_strace_inside, of_floor_inside=of_floor_inside, of_detail_inside=of_detail_inside,
    )  # fmt: skip


def _quotient(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None or other <= 0 else one / other


def verdicts(found: dict[tuple[str, str], Figure], titles: dict[str, str]) -> list[Verdict]:
    """Each budget of forklore's default run against what was measured."""
    return [_verdict(budget, found, titles[budget.kind]) for budget in plan.BUDGETS if budget.kind in titles]


def _verdict(budget: plan.Budget, found: dict[tuple[str, str], Figure], title: str) -> Verdict:
    figure = found.get((plan.FORKLORE, budget.kind))
    value = inside = None
    if budget.measure == "strace":
        what, limit = f"{title}: added, of what strace -f --seccomp-bpf adds", f"{budget.limit:g}"
        value, inside = (figure.of_strace, figure.of_strace_inside) if figure else (None, None)
    elif budget.measure == "floor":
        what, limit = f"{title}: added, of what the bare C loop adds", f"{budget.limit:g}"
        value, inside = (figure.of_floor, figure.of_floor_inside) if figure else (None, None)
    elif budget.measure == "detail":
        what, limit = f"{title}: added, of what a C loop with default detail adds", f"{budget.limit:g}"
        value, inside = (figure.of_detail, figure.of_detail_inside) if figure else (None, None)
    elif budget.measure == "ratio":
        what, limit = f"{title}: the program's own time, of its untraced time", f"{budget.limit:g}"
        value = figure.ratio_inside if figure else None
    elif budget.measure == "filter":
        what, limit = f"{title}: the program's own time, of that with an empty filter", f"{budget.limit:g}"
        empty = found.get((plan.FILTER, budget.kind))
        value = _quotient(figure.ratio_inside if figure else None, empty.ratio_inside if empty else None)
    elif budget.measure == "no-stack":
        what, limit = f"{title}: traced with call stacks, of traced without", f"{budget.limit:g}"
        plain = found.get((plan.NO_STACK, budget.kind))
        value = figure.wall_ns / plain.wall_ns if figure and plain else None
    else:
        what, limit = f"{title}, of `python3 -c pass`", f"{budget.limit:g}"
        python = found.get((plan.PYTHON, budget.kind))
        value = figure.wall_ns / python.wall_ns if figure and python else None
    if value is None:
        return Verdict(what, limit, "nothing to compare with" if figure else "not measured", None)
    shown = f"{value:.2f}" if inside is None else f"{value:.2f} ({inside:.2f} inside)"
    return Verdict(what, limit, shown, value <= budget.limit)
