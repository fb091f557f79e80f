"""What is claimed of a model that generates, beside what was measured of it. Pure; a scene that did not run claims nothing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from loadtests.generation.joining import Joining
from loadtests.verdicts import Round, Side, Verdict, over_rounds, verdicts_of

STATIC = Joining.STATIC.value
ENGINE, ENGINE_STATIC = "ferry's engine in process", "ferry's engine in process, static batches"
LEAST_OVER: Mapping[str, float] = {
    STATIC: 2.3, ENGINE: 0.85, "transformers, static batches": 5.0, "transformers, continuous": 3.0,
    "onnxruntime-genai, static batches": 2.3, "onnxruntime-genai engine": 2.5, "llama.cpp, continuous": 2.0,
}  # fmt: skip
"""Tokens per second, as ferry's ÷ the other's; nothing is claimed of waves through ferry's own engine. Of other generators, which run in
their own process, both is claimed: of ferry over HTTP, and of its engine in process like them."""

ROUNDS_OTHERWISE = ("llama.cpp, continuous",)
"""Its kernels round in another way, so its likeliest token is another one now and then."""

_LEAST_OF_CEILING, _LEAST_KEPT = 0.8, 0.95
_LEAST_FIRST, _LEAST_WHOLE, _MOST_GAP = 15.0, 3.0, 4.0
_LEAST_TIGHT, _LEAST_LOOSE = 0.95, 0.80
_LEAST_CHOSEN, _LEAST_SMALLER = 1.15, 2.5

Content = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OfRounds(Verdict):
    """Judged by the median of the rounds, and told with the worst of them."""

    worst: float = math.nan

    @property
    def told(self) -> str:
        base = super(OfRounds, self).told  # by name: with slots it is another class than the method's
        alike = replace(self, found=self.worst).holds == self.holds
        return f"{base}; the worst round: {self.worst:.3g}" + (
            "" if alike else f", which {'misses' if self.holds else 'holds'}"
        )


def median_ratio(ours: Sequence[float], others: Sequence[float]) -> float:
    """Of figures of the same rounds."""
    return statistics.median(one / other for one, other in zip(ours, others, strict=True))


def claims(content: Content) -> list[Verdict]:
    """Of the scenes that a result has."""
    return [one for name, told in _TOLD.items() if name in content for one in told(content[name])]


def judged(content: Content) -> list[Verdict]:
    """What a result claimed when it was measured, with its bounds of then, judged by the rules of today where it has what they need."""
    anew = {one.figure: one for one in claims(content)}
    told = [(one, anew.pop(one.figure, one)) for one in verdicts_of(content)]
    return [*(replace(now, side=then.side, bound=then.bound) for then, now in told), *anew.values()]


def counts(served: Content) -> bool:
    """Whether what a company's two were `served`, alone or together, was the load that was meant: a generator that sends late makes it
    void. Results that do not say count."""
    return bool(served["encoder"].get("generator_kept_up", True))


def longest_gaps(scene: Content) -> list[float]:
    """Of each round, in plain steps."""
    return [one["worst_s"] / one["plain_s"] for one in scene["rounds"]]


def _backlog(scene: Content) -> Sequence[Verdict]:
    over, same = scene["ferry_over"], scene["same_answers"]
    told = [Verdict(f"ferry / {name}", over[name], Side.AT_LEAST, least) for name, least in LEAST_OVER.items() if name in over]
    told += _in_process(scene["tokens_per_s"])
    if (engine := scene.get("engine_over_static")) is not None:  # older results have no static batches in process
        told.append(Verdict("in process: continuous / static batches", engine, Side.AT_LEAST, LEAST_OVER[STATIC]))
        share = engine / scene["row_step_ceiling"]
        told.append(Verdict("in process: the same, of the row-step ceiling", share, Side.AT_LEAST, _LEAST_OF_CEILING))
    alike = min(found for name, found in same.items() if name not in ROUNDS_OTHERWISE)
    return [*told, Verdict("the same answers from everybody but llama.cpp, the least share", alike, Side.AT_LEAST, 1.0)]


def _in_process(per_s: Mapping[str, Sequence[float]]) -> Sequence[Verdict]:
    """ferry's engine beside the other generators, none of which has a network around it either: by the median of the rounds."""
    others = [(name, least) for name, least in LEAST_OVER.items() if name in per_s and name not in (STATIC, ENGINE)]
    return [
        Verdict(f"in process: ferry's engine / {name}", median_ratio(per_s[ENGINE], per_s[name]), Side.AT_LEAST, least)
        for name, least in others
        if ENGINE in per_s
    ]


def _chosen(scene: Content) -> Sequence[Verdict]:
    return [
        Verdict("tokens/s, chosen version / plain export", scene["over_plain"], Side.AT_LEAST, _LEAST_CHOSEN),
        Verdict("bytes, plain export / chosen version", scene["times_smaller"], Side.AT_LEAST, _LEAST_SMALLER),
    ]


def _arrivals(scene: Content) -> Sequence[Verdict]:
    over = scene["over_ferry"][STATIC]
    return [
        Verdict("first token, 95th percentile: static batches / ferry", over["first_p95_s"], Side.AT_LEAST, _LEAST_FIRST),
        Verdict("whole answer, median: static batches / ferry", over["whole_p50_s"], Side.AT_LEAST, _LEAST_WHOLE),
    ]


def _gap(scene: Content) -> Sequence[Verdict]:
    over = longest_gaps(scene)
    figure = "longest gap as a long prompt comes / a plain step"
    return [OfRounds(figure, statistics.median(over), Side.AT_MOST, _MOST_GAP, worst=max(over))]


def _overload(scene: Content) -> Sequence[Verdict]:
    hinted = scene["loads"]["3"]["refusals_with_hint"]
    return [
        Verdict("tokens/s that kept both objectives at 3 x the capacity / the most below", scene["kept_at_3"], Side.AT_LEAST, _LEAST_KEPT),
        Verdict("refusals at 3 x that say when to come back, share", hinted, Side.AT_LEAST, 1.0),
    ]  # fmt: skip


def _company(scene: Content) -> Sequence[Verdict]:
    """Both by the same rounds: where the encoder's requests went out late, the decoder had another company than was meant."""
    served = [one["together"] for one in scene["rounds"]]
    tight = [Round(one["encoder"]["goodput_share"], counts(one)) for one in served]
    loose = [Round(one["decoder"]["in_slo"], counts(one)) for one in served]
    return [
        over_rounds("encoder in its SLO beside the decoder, share of all requests", tight, Side.AT_LEAST, _LEAST_TIGHT),
        over_rounds("decoder in its SLOs beside the encoder, share of all requests", loose, Side.AT_LEAST, _LEAST_LOOSE),
    ]


_TOLD = {"backlog": _backlog, "chosen": _chosen, "arrivals": _arrivals, "gap": _gap, "overload": _overload, "company": _company}
