"""The models under test: published files, real rows (noise for the random network), and what the files answer in process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from loadtests import data
from loadtests.child import HOST
from loadtests.errors import MissingData
from loadtests.limit import InProcess, Row, model_file
from loadtests.peers.peer import Model
from loadtests.tensors import Array
from loadtests.wire import infer_request

NAMES = ("digits", "resnet18", "minilm")
_N_IMAGES = 8
_IMAGE = (1, 3, 224, 224)
_N_EXPECTED = {"digits": 64, "resnet18": 4, "minilm": 16}


def load(name: str, repository: Path, n_texts: int, n_rows: int = 1) -> tuple[Model, InProcess]:
    """A published model, asked with `n_rows` rows in each request, and the same file in process.

    Raises MissingData if it is not published, its inputs are not there, or rows of different lengths are to be one request.
    """
    file = model_file(repository, name)
    rows = joined(_rows(name, n_texts), n_rows)
    in_process = InProcess(file, rows)
    expected = [in_process.outputs(row) for row in rows[: _N_EXPECTED[name]]]
    return Model(name, file, rows, tuple(expected[0]), expected), in_process


def joined(rows: Sequence[Row], n: int) -> list[Row]:
    """Rows as requests of `n` rows each; what is left over is left out. Raises MissingData for rows of different shapes."""
    if n == 1:
        return list(rows)
    if len({array.shape for row in rows for array in row.values()}) > len(rows[0]):
        raise MissingData(f"rows of different lengths cannot be one request: ask for 1 row in each, not {n}")
    whole = len(rows) // n * n
    return [{name: np.concatenate([row[name] for row in rows[at : at + n]]) for name in rows[0]} for at in range(0, whole, n)]


def v2_request(model: str, row: Row) -> bytes:
    """One request to a V2 server on this machine, tensors as JSON."""
    return infer_request(HOST, model, row, binary=False)


def _rows(name: str, n_texts: int) -> list[Row]:
    if name == "digits":
        return [*data.digits(data.InputMeta("image", "FP32", (-1, 1, 8, 8)))]
    if name == "minilm":
        return [*data.texts(n_texts)]
    if name == "resnet18":
        return [_image(seed) for seed in range(_N_IMAGES)]
    raise MissingData(f"no rows are known for the model {name}; known are {', '.join(NAMES)}")


def _image(seed: int) -> dict[str, Array]:
    return {"image": np.random.default_rng(seed).random(_IMAGE, dtype=np.float32)}
