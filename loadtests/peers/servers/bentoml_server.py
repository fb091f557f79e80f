"""BentoML: a service for models of one image, and one for sentences; adaptive batching if there is something to batch."""

from __future__ import annotations

import bentoml
import numpy as np

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


@bentoml.service(workers=_SETUP.workers, traffic=_TRAFFIC)
class Sentence:
    """`{"input_ids": [[ids]], "attention_mask": [[ones]]}` → the model's first output as a list."""

    def __init__(self) -> None:
        self._model = OnnxModel(_SETUP)

    @bentoml.api
    def predict(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        rows = {"input_ids": input_ids, "attention_mask": attention_mask}
        return next(iter(self._model.run(self._model.tensors(rows)).values()))
