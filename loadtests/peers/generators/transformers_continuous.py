"""transformers' own continuous batching, with a limit of its own for each request."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from loadtests.peers.generators.talk import Answers, Setup, serve

_OPEN = ExitStack()
"""Holds the manager until the program ends: its thread is no daemon, so nobody else would let the process go."""


def load(setup: Setup) -> Callable[[], Answers]:
    """The model in float32 with so many threads, its manager kept between runs: made, with its cache, before any clock runs, and
    stopped when the program ends. (`persistent_manager` would keep the cache alone: its thread ends and starts with every use.)"""
    torch.set_num_threads(setup.threads)
    model = AutoModelForCausalLM.from_pretrained(setup.checkpoint, dtype=torch.float32, attn_implementation="sdpa").eval()
    generation = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=2, max_new_tokens=max(setup.new_tokens))
    batching = ContinuousBatchingConfig(
        max_requests_per_batch=setup.slots, max_batch_tokens=512, page_size=32, allow_block_sharing=False,
        num_blocks=setup.slots * (setup.longest // 32 + 2),
    )  # fmt: skip
    manager = _OPEN.enter_context(
        model.continuous_batching_context_manager(
            generation_config=generation, continuous_batching_config=batching, warmup=False, timeout=5
        )
    )

    def run() -> Answers:
        answers: dict[str, list[int]] = {}
        work = list(zip(setup.prompts, setup.new_tokens, strict=True))
        names = [manager.add_request(prompt, max_new_tokens=n, eos_token_id=-1) for prompt, n in work]
        while len(answers) < len(work):
            result = manager.get_result(timeout=60)
            assert result is not None, f"{len(answers)} of {len(work)} answers came, then none for a minute"
            if result.is_finished():
                answers[result.request_id] = list(result.generated_tokens)
        return [answers[str(name)] for name in names]

    return run


if __name__ == "__main__":
    with _OPEN:
        serve(load)
