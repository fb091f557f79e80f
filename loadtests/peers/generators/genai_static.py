"""onnxruntime-genai's `Generator` in static batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime_genai as og

from loadtests.peers.generators.talk import Answers, Setup, serve


def load(setup: Setup) -> Callable[[], Answers]:
    """The folder that the model builder made, whose genai_config.json says how many threads."""
    model = og.Model(setup.checkpoint)

    def run() -> Answers:
        answers: Answers = []
        for at in range(0, len(setup.prompts), setup.slots):
            prompts, lengths = setup.prompts[at : at + setup.slots], setup.new_tokens[at : at + setup.slots]
            n_prompt, most = len(prompts[0]), len(prompts[0]) + max(lengths)
            parameters = og.GeneratorParams(model)
            parameters.set_search_options(batch_size=len(prompts), max_length=most, min_length=most, do_sample=False)
            generator = og.Generator(model, parameters)
            generator.append_tokens(np.asarray(prompts, np.int32))
            while not generator.is_done():
                generator.generate_next_token()
            rows = [generator.get_sequence(row) for row in range(len(prompts))]
            answers += [row[n_prompt : n_prompt + n].tolist() for row, n in zip(rows, lengths, strict=True)]
        return answers

    return run


if __name__ == "__main__":
    serve(load)
