"""What is claimed of a model that generates, beside what was measured of it. Pure; a scene that did not run claims nothing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from loadtests.generation.joining import Joining
from loadtests.verdicts import Side, Verdict

STATIC = Joining.STATIC.value
ENGINE, ENGINE_STATIC = "ferry's engine in process", "ferry's engine in process, static batches"
LEAST_OVER: Mapping[str, float] = {
    STATIC: 2.3, ENGINE: 0.85, "transformers, static batches": 5.0, "transformers, continuous": 3.0,
    "onnxruntime-genai, static batches": 2.3, "onnxruntime-genai engine": 2.5, "llama.cpp, continuous": 2.0,
}  # fmt: skip
"""Tokens per second, as ferry's ÷ the other's; nothing is claimed of waves through ferry's own engine."""

ROUNDS_OTHERWISE = ("llama.cpp, continuous",)
"""Its kernels round in another way, so its likeliest token is another one now and then."""

_LEAST_OF_CEILING, _LEAST_KEPT = 0.8, 0.95
_LEAST_FIRST, _LEAST_WHOLE, _MOST_GAP = 15.0, 3.0, 4.0
_LEAST_TIGHT, _LEAST_LOOSE = 0.95, 0.80
_LEAST_CHOSEN, _LEAST_SMALLER = 1.15, 2.5

Content = Mapping[str, Any]


def claims(content: Content) -> list[Verdict]:
    """Of the scenes that a result has."""
    return [one for name, told in _TOLD.items() if name in content for one in told(content[name])]


def together(company: Content, who: str, figure: str) -> float:
    """Of a company's rounds, the median."""
    return float(statistics.median(one["together"][who][figure] for one in company["rounds"]))


def _backlog(scene: Content) -> Sequence[Verdict]:
    over, same = scene["ferry_over"], scene["same_answers"]
    told = [Verdict(f"ferry / {name}", over[name], Side.AT_LEAST, least) for name, least in LEAST_OVER.items() if name in over]
    engine = scene["engine_over_static"]
    told.append(Verdict("in process: continuous / static batches", engine, Side.AT_LEAST, LEAST_OVER[STATIC]))
    share = engine / scene["row_step_ceiling"]
    told.append(Verdict("in process: the same, of the row-step ceiling", share, Side.AT_LEAST, _LEAST_OF_CEILING))
    alike = min(found for name, found in same.items() if name not in ROUNDS_OTHERWISE)
    return [*told, Verdict("the same answers from everybody but llama.cpp, the least share", alike, Side.AT_LEAST, 1.0)]


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
    return [Verdict("longest gap as a long prompt comes / a plain step", scene["worst_over_plain"], Side.AT_MOST, _MOST_GAP)]


def _overload(scene: Content) -> Sequence[Verdict]:
    hinted = scene["loads"]["3"]["refusals_with_hint"]
    return [
        Verdict("tokens/s that kept both objectives at 3 x the capacity / the most below", scene["kept_at_3"], Side.AT_LEAST, _LEAST_KEPT),
        Verdict("refusals at 3 x that say when to come back, share", hinted, Side.AT_LEAST, 1.0),
    ]  # fmt: skip


def _company(scene: Content) -> Sequence[Verdict]:
    tight, loose = together(scene, "encoder", "goodput_share"), together(scene, "decoder", "in_slo")
    return [
        Verdict("encoder in its SLO beside the decoder, share of all requests", tight, Side.AT_LEAST, _LEAST_TIGHT),
        Verdict("decoder in its SLOs beside the encoder, share of all requests", loose, Side.AT_LEAST, _LEAST_LOOSE),
    ]


_TOLD = {"backlog": _backlog, "chosen": _chosen, "arrivals": _arrivals, "gap": _gap, "overload": _overload, "company": _company}
