"""transformers' `generate` in static batches: each waits for the longest answer in it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import AutoModelForCausalLM

from loadtests.peers.generators.talk import Answers, Setup, serve


def load(setup: Setup) -> Callable[[], Answers]:
    """The model in float32 with so many threads."""
    torch.set_num_threads(setup.threads)
    model = AutoModelForCausalLM.from_pretrained(setup.checkpoint, dtype=torch.float32).eval()

    def run() -> Answers:
        answers: Answers = []
        for at in range(0, len(setup.prompts), setup.slots):
            prompts, lengths = setup.prompts[at : at + setup.slots], setup.new_tokens[at : at + setup.slots]
            ids = torch.tensor(prompts)
            n_new, n_prompt = max(lengths), ids.shape[1]
            with torch.inference_mode():
                out = model.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=n_new, min_new_tokens=n_new, do_sample=False,
                    pad_token_id=2, eos_token_id=None,
                )  # fmt: skip
            answers += [row[n_prompt : n_prompt + n].tolist() for row, n in zip(out, lengths, strict=True)]
        return answers

    return run


if __name__ == "__main__":
    serve(load)
