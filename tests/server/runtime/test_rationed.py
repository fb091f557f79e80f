"""What a client may have of the device: charged by the profile, refused at once, told when to come back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.backends.base import Backends
from server.backends.scripted import Script, ScriptedBackend
from server.contract.manifest import Ragged
from server.errors import RateLimited
from server.runtime.gathering import BYTES_PER_TOKEN, submit_ids, submit_texts
from server.runtime.rationed import REQUEST_S, RationedEngine, cost_s
from server.runtime.registry import Registry
from server.runtime.served import ServedModel
from server.telemetry.metrics import Metrics
from tests.server.runtime.scripted_world import LIMIT_S, MODEL, doubled, publish_fake
from tests.server.runtime.text_world import HeldTokenizer, publish_text, summed

SHARE, BURST_S = 0.25, 2.0
A, B = 1, 2


class Bench:
    """A rationed engine with one model, whose clock the test turns."""

    def __init__(self, engine: RationedEngine, model: ServedModel, metrics: Metrics) -> None:
        self.engine = engine
        self.model = model
        self.metrics = metrics
        self.now = 1000.0
        self._answers: list[asyncio.Future[Any]] = []

    def ask(self, client: int, rows: int = 1) -> bool:
        """Whether it was accepted."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            self.engine.submit(self.model, {"x": np.ones((rows, 1), "f4")}, rows, 0, answer, None, self.now, 0, client)
        except RateLimited:
            return False
        self._answers.append(answer)
        return True

    async def settled(self) -> None:
        """Whatever became of those that were accepted: what is tested here happens before."""
        await asyncio.wait_for(asyncio.gather(*self._answers, return_exceptions=True), LIMIT_S)

    def refused(self) -> float:
        labels = {"model": MODEL, "version": "1", "reason": "rate_limit"}
        return self.metrics.registry.get_sample_value("ferry_refused_total", labels) or 0.0


def run(folder: Path, scenario: Callable[[Bench], Awaitable[None]], script: Script | None = None) -> None:
    async def main() -> None:
        clock: list[Bench] = []
        now = lambda: clock[0].now if clock else 1000.0  # noqa: E731
        metrics, engine = Metrics(now), RationedEngine(asyncio.get_running_loop(), now, SHARE, BURST_S)
        backend = ScriptedBackend(script or Script(doubled, wait=lambda _: None))
        registry = Registry(folder, Backends({backend.name: backend}), engine, metrics, HeldTokenizer())
        await registry.load_all()
        clock.append(Bench(engine, registry.find(MODEL), metrics))
        await scenario(clock[0])
        await registry.close()

    asyncio.run(main())


def test_a_client_gets_its_share_and_what_it_saved_and_the_next_one_likewise(tmp_path: Path) -> None:
    publish_fake(tmp_path, max_rows=4, batch_s=0.1)

    async def scenario(b: Bench) -> None:
        each_s = cost_s(b.model, 4, 0)
        assert each_s == pytest.approx(0.1 + 100e-6 + REQUEST_S)
        n_saved = int(SHARE * BURST_S / each_s)
        assert [b.ask(A, 4) for _ in range(n_saved + 2)] == [True] * n_saved + [False, False]
        assert b.ask(B, 4), "others have theirs"
        for _ in range(50):
            b.now += each_s / SHARE
            assert b.ask(A, 4)
            assert not b.ask(A, 4)
        b.now += 3600
        assert [b.ask(A, 4) for _ in range(n_saved + 1)] == [True] * n_saved + [False]
        assert b.refused() == 2 + 50 + 1
        await b.settled()

    run(tmp_path, scenario)


def test_the_refusal_names_the_setting_and_says_when_to_come_back(tmp_path: Path) -> None:
    publish_fake(tmp_path, max_rows=4, batch_s=0.4)

    async def scenario(b: Bench) -> None:
        assert b.ask(A, 4)
        with pytest.raises(RateLimited, match=r"client_share = 0.25 .* raise client_share") as caught:
            b.engine.charge(b.model, A, 4, 0)
        assert caught.value.retryable
        wait_s = caught.value.retry_after_s
        assert wait_s == pytest.approx((2 * cost_s(b.model, 4, 0) - SHARE * BURST_S) / SHARE)
        b.now += wait_s - 1e-6
        assert not b.ask(A, 4)
        b.now += 2e-6
        assert b.ask(A, 4)
        await b.settled()

    run(tmp_path, scenario)


