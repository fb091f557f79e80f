"""Chooses tokens from logits: each row by its own options, its own past and its own random numbers, whoever else is in the step.

Nothing is remembered before the whole step has gone well: a step that is run again chooses the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from server.backends.base import Array, BatchError
from server.generation.options import LogProb, Sampling

_SEEDS = 2**64
"""Seeds are taken modulo this: negative ones are seeds too."""

_ADDED = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little"), 0.0, -np.inf).astype(
    np.float32
)
"""What is added to eight logits, for each byte of a mask: float32 [256, 8]."""

_FEW = 1024
"""Top-p and min-p look at so many of the likeliest tokens first: nearly always the rest has no share of what is kept."""


class Chosen(NamedTuple):
    """A row's next token."""

    token: int
    logprob: LogProb | None


class Chooser:
    """One request's options, what it has got until now, and its random numbers (PCG64)."""

    def __init__(self, sampling: Sampling, prompt: Array, ends: Sequence[int]) -> None:
        """`prompt`: token ids int64 [tokens]. `ends`: ids that end an answer. Raises BatchError for options that are no numbers."""
        self.sampling = sampling
        self.n_chosen = 0
        self._ends = np.array(ends, np.int64)
        self._random = np.random.Generator(np.random.PCG64(None if sampling.seed is None else sampling.seed % _SEEDS))
        self._drawn: float | None = None
        self._times: dict[int, int] = {}
        self._read = np.unique(prompt) if sampling.repetition != 1.0 else None
        self._guide = None if sampling.grammar is None else sampling.grammar.guide()
        try:
            self._bias = (np.array(list(sampling.bias), np.int64), np.array(list(sampling.bias.values()), np.float32))
        except (OverflowError, TypeError, ValueError) as error:
            raise BatchError(f"bias must map ids to numbers: {error}") from None

    @property
    def is_plain(self) -> bool:
        """Whether it takes the likeliest token, as the model gives them."""
        one = self.sampling
        return one.temperature == 0.0 and one.logprobs is None and not (self._is_changed or self._must_go_on)

    @property
    def is_whole(self) -> bool:
        """Whether its grammar lets nothing follow what it has got."""
        return self._guide is not None and self._guide.is_whole

    @property
    def _is_changed(self) -> bool:
        one = self.sampling
        is_penalised = one.presence != 0.0 or one.frequency != 0.0 or one.repetition != 1.0
        return bool(one.bias) or is_penalised or self._guide is not None

    @property
    def _must_go_on(self) -> bool:
        return self.n_chosen < self.sampling.at_least and self._ends.size > 0

    def uniform(self) -> float:
        """This token's random number in [0, 1): the same one until `took`."""
        if self._drawn is None:
            self._drawn = self._random.random()
        return self._drawn

    def took(self, token: int) -> None:
        """The request has got this token."""
        self.n_chosen += 1
        self._drawn = None
        self._times[token] = self._times.get(token, 0) + 1
        if self._guide is not None:
            self._guide.accept(token)

    def changed(self, logits: Array) -> Array:
        """With bias and penalties, −∞ where the grammar allows no token, float32 [vocabulary]; the array itself when there are none.
        Raises BatchError."""
        if not (self._is_changed or self._must_go_on):
            return logits
        logits = logits.copy()
        ids, bias = self._bias
        if ids.size and not 0 <= ids.min() <= ids.max() < logits.size:
            raise BatchError(f"bias names an id that there is not: they go from 0 to {logits.size - 1}")
        logits[ids] += bias
        self._penalise(logits)
        if self._must_go_on:
            logits[self._ends] = -np.inf
        return logits if self._guide is None else _masked(logits, self._guide.allowed())

    def _penalise(self, logits: Array) -> None:
        one = self.sampling
        got = np.fromiter(self._times, np.int64, len(self._times))
        if self._read is not None:
            seen = np.union1d(self._read, got)
            values = logits[seen]
            logits[seen] = np.where(values > 0, values / one.repetition, values * one.repetition)
        if got.size and (one.presence or one.frequency):
            times = np.fromiter(self._times.values(), np.float32, len(self._times))
            logits[got] -= np.float32(one.presence) + np.float32(one.frequency) * times


