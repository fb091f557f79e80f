"""One inline SVG: milliseconds per row against batch size, one line per length, both axes logarithmic."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from server.contract.durations import format_duration
from server.contract.profile import Profile

_WIDTH, _HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 110, 14, 40
_COLORS = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096", "#975a16", "#0987a0", "#9b2c2c", "#1a202c")


def latency_plot(profile: Profile) -> Markup:
    """Median time of a batch ÷ its rows. Text sizes and colours need no style sheet."""
    rows = profile.measured_rows
    lines = {length: [profile.predict(r, length) / r for r in rows] for length in profile.measured_lengths}
    values = [value for line in lines.values() for value in line]
    x = _Scale(rows[0], rows[-1], _LEFT, _WIDTH - _RIGHT)
    y = _Scale(min(values) / 1.2, max(values) * 1.2, _HEIGHT - _BOTTOM, _TOP)
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" font-size="12" fill="#4a5568">']
    parts += [_tick_x(x.at(r), r) for r in rows]
    parts += [_tick_y(y.at(value), value) for value in _decades(min(values) / 1.2, max(values) * 1.2)]
    taken: list[float] = []
    for number, (length, line) in enumerate(lines.items()):
        points = [(x.at(r), y.at(value)) for r, value in zip(rows, line, strict=True)]
        parts.append(_line(points, _COLORS[number % len(_COLORS)], f"length {length}" if length else "p50 per row", taken))
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 4}" text-anchor="middle">rows in the batch</text>')
    return Markup("".join([*parts, "</svg>"]))


class _Scale:
    """Logarithmic map of [low, high] to [start, end]."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = math.log(low), start
        self._gain = (end - start) / ((math.log(high) - math.log(low)) or 1.0)

    def at(self, value: float) -> float:
        return round(self._start + (math.log(value) - self._low) * self._gain, 1)


def _tick_x(x: float, rows: int) -> str:
    return (
        f'<line x1="{x}" x2="{x}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" stroke="#edf2f7"/>'
        f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 15}" text-anchor="middle">{rows}</text>'
    )


def _tick_y(y: float, value: float) -> str:
    return (
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#edf2f7"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{format_duration(value)}</text>'
    )


def _line(points: Sequence[tuple[float, float]], color: str, label: str, taken: list[float]) -> str:
    """A curve and its label at the right end, moved down where another label is already."""
    end_x, label_y = points[-1]
    while any(abs(label_y - other) < 13 for other in taken):
        label_y += 1
    taken.append(label_y)
    path = " ".join(f"{x},{y}" for x, y in points)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{color}"/>' for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.8"/>{dots}'
        f'<text x="{end_x + 8}" y="{label_y + 4}" fill="{color}">{label}</text>'
    )


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 … within [low, high]."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**e for e in exponents for m in (1, 2, 5) if low <= m * 10.0**e <= high]
