"""The models under test: published files, real rows (noise for the random network), and what the files answer in process."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loadtests import data
from loadtests.errors import MissingData
from loadtests.limit import InProcess, Row, model_file
from loadtests.peers.peer import Model
from loadtests.tensors import Array

NAMES = ("digits", "resnet18", "minilm")
_N_IMAGES = 8
_IMAGE = (1, 3, 224, 224)
_N_EXPECTED = {"digits": 64, "resnet18": 4, "minilm": 16}


def load(name: str, repository: Path, n_texts: int) -> tuple[Model, InProcess]:
    """A published model and the same file in process. Raises MissingData if it is not published, or its inputs are not there."""
    file = model_file(repository, name)
    rows = _rows(name, n_texts)
    in_process = InProcess(file, rows)
    expected = [in_process.outputs(row) for row in rows[: _N_EXPECTED[name]]]
    return Model(name, file, rows, tuple(expected[0]), expected), in_process


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
