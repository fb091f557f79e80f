"""What a client may have of a device that generates: its prompt at once, its tokens as they come, then nothing until its debt is paid."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from server.contract.wants import Wants
from server.errors import RateLimited
from server.generation.options import Prompt
from server.runtime.rationed import RationedEngine, generating_cost_s
from tests.decoders import publish_decoder
from tests.server.runtime.generating_world import GeneratingWorld, generating_world, prompt

SHARE, BURST_S = 0.5, 0.006
"""A client may save 3 ms of the device's time."""

A, B = 1, 2


class Bench:
    """A world whose clock the test turns."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now


def run(folder: Path, scenario: Callable[[Bench, GeneratingWorld], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench()
        engine = RationedEngine(asyncio.get_running_loop(), bench.clock, SHARE, BURST_S)
        async with generating_world(folder, engine=engine) as w:
            await scenario(bench, w)
            w.check()

    publish_decoder(folder, wants=Wants(30.0, gap_s=30.0, slots=3))
    asyncio.run(main())


def test_tokens_are_paid_as_they_come_and_a_debt_is_waited_for(tmp_path: Path) -> None:
    async def scenario(b: Bench, w: GeneratingWorld) -> None:
        prompt_s, token_s = generating_cost_s(w.model, 20, 200)
        assert prompt_s < SHARE * BURST_S < 200 * token_s + prompt_s
        first = w.ask(prompt(20, 1), 200, who=A)
        await w.over(first)
        assert len(first.tokens) == 200, "it is not cut off"
        with pytest.raises(RateLimited, match=r"client_share = 0.5 .* raise client_share") as caught:
            w.ask(prompt(20, 2), 5, who=A)
        smaller_s, _ = generating_cost_s(w.model, 20, 5)
        wait_s = caught.value.retry_after_s
        assert wait_s == pytest.approx((prompt_s + 200 * token_s + smaller_s) / SHARE - BURST_S)
        other = w.ask(prompt(20, 3), 5, who=B)
        nobody = w.ask(prompt(20, 4), 5)
        await w.over(other, nobody)
        assert (len(other.tokens), len(nobody.tokens)) == (5, 5)
        assert wait_s is not None
        b.now += wait_s - 1e-6
        with pytest.raises(RateLimited):
            w.ask(prompt(20, 2), 5, who=A)
        b.now += 2e-6
        await w.over(w.ask(prompt(20, 2), 5, who=A))
        assert w.sample("ferry_refused_total") == 2

    run(tmp_path, scenario)


def test_who_is_stopped_pays_for_what_came(tmp_path: Path) -> None:
    async def scenario(b: Bench, w: GeneratingWorld) -> None:
        prompt_s, token_s = generating_cost_s(w.model, 20, 100)
        client = w.ask(prompt(20, 1), 100, who=A)
        client.at_token = lambda n: w.stop(client) if n == 10 else None
        lane = w.engine.resident_lane(w.model.key)
        assert lane is not None
        await w.reaches(lambda: client.is_stopped and lane.is_empty)
        with pytest.raises(RateLimited) as caught:
            w.ask(prompt(250, 2), 1, who=A)
        assert caught.value.retry_after_s is None
        assert "a prompt of 250 tokens for model tiny/1 would take more than a client may have at once" in str(caught.value)
        wait_s = w.engine._buckets.wait_s(A, SHARE * BURST_S, b.now)  # type: ignore[attr-defined]
        assert wait_s == pytest.approx((prompt_s + 10 * token_s) / SHARE)

    run(tmp_path, scenario)


def test_several_prompts_are_charged_together_or_not_at_all(tmp_path: Path) -> None:
    async def scenario(b: Bench, w: GeneratingWorld) -> None:
        one_s, _ = generating_cost_s(w.model, 100, 1)
        n_saved = int(SHARE * BURST_S / one_s)
        assert n_saved >= 1
        asked = [Prompt(prompt(100, 1), 1)] * (n_saved + 1)
        with pytest.raises(
            RateLimited, match=rf"{n_saved + 1} prompts of {100 * (n_saved + 1)} tokens together .* fewer answers"
        ) as caught:
            w.engine.charge_prompts(w.model, asked, A)
        assert caught.value.retry_after_s is None, "it can never have so many at once"
        w.engine.charge_prompts(w.model, asked[:-1], A)
        with pytest.raises(RateLimited, match="for now"):
            w.engine.charge_prompts(w.model, asked[:-1], A)

    run(tmp_path, scenario)