def choose(logits: Array, choosers: Sequence[Chooser]) -> list[Chosen]:
    """The next token of each row of float32 [rows, vocabulary]. Raises BatchError for a row of which none can be chosen."""
    likeliest = logits.argmax(axis=1)
    highest = logits[np.arange(len(choosers)), likeliest]  # NaN where there is one: that is what argmax finds then
    if not np.isfinite(highest).all():
        raise BatchError("the model's logits are not numbers: it cannot calculate this prompt")
    return [
        Chosen(int(token), None) if chooser.is_plain else _chosen(row, chooser)
        for row, token, chooser in zip(logits, likeliest, choosers, strict=True)
    ]


def _masked(logits: Array, allowed: Array) -> Array:
    """−∞ but for these; without a branch for each of them, which would take ten times as long as the mask itself."""
    made: Array = _ADDED.take(allowed, axis=0).reshape(-1)[: logits.size]
    made += logits
    return made


def _chosen(row: Array, chooser: Chooser) -> Chosen:
    sampling = chooser.sampling
    changed = chooser.changed(row)
    token = int(changed.argmax())
    if changed[token] == -np.inf:
        raise BatchError("bias, at_least and grammar forbid every token: forbid fewer")
    if sampling.temperature > 0.0:
        token = _drawn(changed, sampling, chooser.uniform())
    return Chosen(token, None if sampling.logprobs is None else judged(row, token, sampling.logprobs))


def _drawn(logits: Array, sampling: Sampling, uniform: float) -> int:
    """Temperature, top-k, top-p, min-p, then by the inverse of the distribution that is left, the likeliest tokens first."""
    with np.errstate(over="ignore", under="ignore"):  # a temperature near 0 leaves one token: its weight is exp(0)
        scaled = (logits - logits.max()) / np.float32(sampling.temperature)
        if sampling.top_k == 0 and sampling.top_p >= 1.0 and sampling.min_p == 0.0:
            ids, weights = None, np.exp(scaled)
        else:
            ids, weights = _kept(scaled, sampling)
    sums = weights.cumsum(dtype=np.float64)
    place = min(int(np.searchsorted(sums, uniform * sums[-1], side="right")), int(np.flatnonzero(weights)[-1]))
    return place if ids is None else int(ids[place])


def _kept(scaled: Array, sampling: Sampling) -> tuple[Array, Array]:
    """Which tokens top-k, top-p and min-p leave, the likeliest first (the lower id where they are equal), and their weights."""
    if sampling.top_k:
        ids = _likeliest(scaled, sampling.top_k)
        weights = np.exp(scaled[ids])
        total = float(weights.sum(dtype=np.float64))
    else:
        total = float(np.exp(scaled).sum(dtype=np.float64))
        ids = _likeliest(scaled, _FEW)
        weights = np.exp(scaled[ids])
        is_all = len(ids) < _FEW  # a grammar or bias leaves no more
        if not is_all and weights.sum(dtype=np.float64) < sampling.top_p * total and not weights[-1] < sampling.min_p:
            ids = _likeliest(scaled, scaled.size)
            weights = np.exp(scaled[ids])
    n_kept = len(ids)
    if sampling.top_p < 1.0:
        n_kept = min(n_kept, int(np.searchsorted(weights.cumsum(dtype=np.float64), sampling.top_p * total)) + 1)
    if sampling.min_p > 0.0:  # the likeliest token has weight 1
        n_kept = min(n_kept, int(np.searchsorted(-weights, -np.float32(sampling.min_p), side="right")))
    return ids[:n_kept], weights[:n_kept]


def _likeliest(values: Array, count: int) -> Array:
    """Ids of the `count` largest values in their order; more where the last ones are equal, fewer where the others are −∞."""
    if count >= values.size:
        ids: Array = np.arange(values.size)
    else:
        least = np.partition(values, -count)[-count]
        ids = np.flatnonzero(values >= least if least > -np.inf else values > -np.inf)
    return ids[np.argsort(-values[ids], kind="stable")]


def judged(row: Array, token: int, n_top: int) -> LogProb:
    """What logits float32 [vocabulary] say of a token and of the `n_top` likeliest, by the model itself: temperature 1, before bias, penalties
    and grammar."""
    highest = row.max()
    total = float(highest) + float(np.log(np.exp(row - highest).sum(dtype=np.float64)))
    top = _likeliest(row, n_top)[:n_top] if n_top else ()
    return LogProb(float(row[token]) - total, tuple((int(one), float(row[one]) - total) for one in top))
