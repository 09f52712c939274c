"""Line plots as SVG text: logarithmic on both axes, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 50, 110
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


@dataclass(frozen=True)
class Series:
    """A line: positive numbers."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


class _Scale:
    # Whole decades, so that every line of the grid is a power of ten.
    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> Iterator[float]:
        return (10.0**power for power in range(self.low, self.high + 1))


def svg(title: str, along: str, series: Sequence[Series]) -> str:
    """The picture. ``along`` names the horizontal axis."""
    across = _Scale([x for one in series for x in one.xs], _LEFT, _WIDTH - _RIGHT)
    up = _Scale([y for one in series for y in one.ys], _HEIGHT - _BOTTOM, _TOP)
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        '<g font-family="sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="28" font-size="16" fill="#222">{escape(title)}</text>',
        *_grid(across, up),
        f'<text x="{middle:.0f}" y="{_HEIGHT - _BOTTOM + 38}" text-anchor="middle" fill="#444">{escape(along)}</text>',
    ]
    for index, one in enumerate(series):
        parts += _line(one, _COLOURS[index % len(_COLOURS)], across, up, _HEIGHT - _BOTTOM + 60 + 18 * index)
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


def _grid(across: _Scale, up: _Scale) -> Iterator[str]:
    for x in across.ticks():
        at = across.at(x)
        yield f'<path d="M{at:.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#ddd"/>'
        yield f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle" fill="#444">{x:,.0f}</text>'
    for y in up.ticks():
        at = up.at(y)
        yield f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
        yield f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" fill="#444">{y:,g}</text>'


def _line(one: Series, colour: str, across: _Scale, up: _Scale, legend: float) -> Iterator[str]:
    points = [(across.at(x), up.at(y)) for x, y in zip(one.xs, one.ys, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for (x, y), value in zip(points, one.ys, strict=True):
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'
        text = f"{value:.2g}" if value < 10 else f"{value:,.0f}"
        yield f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle" font-size="11" fill="{colour}">{text}</text>'
    yield f'<path d="M{_LEFT} {legend - 4:.0f}h24" stroke="{colour}" stroke-width="2"/>'
    yield f'<text x="{_LEFT + 32}" y="{legend}" fill="#222">{escape(one.name)}</text>'
