"""A model that generates and an encoder on one server: each at a share of what it can do alone, then both at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from loadtests.child import HOST, Child
from loadtests.generation.joining import as_they_come
from loadtests.generation.scenes import asked, driven, due_s
from loadtests.generation.streams import Answer, Ask
from loadtests.generation.work import Work
from loadtests.lanes import Lane, measure
from loadtests.overload import Offer, overload
from loadtests.wire import infer_request

ENCODER = "encoder"
SHARE = 0.45
"""Of each one's own capacity: together they want nine tenths of the machine."""

_N_REQUESTS, _N_TOKENS, _VOCABULARY = 64, 32, 1000
_CONNECTIONS = 16
_CAPACITY_S = 4.0


@dataclass(frozen=True, slots=True)
class Talk:
    """Requests of the model that generates: how they are asked, what they are, how many come per second, what each is promised."""

    ask: Ask
    work: Work
    rate: float
    first_s: float
    gap_s: float


@dataclass(frozen=True, slots=True)
class Streamed:
    """Shares of all requests, and seconds that 99 % of the first tokens and of the gaps of the answered ones kept below; None: no answer."""

    n: int
    in_slo: float
    refused: float
    late: float
    broke_gap: float
    first_p99_s: float | None
    gap_p99_s: float | None


def capacity(server: Child) -> float:
    """Answers per second of the encoder in a closed loop that keeps two batches of it waiting. Raises CannotConnect."""
    lane = Lane(ENCODER, server, _requests(), _CONNECTIONS)
    measure(lane, _CAPACITY_S / 4)  # the first ones are for warming up
    return measure(lane, _CAPACITY_S).per_s


def company(server: Child, talk: Talk, encoder: Offer) -> dict[str, Any]:
    """Each alone, then both, by the same schedules. Raises LoadTestError."""
    alone = {"decoder": asdict(_talked(talk, encoder.seed)), ENCODER: overload(server, _requests(), encoder)}
    with ThreadPoolExecutor(1) as beside:
        other = beside.submit(overload, server, _requests(), encoder)
        decoder = asdict(_talked(talk, encoder.seed))
        return {"alone": alone, "together": {"decoder": decoder, ENCODER: other.result()}}


def streamed(answers: Sequence[Answer], first_s: float, gap_s: float) -> Streamed:
    """Answers against what was promised."""
    served = [one for one in answers if one.status == 200]
    late = sum(one.first_s > first_s for one in served)
    broken = sum(one.first_s <= first_s and max(one.gaps_s, default=0.0) > gap_s for one in served)
    n = len(answers)
    firsts, gaps = [one.first_s for one in served], [gap for one in served for gap in one.gaps_s]
    return Streamed(n, (len(served) - late - broken) / n, 1 - len(served) / n, late / n, broken / n, _p99(firsts), _p99(gaps))


def _talked(talk: Talk, seed: int) -> Streamed:
    answers = driven(as_they_come(talk.ask, asked(talk.work, counts=True), due_s(talk.work, talk.rate, seed)))
    return streamed(answers, talk.first_s, talk.gap_s)


def _p99(values: Sequence[float]) -> float | None:
    return float(np.quantile(values, 0.99)) if values else None


def _requests() -> list[bytes]:
    generator = np.random.default_rng(0)
    rows = [{"ids": generator.integers(0, _VOCABULARY, (1, _N_TOKENS))} for _ in range(_N_REQUESTS)]
    return [infer_request(HOST, ENCODER, row, binary=False) for row in rows]
