"""The rounds of a comparison as one line of figures per server: medians, and ratios taken within a round. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FERRY = "ferry"
AHEAD = 1.05
"""Less than 5 % is not called a win."""

Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """One server. What was not measured is None; `reasons` says why, by model or for all of them ("").

    `goodput` by factor rests on the rounds in which the generator kept up; `n_void` are the others, by factor.
    """

    name: str
    label: str
    per_s: Mapping[str, float | None]
    binary_per_s: Mapping[str, float | None]
    share: Mapping[str, float | None]
    cpu_us: float | None
    alone_ms: float | None
    goodput: Mapping[str, float | None]
    n_void: Mapping[str, int]
    idle_mb: float | None
    cold_s: float | None
    reasons: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Win:
    """One figure in which others are ahead of ferry, the best first, and by how much."""

    figure: str
    ahead: list[str]


def lines(content: Content) -> list[Line]:
    """All servers, ferry first, then by what they reach with the first model."""
    first = next(iter(content["models"]))
    found = [_line(content, name) for name in content["peers"]]
    return sorted(found, key=lambda one: (one.name != FERRY, -(one.per_s[first] or 0.0)))


def limits(content: Content) -> dict[str, float]:
    """Rows per second of each model in process."""
    return {model: statistics.median(one["limits"][model] for one in content["rounds"]) for model in content["models"]}


def echo_per_s(content: Content) -> float:
    """Answers per second of the server that does nothing."""
    return float(statistics.median(one["echo"]["per_s"] for one in content["rounds"]))


def wins(content: Content) -> list[Win]:
    """Where others are ahead of ferry, figure by figure; ratios of rates are those within the rounds."""
    found = {one.name: one for one in lines(content)}
    ours = found.pop(FERRY, None)
    if ours is None:
        return []
    result = []
    for model in content["models"]:
        ratios = {one.label: _ratio(content, model, one.name) for one in found.values()}
        result.append(Win(f"{model} req/s", _ahead(ratios)))
    for figure, value in _SMALLER_IS_BETTER.items():
        mine = value(ours)
        ratios = {one.label: _quotient(mine, value(one)) for one in found.values()}
        result.append(Win(figure, _ahead(ratios)))
    others = list(found.values())
    result += [Win(f"goodput at {factor} x", _better_goodput(ours, factor, others)) for factor in ours.goodput]
    return [one for one in result if one.ahead]


_SMALLER_IS_BETTER: Mapping[str, Callable[[Line], float | None]] = {
    "CPU per request": lambda one: one.cpu_us,
    "p50 of one connection": lambda one: one.alone_ms,
    "idle memory": lambda one: one.idle_mb,
    "cold start": lambda one: one.cold_s,
}


def _line(content: Content, name: str) -> Line:
    models = list(content["models"])
    first = models[0]
    visits = {model: _good(content, model, name) for model in models}
    told = content["peers"][name]["reason"]
    bad = {model: _reason(content, model, name) for model in models}
    loads = _loads(visits[first])
    return Line(
        name=name,
        label=content["peers"][name]["label"],
        per_s={model: _median(visit["lanes"]["JSON"]["per_s"] for visit in visits[model]) for model in models},
        binary_per_s={
            model: _median(visit["lanes"]["binary"]["per_s"] for visit in visits[model] if "binary" in visit["lanes"])
            for model in models
        },
        share={model: _share(content, model, name) for model in models},
        cpu_us=_median(visit["lanes"]["JSON"]["cpu_us"] for visit in visits[first]),
        alone_ms=_median(visit["lanes"]["JSON, alone"]["p50_ms"] for visit in visits[first]),
        goodput={
            factor: _median(load["goodput_share"] for load in some if load["generator_kept_up"])
            for factor, some in loads.items()
        },
        n_void={factor: sum(not load["generator_kept_up"] for load in some) for factor, some in loads.items()},
        idle_mb=_median((visit["memory"]["pss"] or visit["memory"]["rss"]) / 1e6 for visit in visits[first]),
        cold_s=_median(visit["cold_start_s"] for visit in visits[first]),
        reasons={"": told} if told else {model: why for model, why in bad.items() if why},
    )


def _loads(visits: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Open loops by factor."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for visit in visits:
        for factor, load in visit.get("overload", {}).items():
            found.setdefault(factor, []).append(load)
    return found


def _good(content: Content, model: str, name: str) -> list[Any]:
    found = [one["visits"][model].get(name) for one in content["rounds"]]
    return [visit for visit in found if visit is not None and visit["reason"] is None]


def _reason(content: Content, model: str, name: str) -> str | None:
    """Why visits of a model failed and how many, or how many requests a closed loop lost."""
    found = [one["visits"][model].get(name) for one in content["rounds"]]
    failed = [visit["reason"] for visit in found if visit is not None and visit["reason"] is not None]
    if failed:
        return f"{len(failed)} of {len(found)} visits failed: {failed[0]}"
    lanes = [visit["lanes"]["JSON"] for visit in _good(content, model, name)]
    refused, lost, answered = (sum(lane[count] for lane in lanes) for count in ("n_refused", "n_failed", "n_answered"))
    sent = refused + lost + answered
    return f"in the closed loop {refused} of {sent} requests were refused and {lost} failed" if refused + lost else None


def _share(content: Content, model: str, name: str) -> float | None:
    return _median(
        one["visits"][model][name]["lanes"]["JSON"]["per_s"] / one["limits"][model]
        for one in content["rounds"]
        if _measured(one, model, name)
    )


def _ratio(content: Content, model: str, name: str) -> float | None:
    """How many times ferry's rate, round by round."""
    return _median(
        one["visits"][model][name]["lanes"]["JSON"]["per_s"] / one["visits"][model][FERRY]["lanes"]["JSON"]["per_s"]
        for one in content["rounds"]
        if _measured(one, model, name) and _measured(one, model, FERRY)
    )


def _measured(one: Mapping[str, Any], model: str, name: str) -> bool:
    return name in one["visits"][model] and one["visits"][model][name]["reason"] is None


def _quotient(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _ahead(ratios: Mapping[str, float | None]) -> list[str]:
    known = [(ratio, label) for label, ratio in ratios.items() if ratio is not None and ratio >= AHEAD]
    return [f"{label} {ratio:.2g}x" for ratio, label in sorted(known, reverse=True)]


def _better_goodput(ours: Line, factor: str, others: Sequence[Line]) -> list[str]:
    """Shares are compared by their difference: one of them may be zero. Nobody is ahead of what was not measured."""
    mine = ours.goodput[factor]
    if mine is None:
        return []
    known = [(share, one.label) for one in others if (share := one.goodput.get(factor)) is not None]
    return [f"{label} {share:.2f}" for share, label in sorted(known, reverse=True) if share - mine >= AHEAD - 1]


def _median(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.median(found) if found else None
