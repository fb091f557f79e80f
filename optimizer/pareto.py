"""One inline SVG: quality against rate, a dot for each candidate, and the line of those that no other one beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

_WIDTH, _HEIGHT = 720, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 130, 14, 40
_N_TICKS = 4
_WON, _LOST = "#2f855a", "#718096"


@dataclass(frozen=True, slots=True)
class Point:
    """A candidate: rows per second, and its quality, of which more is better."""

    name: str
    rate: float
    quality: float
    is_winner: bool


def pareto_plot(points: Sequence[Point], quality: str, rate: str = "rows/s within the objective") -> Markup:
    """`quality`, `rate`: what the axes show, in words. Needs at least one point; text sizes and colours need no style sheet."""
    x = _Scale([0.0, *(point.rate for point in points)], _LEFT, _WIDTH - _RIGHT)
    y = _Scale([point.quality for point in points], _HEIGHT - _BOTTOM, _TOP)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-size="12" fill="#4a5568">']
    parts += [_tick_x(x.at(value), value) for value in x.ticks()]
    parts += [_tick_y(y.at(value), value) for value in y.ticks()]
    path = " ".join(f"{x.at(point.rate)},{y.at(point.quality)}" for point in front(points))
    parts.append(f'<polyline points="{path}" fill="none" stroke="#cbd5e0" stroke-width="1.5" stroke-dasharray="4 3"/>')
    taken: list[tuple[float, float]] = []
    parts += [_dot(point, x.at(point.rate), y.at(point.quality), taken) for point in points]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(rate)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_TOP - 2}">{escape(quality)}</text>')
    return Markup("".join([*parts, "</svg>"]))


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other one beats in rate and quality, by rate."""
    return sorted((one for one in points if not any(_beats(other, one) for other in points)), key=lambda point: point.rate)


def _beats(other: Point, one: Point) -> bool:
    same = (other.rate, other.quality) == (one.rate, one.quality)
    return other.rate >= one.rate and other.quality >= one.quality and not same


class _Scale:
    """Linear map of the values' range, with some room, to [start, end]."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        room = (max(values) - min(values)) * 0.06 or abs(max(values)) * 0.01 or 1.0
        self._low, self._high = min(values) - (room if min(values) else 0.0), max(values) + room
        self._start, self._gain = start, (end - start) / (self._high - self._low)

    def at(self, value: float) -> float:
        return round(self._start + (value - self._low) * self._gain, 1)

    def ticks(self) -> list[float]:
        step = (self._high - self._low) / _N_TICKS
        return [self._low + step * n for n in range(_N_TICKS + 1)]


def _tick_x(x: float, value: float) -> str:
    return (
        f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="#edf2f7"/>'
        f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{value:,.0f}</text>'
    )


def _tick_y(y: float, value: float) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#edf2f7"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.5g}</text>'
    )


def _dot(point: Point, x: float, y: float, taken: list[tuple[float, float]]) -> str:
    """A dot and its label, moved down where another label is already."""
    label_y = y
    while any(abs(label_y - other_y) < 13 and abs(x - other_x) < 110 for other_x, other_y in taken):
        label_y += 1
    taken.append((x, label_y))
    color = _WON if point.is_winner else _LOST
    return (
        f'<circle cx="{x}" cy="{y}" r="{5 if point.is_winner else 3.5}" fill="{color}"/>'
        f'<text x="{x + 9}" y="{label_y + 4}" fill="{color}">{escape(point.name)}</text>'
    )
