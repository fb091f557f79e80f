"""What a peer's server is told, and the model file as its code would hold it. Runs inside the peer's environment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

VARIABLE = "PEER_SETUP"
"""The environment variable: every process that a peer starts inherits it, whatever its own way of configuration is."""

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Setup:
    """One model file, where to listen, and how to run it. `max_batch` 1 is batching off, `threads` 0 onnxruntime's default.

    `n_rows` are those of each request; `queue` and `timeout_ms` 0 are the server's own defaults.
    """

    file: str
    host: str
    port: int
    max_batch: int
    wait_ms: float
    workers: int
    threads: int
    queue: int
    timeout_ms: float
    n_rows: int


def read_setup() -> Setup:
    """The setup this process was started with."""
    return Setup(**json.loads(os.environ[VARIABLE]))


class OnnxModel:
    """A session, and requests to and from its tensors. A row is a list of numbers per input: `{"image": [[...]]}`."""

    def __init__(self, setup: Setup) -> None:
        options = ort.SessionOptions()
        if setup.threads:
            options.intra_op_num_threads = setup.threads
            options.inter_op_num_threads = 1
            options.add_session_config_entry("session.intra_op.spin_duration_us", "20")  # as ferry does
            options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = ort.InferenceSession(setup.file, options, providers=["CPUExecutionProvider"])
        self._inputs = {
            one.name: (
                np.int64 if "int64" in one.type else np.float32,
                [size for size in one.shape[1:] if isinstance(size, int)],
            )
            for one in self._session.get_inputs()
        }
        self._outputs = [one.name for one in self._session.get_outputs()]

    def tensors(self, rows: Mapping[str, Any]) -> Tensors:
        """Lists [n, values] by input as arrays of the shapes the model wants."""
        return {
            name: np.asarray(rows[name], dtype).reshape(len(rows[name]), *(shape or [-1]))
            for name, (dtype, shape) in self._inputs.items()
        }

    def run(self, tensors: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        """One run, outputs by name."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(tensors)), strict=True))

    def run_many(self, requests: Sequence[Tensors]) -> list[Tensors]:
        """Requests as one run. Those of different lengths are padded, and then every output needs one row per input row: with an axis as
        long as the padded one it would come back too long."""
        if len(requests) == 1:
            return [self.run(requests[0])]
        joined = self.run({name: padded([one[name] for one in requests]) for name in self._inputs})
        ends = np.cumsum([len(next(iter(one.values()))) for one in requests])
        return [
            {name: array[start:end] for name, array in joined.items()} for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]


def padded(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Arrays [n, ...] of one type as one, rows after rows; other axes as long as the longest, filled up with zeros.

    Zeros are right for token ids, types and the attention mask of a sentence: what is masked changes no answer.
    """
    if len({one.shape[1:] for one in arrays}) == 1:
        return np.concatenate(arrays)
    longest = np.max([one.shape[1:] for one in arrays], axis=0)
    joined = np.zeros((sum(map(len, arrays)), *longest), arrays[0].dtype)
    start = 0
    for one in arrays:
        joined[(slice(start, start + len(one)), *map(slice, one.shape[1:]))] = one
        start += len(one)
    return joined


def plain(tensors: Tensors) -> dict[str, Any]:
    """Outputs as lists that any JSON encoder takes."""
    return {name: array.tolist() for name, array in tensors.items()}
