"""Horizontal bars as SVG text, in the style of `plots`: one value per name, the missing ones with their reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from loadtests.plots import WIDTH

_LEFT, _RIGHT, _TOP, _STEP = 190, 90, 30, 22


@dataclass(frozen=True, slots=True)
class Bar:
    """A named value; `text` stands behind it. None is a gap. `colour` names a CSS class."""

    name: str
    value: float | None
    text: str
    colour: str


def bar_chart(title: str, bars: Sequence[Bar]) -> str:
    """Bars from 0 to the largest value."""
    most = max((one.value for one in bars if one.value is not None), default=0.0) or 1.0
    height = _TOP + _STEP * len(bars) + 6
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
    lines = "".join(_line(at, one, most) for at, one in enumerate(bars))
    return f'{head}<text class="title" x="6" y="16">{escape(title)}</text>{lines}</svg>'


def _line(at: int, one: Bar, most: float) -> str:
    y = _TOP + _STEP * at
    width = (one.value or 0.0) / most * (WIDTH - _LEFT - _RIGHT)
    name = f'<text text-anchor="end" x="{_LEFT - 8}" y="{y + 12}">{escape(one.name)}</text>'
    bar = f'<rect class="fill-{one.colour}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_STEP - 6}"/>'
    return f'{name}{bar}<text class="tick" x="{_LEFT + width + 6:.1f}" y="{y + 12}">{escape(one.text)}</text>'
