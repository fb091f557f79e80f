"""onnxruntime-genai's `Engine`, which takes requests at any time; on a CPU it joins at most four of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime_genai as og

from loadtests.peers.generators.talk import Answers, Setup, serve

_EVENTS = 256


def load(setup: Setup) -> Callable[[], Answers]:
    """The folder that the model builder made, whose genai_config.json says how many threads."""
    engine = og.Engine(og.Model(setup.checkpoint))

    def run() -> Answers:
        buffer = engine.create_event_buffer(_EVENTS)
        requests: list[Any] = []
        answers: dict[int, tuple[int, list[int]]] = {}
        for at, (prompt, n) in enumerate(zip(setup.prompts, setup.new_tokens, strict=True)):
            options = og.RequestOptions()
            options.set_max_session_tokens(len(prompt) + n)
            request = engine.create_request(options=options)
            turn = og.TurnOptions(request)
            turn.set_max_generated_tokens(n)
            turn.set_min_generated_tokens(n)
            turn.set_do_sample(False)
            request.begin_turn(np.asarray(prompt, np.int32), turn)
            requests.append(request)
            answers[id(request)] = (at, [])
        n_left = len(requests)
        while n_left:
            for event in engine.run(buffer):
                flags = int(event.flags)
                assert not flags & int(og.EngineEventFlags.FAILED), f"the engine failed: {event.error_code}"
                if flags & int(og.EngineEventFlags.TOKEN):
                    answers[id(event.request)][1].append(int(event.token))
                if flags & int(og.EngineEventFlags.TURN_FINISHED):
                    event.request.close()
                    n_left -= 1
        return [tokens for _, tokens in sorted(answers.values())]

    return run


if __name__ == "__main__":
    serve(load)
