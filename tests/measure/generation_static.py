"""ferry's own engine in one process, asked in static batches: as many as it has slots, each as long as the longest of its batch.

No part of the product: what continuous batching by the same engine is compared with, without a network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from loadtests.peers.generators.talk import Answers, Setup, serve
from tests.measure.generation_engine import everything, opened


def load(setup: Setup) -> Callable[[], Answers]:
    """One batch after another; of each answer the tokens that were wanted."""
    answer = opened(Path(setup.checkpoint))
    work = everything(setup)

    def run() -> Answers:
        wanted: Answers = []
        for at in range(0, len(work), setup.slots):
            batch = work[at : at + setup.slots]
            longest = max(n for _, n in batch)
            answers = answer([(prompt, longest) for prompt, _ in batch])
            wanted += [ids[:n] for ids, (_, n) in zip(answers, batch, strict=True)]
        return wanted

    return run


if __name__ == "__main__":
    serve(load)
