"""Trains the small Llama on entries of the manual and writes a checkpoint folder as transformers does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from examples.manual.corpus import Entry
from examples.manual.muon import Muon

BEGIN, END = "<|begin|>", "<|end|>"
TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}{{ 'Answer: ' + message.content + eos_token }}"
    "{% else %}{{ bos_token + 'Question: ' + message.content + '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Answer:' }}{% endif %}"
)
"""Questions by whoever is not the assistant; each begins a text as in training."""

_WARM_UP = 40
_STABLE = 0.5
"""Share of the time after which the rates fall, to nothing at the end."""

Progress = Callable[[float, int, float], None]
"""Called with the share of the time that is over, steps done, and the mean loss of late."""


@dataclass(frozen=True)
class Shape:
    """Of the model and of its training. `context`: tokens that it is trained on at a time; `longest`: that it has positions for."""

    vocabulary: int = 2048
    hidden: int = 256
    inner: int = 672
    layers: int = 4
    heads: int = 4
    kept_heads: int = 2
    context: int = 256
    longest: int = 1024
    batch: int = 16
    matrix_rate: float = 0.02
    other_rate: float = 3e-3


def train(entries: Sequence[Entry], folder: Path, minutes: float, progress: Progress, shape: Shape | None = None) -> float:
    """Writes config, weights, tokenizer, chat template and generation config into `folder`; the mean loss of the last steps, in nats
    per token."""
    shape = shape or Shape()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(entries, shape)
    ids = _ids(tokenizer, entries)
    torch.manual_seed(0)
    model = LlamaForCausalLM(_config(tokenizer, shape))
    loss = _learn(model, ids, shape, 60 * minutes, progress)
    model.generation_config.eos_token_id = tokenizer.token_to_id(END)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BEGIN, "eos_token": END, "chat_template": TEMPLATE,
        "model_max_length": shape.longest,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return loss


def text(entry: Entry) -> str:
    """As it is learned, without what begins and ends it."""
    return f"Question: {entry.question}\nAnswer: {entry.answer}"


def _tokenizer(entries: Sequence[Entry], shape: Shape) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary, special_tokens=[BEGIN, END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator([text(entry) for entry in entries], trainer)
    return tokenizer


def _ids(tokenizer: Tokenizer, entries: Sequence[Entry]) -> torch.Tensor:
    """All entries one after the other, in an order of their own: int64 [tokens]."""
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(entries), generator=generator).tolist()
    encoded = tokenizer.encode_batch([f"{BEGIN}{text(entries[place])}{END}" for place in order])
    return torch.tensor([token for one in encoded for token in one.ids])


def _config(tokenizer: Tokenizer, shape: Shape) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.inner, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kept_heads, head_dim=shape.hidden // shape.heads,
        max_position_embeddings=shape.longest, tie_word_embeddings=True, bos_token_id=tokenizer.token_to_id(BEGIN),
        eos_token_id=tokenizer.token_to_id(END),
    )  # fmt: skip


def _learn(model: LlamaForCausalLM, ids: torch.Tensor, shape: Shape, seconds: float, progress: Progress) -> float:
    """Until the time is over: matrices by Muon, all else by AdamW, in bfloat16 where that is safe."""
    hidden = [one for name, one in model.named_parameters() if one.ndim == 2 and "layers" in name]
    others = [one for name, one in model.named_parameters() if one.ndim != 2 or "layers" not in name]
    muon = Muon(hidden)
    adam = torch.optim.AdamW(others, lr=shape.other_rate, betas=(0.9, 0.95), weight_decay=0.0)
    recent = 0.0
    began_at = time.perf_counter()
    for step, batch in enumerate(_batches(ids, shape), 1):
        share = (time.perf_counter() - began_at) / seconds if seconds > 0 else 1.0
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(input_ids=batch[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        scale = rate_scale(step, share)
        muon.step(shape.matrix_rate * scale)
        for group in adam.param_groups:
            group["lr"] = shape.other_rate * scale
        adam.step()
        adam.zero_grad()
        recent = loss.item() if step == 1 else 0.95 * recent + 0.05 * loss.item()
        progress(min(share, 1.0), step, recent)
        if share >= 1:
            break
    return recent


def rate_scale(step: int, share: float) -> float:
    """Up within the first steps, level until half of the time is over, then down to nothing in a straight line."""
    return min(1.0, step / _WARM_UP, max(0.0, (1 - share) / (1 - _STABLE)))


def _batches(ids: torch.Tensor, shape: Shape) -> Iterator[torch.Tensor]:
    """int64 [batch, context + 1], from random places, for ever."""
    generator = torch.Generator().manual_seed(0)
    window = torch.arange(shape.context + 1)
    while True:
        starts = torch.randint(0, len(ids) - shape.context, (shape.batch, 1), generator=generator)
        yield ids[starts + window]
