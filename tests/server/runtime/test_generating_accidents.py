"""Where telling an answer fails, or a library panics: the others are answered, and nothing stays behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")

from server.contract.wants import Wants
from server.core.residents import Residents
from server.errors import InstanceLost, ModelFailed
from tests.decoders import TinyDecoder, publish_decoder
from tests.server.runtime.generating_world import GeneratingWorld, generating_world, prompt

WANTS = Wants(30.0, gap_s=30.0, slots=3)


def alone(length: int, seed: int, n_new: int) -> list[int]:
    """By NumPy's calculation."""
    return TinyDecoder().greedy(prompt(length, seed), n_new)


def test_a_client_that_cannot_be_told_harms_nobody_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path, wants=WANTS)
        async with generating_world(tmp_path) as w:
            broken: list[str] = []
            w.engine._broken = lambda: broken.append("broken")
            deaf, others = w.ask(prompt(20, 1), 40), [w.ask(prompt(20, n), 40) for n in (2, 3)]
            deaf.at_token = _breaks_at_5
            await w.over(deaf, *others)
            assert isinstance(deaf.error, ModelFailed)
            assert len(deaf.tokens) == 5
            assert [one.tokens for one in others] == [alone(20, n, 40) for n in (2, 3)]
            await w.reaches(lambda: all(place.slots_left == 3 for place in _places(w)))
            assert broken == []
            w.check()

    asyncio.run(scenario())
    assert "could not be told a token: a bug in ferry" in caplog.text


def _breaks_at_5(n_tokens: int) -> None:
    if n_tokens == 5:
        raise ZeroDivisionError("planted")


class Panic(BaseException):
    """What a library in Rust throws is no Exception."""


def test_a_librarys_panic_is_the_end_of_an_instance_and_of_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path, wants=WANTS)
        async with generating_world(tmp_path) as w:
            client = w.ask(prompt(20, 1), 200)
            await w.reaches(lambda: len(client.tokens) > 3)
            w.backend.loaded[0].death = Panic("planted")
            w.backend.loaded[0].dies = True
            await w.over(client)
            assert isinstance(client.error, InstanceLost)
            after = w.ask(prompt(20, 1), 5)
            await w.over(after)
            assert after.tokens == alone(20, 1, 5)

    asyncio.run(scenario())


def _places(w: GeneratingWorld) -> list[Residents[Any]]:
    lane = w.engine.resident_lane(w.model.key)
    assert lane is not None
    return list(lane.places.values())
