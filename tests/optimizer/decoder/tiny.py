"""A tiny Llama with random weights, as a checkpoint folder; what transformers says of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.backends.base import Array

VOCABULARY, LONGEST = 320, 256
TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


def write_checkpoint(folder: Path, *, tied: bool = True) -> Path:
    """Its weights are large enough that the likeliest token is never a close call."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=LONGEST, initializer_range=0.06, tie_word_embeddings=tied,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def write_tokenizer(folder: Path) -> None:
    """Bytes, two specials, and some pairs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(["the ship carries the cars over the river and back again"] * 9, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))


def prompts(lengths: Sequence[int]) -> list[Array]:
    """Random ids, int64 [length] each."""
    generator = np.random.default_rng(0)
    return [generator.integers(2, VOCABULARY, n) for n in lengths]


def generated(folder: Path, prompt: Array, n_new: int) -> list[int]:
    """The likeliest tokens, one after the other, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model.eval()
    ids = torch.from_numpy(prompt)[None]
    with torch.no_grad():
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new, do_sample=False, eos_token_id=None, pad_token_id=0
        )
    tokens: list[int] = found[0, len(prompt) :].tolist()
    return tokens
