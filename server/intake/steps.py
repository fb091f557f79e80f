"""Step profiles: times decoding by rows and context and prompts by tokens, through the Decoder that will serve, sampling included.

Nothing here knows which library that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from server.backends.base import Array
from server.backends.decoding import Decoder, Row
from server.contract.device import Device
from server.contract.profile import Placement
from server.contract.step_profile import DecodeCell, PrefillCell, StepProfile
from server.intake.measure import N_ROUNDS, Effort, Progress
from server.intake.timer import now

ROWS = (1, 2, 4, 8, 16, 32)
CHUNKS = (16, 32, 64, 128, 256, 512)
"""Tokens of a prompt that are read at a time."""

SHORT_CONTEXT = 64

STEPS = Effort(cell_s=0.6, n_least=15, n_most=300)
"""Of each cell: a p99 of fewer samples would be the worst one."""


@dataclass(slots=True)
class Paced:
    """One decoder, and the seconds of each of its steps: of decoding by (rows, context), of prompts by tokens."""

    decoder: Decoder
    longest: int
    prompt: Array
    decoding: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    prefilling: dict[int, list[float]] = field(default_factory=dict)

    def decode(self, place: tuple[int, int], effort: Effort) -> None:
        """One round's share of a cell's samples."""
        n_rows, context = place
        rows = [Row(slot, int(self.prompt[slot]), context) for slot in range(n_rows)]
        _time(self.decoding.setdefault(place, []), lambda: self.decoder.decode(rows), effort)

    def prefill(self, n_tokens: int, effort: Effort) -> None:
        """Likewise."""
        chunk = self.prompt[:n_tokens]
        _time(self.prefilling.setdefault(n_tokens, []), lambda: self.decoder.prefill([0], [chunk], 0), effort)

    def fill(self) -> None:
        """Every slot keeps as much as it can: memory that was never written is read faster than it will be."""
        for start in range(0, self.longest - 1, CHUNKS[-1]):
            self.decoder.prefill([0], [self.prompt[start : min(start + CHUNKS[-1], self.longest - 1)]], start)
        for slot in range(1, self.decoder.slots):
            self.decoder.copy(0, slot, self.longest - 1)

    def profile(self, placement: Placement, device: Device) -> StepProfile:
        decode = (DecodeCell(*place, *_quantiles(times), len(times)) for place, times in self.decoding.items())
        prefill = (PrefillCell(tokens, *_quantiles(times), len(times)) for tokens, times in self.prefilling.items())
        return StepProfile(device, placement, tuple(decode), tuple(prefill))


def measure_steps(
    decoder: Decoder, placement: Placement, device: Device, longest: int, progress: Progress, effort: Effort = STEPS
) -> StepProfile:
    """Times rows of 1, 2, 4 … 32, as far as there are slots, that keep few, half and all tokens of `longest`; and chunks of 16 to 512
    tokens. All is measured a little in each of N_ROUNDS rounds, so that what disturbs the machine for a while disturbs all cells.

    `decoder` is used alone meanwhile, and its slots are overwritten. Raises BatchError when the library fails.
    """
    return measure_in_turns([decoder], placement, device, longest, progress, effort)[0]


def measure_in_turns(
    decoders: Sequence[Decoder], placement: Placement, device: Device, longest: int, progress: Progress, effort: Effort = STEPS
) -> list[StepProfile]:
    """The same of several that are to be compared, one after the other for each cell. They have as many slots each."""
    paced = [Paced(decoder, longest, _prompt(decoder, longest)) for decoder in decoders]
    for one in paced:
        progress("filling the slots", 0, 1)
        one.fill()
    places = list(_places(min(decoder.slots for decoder in decoders), longest))
    chunks = [n for n in CHUNKS if n < longest]
    total = N_ROUNDS * (len(places) + len(chunks))
    done = 0
    for _ in range(N_ROUNDS):
        for n_rows, context in places:
            progress(f"steps of {n_rows} rows with {context} tokens each", done, total)
            for one in paced:
                one.decode((n_rows, context), effort)
            done += 1
        for n_tokens in chunks:
            progress(f"prompts of {n_tokens} tokens", done, total)
            for one in paced:
                one.prefill(n_tokens, effort)
            done += 1
    return [one.profile(placement, device) for one in paced]


def grid_contexts(longest: int) -> tuple[int, ...]:
    """Few tokens, half of `longest`, and all of it but the one that is decoded."""
    most = longest - 1
    return tuple(sorted({min(SHORT_CONTEXT, most), max(1, longest // 2), most}))


def _places(slots: int, longest: int) -> Iterator[tuple[int, int]]:
    for context in grid_contexts(longest):
        yield from ((n, context) for n in ROWS if n <= slots)


def _prompt(decoder: Decoder, longest: int) -> Array:
    """Random ids, enough for the longest chunk and a token for each row."""
    vocabulary = decoder.prefill([0], [np.zeros(1, np.int64)], 0).shape[1]
    return np.random.default_rng(0).integers(0, vocabulary, max(longest, decoder.slots))


def _time(times: list[float], step: Callable[[], Array], effort: Effort) -> None:
    """One round's share: samples until this round's part of the time is spent and there are enough."""
    if not times:
        step()
    n_least, n_most = (-(-n // N_ROUNDS) for n in (effort.n_least, effort.n_most))
    stop_at = now() + effort.cell_s / N_ROUNDS
    n_done = 0
    while n_done < n_least or (n_done < n_most and now() < stop_at):
        began_at = now()
        step().argmax(axis=1)  # the likeliest token of each row, as the sampler finds it
        times.append(now() - began_at)
        n_done += 1


def _quantiles(times: Sequence[float]) -> tuple[float, float]:
    p50, p99 = (float(value) for value in np.percentile(times, (50, 99)))
    return p50, p99
