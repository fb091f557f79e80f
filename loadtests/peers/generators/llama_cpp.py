"""llama.cpp with continuous batching as its server does it: each call holds a token of everyone who decodes and newcomers' prompts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import llama_cpp as llama
import numpy as np

from loadtests.peers.generators.talk import Answers, Setup, serve

_CALL_TOKENS = 512


def load(setup: Setup) -> Callable[[], Answers]:
    """A GGUF file (`llama_file`), a sequence for each slot."""
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(setup.checkpoint.encode(), llama.llama_model_default_params())
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = setup.slots * setup.longest
    parameters.n_batch = parameters.n_ubatch = _CALL_TOKENS
    parameters.n_seq_max = setup.slots
    parameters.type_k = parameters.type_v = llama.GGML_TYPE_F32  # its usual 16 bits would give other answers
    parameters.n_threads = parameters.n_threads_batch = setup.threads
    context = llama.llama_init_from_model(model, parameters)
    n_vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    batch = llama.llama_batch_init(_CALL_TOKENS, 0, 1)

    def run() -> Answers:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        return _Loop(setup, context, batch, n_vocabulary).run()

    return run


class _Loop:
    def __init__(self, setup: Setup, context: Any, batch: Any, n_vocabulary: int) -> None:
        self._setup, self._context, self._batch, self._n_vocabulary = setup, context, batch, n_vocabulary
        self._waiting = deque(range(len(setup.prompts)))
        self._owner: dict[int, int] = {}  # slot -> request
        self._answers: Answers = [[] for _ in setup.prompts]

    def run(self) -> Answers:
        while self._waiting or self._owner:
            self._step()
        return self._answers

    def _step(self) -> None:
        self._batch.n_tokens = 0
        wanted = []
        for slot, request in self._owner.items():
            answer = self._answers[request]
            self._put(answer[-1], len(self._setup.prompts[request]) + len(answer) - 1, slot, wanted=True)
            wanted.append((self._batch.n_tokens - 1, slot))
        for slot in [slot for slot in range(self._setup.slots) if slot not in self._owner]:
            if not self._waiting or self._batch.n_tokens + len(self._setup.prompts[self._waiting[0]]) > _CALL_TOKENS:
                break
            request = self._waiting.popleft()
            self._owner[slot] = request
            prompt = self._setup.prompts[request]
            for position, token in enumerate(prompt):
                self._put(token, position, slot, wanted=position == len(prompt) - 1)
            wanted.append((self._batch.n_tokens - 1, slot))
        assert llama.llama_decode(self._context, self._batch) == 0, "llama_decode failed"
        for at, slot in wanted:
            logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(self._context, at), (self._n_vocabulary,))
            self._got(slot, int(logits.argmax()))

    def _put(self, token: int, position: int, slot: int, *, wanted: bool) -> None:
        batch, at = self._batch, self._batch.n_tokens
        batch.token[at], batch.pos[at], batch.n_seq_id[at], batch.logits[at] = token, position, 1, wanted
        batch.seq_id[at][0] = slot
        batch.n_tokens = at + 1

    def _got(self, slot: int, token: int) -> None:
        request = self._owner[slot]
        self._answers[request].append(token)
        if len(self._answers[request]) == self._setup.new_tokens[request]:
            del self._owner[slot]
            llama.llama_memory_seq_rm(llama.llama_get_memory(self._context), slot, -1, -1)


if __name__ == "__main__":
    serve(load)
