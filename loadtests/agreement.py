"""Predictions beside measurements: a table with a verdict per line, and a plot. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from loadtests.report import number, table

WITHIN = {"p50": 0.15, "p99": 0.15, "capacity": 0.10}
"""How far a prediction may be from what is measured, as a share of it."""

_HEADER = ("", "predicted", "measured", "predicted / measured", "", "at the pace of that run")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 320, 64, 16, 34, 64
_STYLE = (
    "text{font:12px sans-serif;fill:#4a5568} .title{font-weight:bold} .band{fill:#2f855a;opacity:.15} "
    ".even{stroke:#2f855a} .axis{stroke:#a0aec0} .agrees{fill:#2b6cb0} .differs{fill:#c05621} .paced{fill:none;stroke:#718096}"
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a run at `load` (a share of the capacity; None: of no run). `at_pace`: the prediction for a device as fast as it was
    measured to be in that very run."""

    name: str
    load: float | None
    unit: str
    predicted: float
    measured: float
    at_pace: float | None
    within: float

    @property
    def ratio(self) -> float:
        return self.predicted / self.measured if self.measured else float("nan")

    @property
    def agrees(self) -> bool:
        return abs(self.ratio - 1) <= self.within

    @property
    def label(self) -> str:
        return self.name if self.load is None else f"{self.name} at {self.load:g}x"


@dataclass(frozen=True, slots=True)
class Compared:
    """All figures of one model; `rate` is its predicted capacity."""

    model: str
    slo_s: float
    rate: float
    figures: Sequence[Figure]


def agreement_table(compared: Sequence[Compared]) -> str:
    """A line per figure."""
    return table(_HEADER, [_line(one, figure) for one in compared for figure in one.figures])


def _line(one: Compared, figure: Figure) -> list[str]:
    at_pace = "" if figure.at_pace is None else f"{figure.at_pace / figure.measured:.2f}"
    return [
        f"{one.model} {figure.label}",
        f"{number(figure.predicted, 2)} {figure.unit}",
        f"{number(figure.measured, 2)} {figure.unit}",
        f"{figure.ratio:.2f}",
        f"within {figure.within:.0%}" if figure.agrees else f"NOT within {figure.within:.0%}",
        at_pace,
    ]


def agreement_plot(compared: Sequence[Compared]) -> str:
    """Predicted ÷ measured, figure by figure; the band is what is allowed for latencies."""
    points = [(one.model, figure) for one in compared for figure in one.figures]
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(points))
    band = WITHIN["p99"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"><style>{_STYLE}</style>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text class="title" x="{_LEFT}" y="18">ferry simulate: predicted ÷ measured (rings: at the pace of the device in that run)</text>',
        f'<rect class="band" x="{_LEFT}" width="{_WIDTH - _LEFT - _RIGHT}" y="{_y(1 + band):.1f}" height="{_y(1 - band) - _y(1 + band):.1f}"/>',
        *(_rule(value) for value in (0.5, 0.75, 1.0, 1.25, 1.5)),
    ]
    for number_, (model, figure) in enumerate(points):
        x = _LEFT + (number_ + 0.5) * step
        parts.append(_dot(x, figure))
        label = f"{model} {figure.label}"
        parts.append(
            f'<text text-anchor="end" font-size="9" transform="translate({x + 3:.1f} {_HEIGHT - _BOTTOM + 8}) rotate(-38)">{escape(label)}</text>'
        )
    return "".join([*parts, "</svg>\n"])


def _dot(x: float, figure: Figure) -> str:
    kind = "agrees" if figure.agrees else "differs"
    ring = ""
    if figure.at_pace is not None and figure.measured:
        ring = f'<circle class="paced" cx="{x:.1f}" cy="{_y(figure.at_pace / figure.measured):.1f}" r="6"/>'
    return f'{ring}<circle class="{kind}" cx="{x:.1f}" cy="{_y(figure.ratio):.1f}" r="4"/>'


def _rule(value: float) -> str:
    at = _y(value)
    kind = "even" if value == 1.0 else "axis"
    line = f'<line class="{kind}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke-width="0.5"/>'
    return f'{line}<text text-anchor="end" x="{_LEFT - 6}" y="{at + 4:.1f}">{value:g}</text>'


def _y(ratio: float) -> float:
    """Between half and one and a half of what was measured; beyond that at the edge."""
    inside = min(1.5, max(0.5, ratio if ratio == ratio else 0.5))
    return _TOP + (1.5 - inside) * (_HEIGHT - _TOP - _BOTTOM)
