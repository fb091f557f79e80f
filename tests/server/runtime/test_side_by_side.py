"""A model that generates and one that answers in one step on the same device, through one engine and one scheduler."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.errors import BadRequest
from tests.decoders import TinyDecoder, publish_decoder
from tests.models import affine, publish_model
from tests.server.runtime.generating_world import generating_world, prompt


def test_both_are_answered_and_neither_takes_the_others_requests(tmp_path: Path) -> None:
    expected = [TinyDecoder().greedy(prompt(20, n), 30) for n in range(4)]
    publish_decoder(tmp_path)
    publish_model(tmp_path, "affine", affine(), slo_s=30.0)

    async def scenario() -> None:
        async with generating_world(tmp_path, backends=[OnnxRuntimeBackend()]) as w:
            loop = asyncio.get_running_loop()
            model = w.registry.find("affine")
            answers = []
            clients = []
            for n in range(40):
                if n % 10 == 0:
                    clients.append(w.ask(prompt(20, n // 10), 30))
                answers.append(loop.create_future())
                w.engine.submit(model, {"x": np.full((1, 4), n, np.float32)}, 1, 0, answers[-1])
                await asyncio.sleep(0)
            await w.over(*clients)
            outputs = await asyncio.gather(*answers)
            assert [client.tokens for client in clients] == expected
            assert [float(output[0][0, 0]) for output in outputs] == [2 * n + 1 for n in range(40)]
            assert [one.key.name for one in w.registry.served] == ["affine", "tiny"]
            assert [one.key.name for one in w.registry.serving] == ["affine"]
            with pytest.raises(BadRequest, match="does not generate: ask it with /v2/models/affine/infer"):
                w.registry.find_generating("affine")
            assert w.engine.tightest_slo_s == 30.0
            w.check()

    asyncio.run(scenario())
