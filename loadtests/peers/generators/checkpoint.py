"""`python -m loadtests.peers.generators.checkpoint FOLDER`: a Llama-shaped checkpoint of 32 M random weights, and a tokenizer for it.

Its weights are spread enough (initializer_range 0.06) that the likeliest token is clearly so: every engine must give the same answers.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 8192
CONTEXT = 1024
_SPECIALS = ("<|begin|>", "<|end|>", "<|pad|>", *(f"<|reserved{n}|>" for n in range(5)))
_N_FILES = 400


def main() -> int:
    """Write the folder."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4,
        head_dim=64, max_position_embeddings=CONTEXT, initializer_range=0.06, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with (
        torch.no_grad()
    ):  # special tokens are never the likeliest: some engines forbid the end of an answer, others go on after it
        model.lm_head.weight[: len(_SPECIALS)] = 0
    model.save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(), bos_token=_SPECIALS[0], eos_token=_SPECIALS[1], pad_token=_SPECIALS[2]
    )
    tokenizer.save_pretrained(folder)
    print(f"{folder}: {sum(one.numel() for one in model.parameters()) / 1e6:.1f} M parameters")
    return 0


def _tokenizer() -> Tokenizer:
    """Byte-level BPE, trained on the standard library's own sources."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(_SPECIALS), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(_texts(), trainer)
    assert made.get_vocab_size() == VOCABULARY, f"{made.get_vocab_size()} tokens were found in the texts"
    return made


def _texts() -> Iterator[str]:
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    return (file.read_text(encoding="utf-8", errors="replace") for file in islice(files, _N_FILES))


if __name__ == "__main__":
    sys.exit(main())
