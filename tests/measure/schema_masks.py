"""What it costs to hold answers to a schema: loading, compiling, and each row's token with and without, for two sizes of vocabulary.

No part of the product: its figures are those of docs/decisions/0026. Run it with nothing beside it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from server.backends.guidance import Guidance, GuidanceCompiler
from server.generation.grammars import Grammar
from server.generation.options import Sampling
from server.generation.sampler import Chooser, choose
from tests.generating import generation

ROWS = 16
N_STEPS = 60
VOCABULARIES = (8192, 131_072)
PERSON: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["name", "age", "email", "tags", "address"],
    "properties": {
        "name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150}, "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 4},
        "address": {
            "type": "object", "additionalProperties": False, "required": ["street", "zip"],
            "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
        },
    },
}  # fmt: skip


def tokenizer(vocabulary: int) -> str:
    """Bytes, and as many made-up words, half of them after a space; id 0 ends answers."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    chance, words = random.Random(0), ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    known = set(words)
    while len(words) < vocabulary:
        word = "Ġ" * chance.randrange(2) + "".join(
            chance.choices("etaoinshrdlucmfwypvbgkqjxz_ABCST0123", k=chance.randint(2, 9))
        )
        if word not in known:
            known.add(word)
            words.append(word)
    made = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<|end|>")])
    return str(made.to_str())


def row_us(vocabulary: int, sampling: Sequence[Sampling]) -> float:
    """Median µs of a row's token, in steps of so many rows; a row whose answer has ended begins another one."""
    chance, took_s = np.random.default_rng(0), []
    choosers = [Chooser(one, np.array([1]), [0]) for one in sampling]
    logits = chance.standard_normal((len(sampling), vocabulary)).astype(np.float32) * 3
    for _ in range(N_STEPS):
        logits = np.roll(logits, 997, axis=1)
        began_at = perf_counter()
        chosen = choose(logits, choosers)
        for chooser, (token, _) in zip(choosers, chosen, strict=True):
            chooser.took(token)
        took_s.append(perf_counter() - began_at)
        for place, (chooser, (token, _)) in enumerate(zip(choosers, chosen, strict=True)):
            if token == 0 or chooser.is_whole:
                choosers[place] = Chooser(sampling[place], np.array([1]), [0])
    return median(took_s) / len(sampling) * 1e6


def main() -> None:
    for vocabulary in VOCABULARIES:
        content = tokenizer(vocabulary)
        began_at = perf_counter()
        compiler = Guidance().compiler(lambda content=content: content, generation((0,), vocabulary))  # type: ignore[misc]
        print(f"{vocabulary} tokens: loaded in {perf_counter() - began_at:.2f} s")
        assert isinstance(compiler, GuidanceCompiler)
        grammars: dict[str, Grammar | None] = {"none": None}
        for name, schema in (("an object", {"type": "object"}), ("a person", PERSON)):
            began_at = perf_counter()
            grammars[name] = compiler.compile(json.dumps(schema))
            print(f"  {name}: compiled in {(perf_counter() - began_at) * 1e3:.1f} ms")
        for temperature in (0.0, 1.0):
            told = []
            for name, grammar in grammars.items():
                samplings = [Sampling(temperature, seed=row, grammar=grammar) for row in range(ROWS)]
                told.append(f"{name} {row_us(vocabulary, samplings):.0f}")
            print(f"  temperature {temperature:g}, µs for each of {ROWS} rows: {', '.join(told)}")


if __name__ == "__main__":
    main()
