"""BentoML: a service for models of one image, and one for sentences; adaptive batching if there is something to batch."""

from __future__ import annotations

import bentoml
import numpy as np
from pydantic import BaseModel

from loadtests.peers.servers.setup import OnnxModel, read_setup

_SETUP = read_setup()
_LATENCY_MS = 60_000
"""As by default."""

_BATCHING = (
    {
        "batchable": True,
        "max_batch_size": _SETUP.max_batch * _SETUP.n_rows,
        "max_latency_ms": round(_SETUP.timeout_ms) or _LATENCY_MS,
    }
    if _SETUP.max_batch > 1
    else {}
)
_TRAFFIC = {"timeout": 60, **({"max_concurrency": _SETUP.queue} if _SETUP.queue else {})}


@bentoml.service(workers=_SETUP.workers, traffic=_TRAFFIC)
class Image:
    """`{"image": [[values]]}` → the model's first output as a list."""

    def __init__(self) -> None:
        self._model = OnnxModel(_SETUP)

    @bentoml.api(**_BATCHING)
    def predict(self, image: np.ndarray) -> np.ndarray:
        return next(iter(self._model.run(self._model.tensors({"image": image})).values()))


class Tokens(BaseModel):
    """One sentence. BentoML's documentation groups parameters so, since a method that joins requests takes only one."""

    input_ids: list[int]
    attention_mask: list[int]


@bentoml.service(workers=_SETUP.workers, traffic=_TRAFFIC)
class Sentence:
    """`{"sentences": [{"input_ids": [ids], "attention_mask": [ones]}]}` → the model's first output as a list."""

    def __init__(self) -> None:
        self._model = OnnxModel(_SETUP)

    @bentoml.api(**_BATCHING)
    def predict(self, sentences: list[Tokens]) -> np.ndarray:
        rows = [{name: [ids] for name, ids in one.model_dump().items()} for one in sentences]
        found = self._model.run_many([self._model.tensors(one) for one in rows])
        return np.concatenate([next(iter(one.values())) for one in found])
