"""Line charts and histograms as SVG text: no scripts, no fonts, no files beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 30, 42


@dataclass(frozen=True, slots=True)
class Series:
    """A named line; points whose y is None are gaps. `colour` names a CSS class."""

    name: str
    colour: str
    points: Sequence[tuple[float, float | None]]
    dashed: str = ""


@dataclass(frozen=True, slots=True)
class Axis:
    """Where values lie between two ends of a chart."""

    low: float
    high: float
    logarithmic: bool
    label: str

    def at(self, value: float) -> float:
        """0 at the low end, 1 at the high one."""
        if self.logarithmic:
            value, low, high = (math.log10(max(one, 1e-9)) for one in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(1.0, max(0.0, (value - low) / (high - low)))

    def ticks(self) -> list[float]:
        """Round values within the ends."""
        if self.logarithmic:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            factors = (1, 2, 5) if len(powers) <= 3 else (1,)
            return [f * 10.0**p for p in powers for f in factors if self.low * 0.999 <= f * 10.0**p <= self.high * 1.001]
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [step * n for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis(values: Sequence[float], label: str, *, logarithmic: bool = False) -> Axis:
    """An axis that holds all values; from 0 unless it is logarithmic."""
    if logarithmic:
        positive = [one for one in values if one > 0] or [1.0]
        low, high = min(positive), max(positive)
        return Axis(low / 1.1, max(high, low * 1.2) * 1.1, True, label)
    return Axis(min(0.0, *values, 0.0), max([*values, 1e-9]) * 1.05, False, label)


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * 0.999)


def line_chart(title: str, x: Axis, y: Axis, lines: Sequence[Series], marks: Sequence[tuple[str, float]] = ()) -> str:
    """Lines over a grid with a legend; `marks` are horizontal lines with a name."""
    drawn = [_line(x, y, one) for one in lines]
    legend = _legend([(one.name, one.colour) for one in lines])
    return _svg(title, [_grid(x, y), *(_mark(y, *one) for one in marks), *drawn, legend])


def histogram(
    title: str, x: Axis, edges: Sequence[float], counts: Sequence[float], marks: Sequence[tuple[str, float]] = ()
) -> str:
    """Bars between edges; `marks` are vertical lines with a name."""
    y = axis(list(counts), "answers")
    bars = []
    for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True):
        left, right, top = _x(x, low), _x(x, high), _y(y, n)
        size = f'width="{max(0.5, right - left - 0.5):.1f}" height="{_y(y, 0) - top:.1f}"'
        bars.append(f'<rect class="bar" x="{left:.1f}" y="{top:.1f}" {size}/>')
    return _svg(title, [_grid(x, y), *bars, *(_stem(x, at, *one) for at, one in enumerate(marks))])


def _x(x: Axis, value: float) -> float:
    return _LEFT + x.at(value) * (WIDTH - _LEFT - _RIGHT)


def _y(y: Axis, value: float) -> float:
    return HEIGHT - _BOTTOM - y.at(value) * (HEIGHT - _TOP - _BOTTOM)


def _svg(title: str, parts: Sequence[str]) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return f'{head}<text class="title" x="{_LEFT}" y="16">{escape(title)}</text>{"".join(parts)}</svg>'


def _line(x: Axis, y: Axis, one: Series) -> str:
    runs: list[list[str]] = [[]]
    for at, value in one.points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append(f"{_x(x, at):.1f},{_y(y, value):.1f}")
    dash = f' stroke-dasharray="{one.dashed}"' if one.dashed else ""
    return "".join(_run(run, one.colour, dash) for run in runs if run)


def _run(run: Sequence[str], colour: str, dash: str) -> str:
    if len(run) == 1:
        left, top = run[0].split(",")
        return f'<circle class="{colour} dot" cx="{left}" cy="{top}" r="2"/>'
    return f'<polyline class="{colour}" points="{" ".join(run)}"{dash}/>'


def _grid(x: Axis, y: Axis) -> str:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = []
    for tick in y.ticks():
        at = _y(y, tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{at + 4:.1f}">{_short(tick)}</text>')
    for tick in x.ticks():
        at = _x(x, tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" text-anchor="middle" x="{at:.1f}" y="{bottom + 15}">{_short(tick)}</text>')
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text class="label" text-anchor="middle" x="{(_LEFT + right) / 2}" y="{HEIGHT - 6}">{escape(x.label)}</text>'
    )
    turned = f'transform="rotate(-90 14 {middle})"'
    parts.append(f'<text class="label" text-anchor="middle" x="14" y="{middle}" {turned}>{escape(y.label)}</text>')
    return "".join(parts)


def _legend(names: Sequence[tuple[str, str]]) -> str:
    parts, right = [], WIDTH - _RIGHT
    for name, colour in reversed(names):
        right -= 7 * len(name) + 26
        parts.append(f'<line class="{colour}" x1="{right}" x2="{right + 16}" y1="12" y2="12"/>')
        parts.append(f'<text class="tick" x="{right + 20}" y="16">{escape(name)}</text>')
    return "".join(parts)


def _mark(y: Axis, name: str, value: float) -> str:
    if not y.low <= value <= y.high:
        return ""
    at = _y(y, value)
    line = f'<line class="mark" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
    return f'{line}<text class="tick" text-anchor="end" x="{WIDTH - _RIGHT}" y="{at - 4:.1f}">{escape(name)}</text>'


def _stem(x: Axis, number: int, name: str, value: float) -> str:
    if not x.low <= value <= x.high:
        return ""
    at = _x(x, value)
    line = f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
    side = 'text-anchor="end"' if at > WIDTH - 120 else ""
    return f'{line}<text class="tick" {side} x="{at + (-4 if side else 4):.1f}" y="{_TOP + 10 + 13 * number}">{escape(name)}</text>'


def _short(value: float) -> str:
    if value and abs(value) < 1:
        return f"{value:.3g}"
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