def test_what_is_more_than_can_be_saved_is_refused_for_good(tmp_path: Path) -> None:
    publish_fake(tmp_path, max_rows=8, batch_s=0.6)

    async def scenario(b: Bench) -> None:
        with pytest.raises(
            RateLimited, match=r"8 rows for .* saved up to 500 ms\); send fewer rows, or raise client_burst_s"
        ) as caught:
            b.engine.charge(b.model, A, 8, 0)
        assert caught.value.retry_after_s is None
        assert not caught.value.retryable
        assert b.ask(A, 6)
        await b.settled()

    run(tmp_path, scenario)


def test_a_client_that_has_had_its_share_is_refused_unread(tmp_path: Path) -> None:
    publish_fake(tmp_path, max_rows=1, batch_s=0.3)

    async def scenario(b: Bench) -> None:
        assert b.engine.arrival(b.model, b.now, 0, A) == b.now
        assert b.ask(A)
        with pytest.raises(RateLimited):
            b.engine.arrival(b.model, b.now, 0, A)
        assert b.engine.arrival(b.model, b.now, 0, B) == b.now
        assert b.engine.arrival(b.model, b.now) == b.now, "who is not told apart is not rationed"
        assert b.refused() == 1
        await b.settled()

    run(tmp_path, scenario)


def test_instances_share_the_cost_and_longer_rows_cost_more(tmp_path: Path) -> None:
    for name, instances in (("one", 1), ("two", 2)):
        publish_fake(tmp_path / name, max_rows=1, batch_s=0.1, instances=instances, ragged=Ragged("length", 1, 64, {}, True))
    costs: list[float] = []

    async def scenario(b: Bench) -> None:
        costs.append(cost_s(b.model, 1, 64) - REQUEST_S)

    for name in ("one", "two"):
        run(tmp_path / name, scenario)
    assert costs == pytest.approx([0.1001, 0.05005])


def test_several_texts_are_charged_together_or_not_at_all(tmp_path: Path) -> None:
    publish_text(tmp_path, batch_s=0.1, max_rows=1)

    async def scenario(b: Bench) -> None:
        async def ask(n: int) -> Any:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            submit_texts(b.engine, b.model, ["a" * BYTES_PER_TOKEN] * n, False, {0}, answer, None, b.now, 0, A)
            return (await asyncio.wait_for(answer, LIMIT_S))[0]

        with pytest.raises(RateLimited):
            await ask(5)
        assert len(await ask(4)) == 4, "the five that were refused have cost nothing"
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        with pytest.raises(RateLimited):
            submit_ids(b.engine, b.model, [[1]], {0}, answer, None, b.now, 0, A)
        submit_ids(b.engine, b.model, [[1], [2, 3]], {0}, answer, None, b.now, 0, B)
        assert [float(row[0]) for row in (await asyncio.wait_for(answer, LIMIT_S))[0]] == [1.0, 5.0]

    run(tmp_path, scenario, Script(summed, wait=lambda _: None))


def test_no_wait_is_ever_told_that_is_not_one(tmp_path: Path) -> None:
    publish_fake(tmp_path, batch_s=0.3, max_rows=1)

    async def scenario(b: Bench) -> None:
        told = []
        for turn in range(300):
            b.ask(turn % 7 + 1)
            b.now += 0.01
            try:
                b.engine.arrival(b.model, b.now, 0, turn % 7 + 1)
            except RateLimited as error:
                told.append(error.retry_after_s)
        assert len(told) > 100
        assert all(wait_s is not None and 0 < wait_s < inf for wait_s in told)
        await b.settled()

    run(tmp_path, scenario)
