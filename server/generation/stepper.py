"""Carries out the scheduler's steps on a decoder: slots, what is known of prompts, chunks, decoding, sampling. Lives in its instance's thread.

A step that raises leaves everything as it was before, so that each of its requests can be run again alone. What decoding gives is the same
whenever it is done and whoever joins or leaves meanwhile: so it may be done before the step that wants it is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from server.backends.base import Array, BatchError
from server.backends.decoding import Decoder, Row
from server.core.types import Chunk, Iteration
from server.generation.asked import Asked, Asking
from server.generation.options import Finish, LogProb
from server.generation.sampler import Chooser, choose, judged
from server.generation.slots import Slots


class Got(NamedTuple):
    """A token of one request. `finish`: why it was the last one; None: it was not. `scores`: with its first token, those of its prompt, where
    they are wanted."""

    request: Asking
    token: int
    logprob: LogProb | None
    finish: Finish | None
    scores: Sequence[LogProb] = ()


@dataclass(frozen=True, slots=True)
class Stepped:
    """What came of a step. `known`: of prompts that began in it and of which something was known, how many tokens, by request id.

    `n_rows` were calculated to decode, free slots between included; of prompts, `n_read` tokens. `n_slots` are in use after it, and
    `n_kept` tokens of prompts kept. `went_on`: it took what `Stepper.go_on` had decoded.
    """

    got: Sequence[Got]
    known: Mapping[int, int] = field(default_factory=dict)
    n_rows: int = 0
    n_read: int = 0
    n_slots: int = 0
    n_kept: int = 0
    went_on: bool = False


class _Ahead(NamedTuple):
    """What decoding gave before it was asked for: of each of these requests, by id, a row of float32 [rows, vocabulary]."""

    requests: Sequence[int]
    logits: Array

    def of(self, requests: Sequence[int]) -> Array | None:
        """The rows of these; None when one has none."""
        if requests == self.requests:
            return self.logits
        places = {request: place for place, request in enumerate(self.requests)}
        if not places.keys() >= set(requests):
            return None
        rows: Array = self.logits[[places[request] for request in requests]]
        return rows


class _Resident:
    """`n_known`: tokens of its prompt that were there before it. `n_kept`: tokens in its slot. `last`: the token that it got last. `scores`: of
    its prompt, as far as it has been read."""

    __slots__ = ("chooser", "last", "n_kept", "n_known", "request", "scores")

    def __init__(self, request: Asking, n_known: int, chooser: Chooser) -> None:
        self.request = request
        self.n_known = n_known
        self.n_kept = n_known
        self.last = -1
        self.chooser = chooser
        self.scores: list[LogProb] = []


class Stepper:
    """One instance: its decoder, its slots and its residents."""

    def __init__(self, decoder: Decoder, ends: Sequence[int], chunk: int) -> None:
        """`ends`: ids that end an answer. `chunk`: prompts are cut at multiples of so many tokens."""
        self._decoder = decoder
        self._ends = frozenset(ends)
        self._slots = Slots(decoder.slots, chunk)
        self._chunk = chunk
        self._residents: dict[int, _Resident] = {}
        self._going: list[_Resident] = []
        self._ahead: _Ahead | None = None

    def release(self, requests: Sequence[Asking]) -> None:
        """These have left; those that never began have no slot yet."""
        for request in requests:
            if self._residents.pop(request.id, None) is not None:
                self._slots.release(request.id)

    def step(self, iteration: Iteration[Asked]) -> Stepped:
        """Raises BatchError when the library or the sampling fails; then nobody got a token."""
        ahead, self._ahead = self._ahead, None
        self._going = []
        known = self._begin(iteration.chunks)
        if ahead is None and all([chunk.start for chunk in iteration.chunks]):
            self._close_hole()  # when nobody is about to take it
        iteration = iteration.moved(known)
        residents = [self._residents[request.id] for request in iteration.decode]
        prompts = [self._residents[chunk.request.id] for chunk in iteration.chunks]
        first = [resident for resident, chunk in zip(prompts, iteration.chunks, strict=True) if chunk.is_last]
        scores: dict[int, list[LogProb]] = {}
        read = self._read(iteration.chunks, scores)
        chosen = choose(np.stack([read[one.request.id] for one in first]), [one.chooser for one in first]) if first else []
        decoded = None
        if residents:
            decoded = None if ahead is None else ahead.of([one.request.id for one in residents])
            logits = self._decode(residents) if decoded is None else decoded
            chosen += choose(logits, [one.chooser for one in residents])
        for one, chunk in zip(prompts, iteration.chunks, strict=True):
            one.n_kept = chunk.stop
            one.scores += scores.get(one.request.id, ())
            self._slots.read(one.request.id, one.request.payload.ids, chunk.stop)
        for one in residents:
            one.n_kept += 1
        got = [self._give(one, *token) for one, token in zip([*first, *residents], chosen, strict=True)]
        over = {one.request.id for one in got if one.finish is not None}
        self._going = [one for one in [*residents, *first] if one.request.id not in over]
        n_rows = max([self._slots[one.request.id] for one in residents], default=-1) + 1
        n_read = sum([chunk.stop - chunk.start for chunk in iteration.chunks])
        return Stepped(got, known, n_rows, n_read, len(self._slots), self._slots.n_kept, decoded is not None)

    def go_on(self) -> None:
        """Decode for those of the last step who want another token. The next step takes what that gives, unless it is of others too."""
        going, self._going = [one for one in self._going if one.request.id in self._residents], []
        if not going:
            return
        self._close_hole()
        with suppress(BatchError):  # the step that decodes for them will meet it too, and tell
            self._ahead = _Ahead([one.request.id for one in going], self._decode(going))

    def _decode(self, residents: Sequence[_Resident]) -> Array:
        """Their next logits, float32 [residents, vocabulary]."""
        return self._decoder.decode([Row(self._slots[one.request.id], one.last, one.n_kept) for one in residents])

    def _begin(self, chunks: Sequence[Chunk[Asked]]) -> dict[int, int]:
        """Slots for those whose prompt begins; how much of it is known."""
        known = {}
        for chunk in chunks:
            request = chunk.request
            if chunk.start:
                continue
            if request.id not in self._residents:  # it is, if its first step has failed
                chooser = Chooser(request.payload.sampling, request.payload.ids, sorted(self._ends))
                taken = self._slots.take(request.id, request.payload.ids, reads_all=request.payload.sampling.scores)
                if taken.source != taken.slot:
                    self._decoder.copy(taken.source, taken.slot, taken.n_known)
                self._residents[request.id] = _Resident(request, taken.n_known, chooser)
            if n_known := self._residents[request.id].n_known:
                known[request.id] = n_known
        return known

    def _close_hole(self) -> None:
        move = self._slots.close_hole()
        if move is not None:
            self._decoder.copy(move.source, move.target, self._residents[move.request].n_kept)

    def _read(self, chunks: Sequence[Chunk[Asked]], scores: dict[int, list[LogProb]]) -> dict[int, Array]:
        """The logits after each chunk, float32 [vocabulary], by request id; into `scores` goes what they say of prompts, where that is wanted.
        Prompts that begin are read together."""
        logits: dict[int, Array] = {}
        for chunk in [chunk for chunk in chunks if chunk.request.payload.sampling.scores]:
            scores[chunk.request.id] = []
            for row, score in self._score(chunk):
                logits[chunk.request.id] = row
                scores[chunk.request.id] += score
        chunks = [chunk for chunk in chunks if chunk.request.id not in scores]
        fresh = [chunk for chunk in chunks if not chunk.start]
        for group in [fresh] * bool(fresh) + [[chunk] for chunk in chunks if chunk.start]:
            slots = [self._slots[chunk.request.id] for chunk in group]
            parts = [chunk.request.payload.ids[chunk.start : chunk.stop] for chunk in group]
            after = self._decoder.prefill(slots, parts, group[0].start)
            logits.update(zip([chunk.request.id for chunk in group], after, strict=True))
        return logits

    def _score(self, chunk: Chunk[Asked]) -> Iterator[tuple[Array, list[LogProb]]]:
        """Of each piece of a chunk its last logits, and the log probabilities of the tokens after its own: in pieces, for each has all logits
        of all its tokens."""
        ids, sampling = chunk.request.payload.ids, chunk.request.payload.sampling
        assert sampling.logprobs is not None, "the caller saw to that"
        for start in range(chunk.start, chunk.stop, self._chunk):
            stop = min(start + self._chunk, chunk.stop)
            rows = self._decoder.score(self._slots[chunk.request.id], ids[start:stop], start)
            following = ids[start + 1 : stop + 1].tolist()
            yield rows[-1], [judged(row, token, sampling.logprobs) for row, token in zip(rows, following, strict=False)]

    def _give(self, resident: _Resident, token: int, logprob: LogProb | None) -> Got:
        resident.chooser.took(token)
        resident.last = token
        request = resident.request
        finish = None
        if token in self._ends and request.payload.sampling.ends:
            finish = Finish.STOP
        elif resident.chooser.is_whole:
            finish = Finish.STOP  # only an end could follow: a step for it would tell nobody anything
        elif resident.chooser.n_chosen == request.new_tokens:
            finish = Finish.LENGTH
        scores, resident.scores = resident.scores, []
        return Got(request, token, logprob, finish, scores)
