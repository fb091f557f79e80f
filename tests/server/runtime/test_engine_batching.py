"""The engine over a fake device: who shares a batch, whose failure is whose."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np

from server.backends.scripted import Script
from server.contract.manifest import Ragged
from tests.server.runtime.scripted_world import doubled, publish_fake, values, world


def test_requests_that_arrive_while_the_device_is_busy_share_the_next_batch(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked(100.0)
            others = [w.ask(float(n)) for n in range(5)]
            await w.queued(5)
            w.script.release()
            replies = await w.answers([first, *others])
            assert [values(reply) for reply in replies] == [[200.0], *([2.0 * n] for n in range(5))]
            sizes = [len(batch["x"]) for batch in w.script.batches]
            assert sizes[-2:] == [1, 5]

    asyncio.run(scenario())


def test_several_instances_run_side_by_side(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, instances=3)
        async with world(tmp_path) as w:
            w.script.block()
            before = len(w.script.batches)
            clients = []
            for n in range(3):
                clients.append(w.ask(float(n)))
                await w.reaches(lambda n=n: len(w.script.batches) == before + n + 1)  # type: ignore[misc]
            w.script.release()
            assert [values(reply) for reply in await w.answers(clients)] == [[0.0], [2.0], [4.0]]

    asyncio.run(scenario())


def test_one_poisoned_request_fails_alone_and_its_batch_mates_get_their_own_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        script = Script(doubled, poison=lambda inputs: "thirteen is unlucky" if 13.0 in inputs["x"] else None)
        async with world(tmp_path, script) as w:
            first = await w.blocked()
            others = [w.ask(float(n)) for n in (11, 12, 13, 14, 15)]
            await w.queued(5)
            w.script.release()
            replies = await w.answers([first, *others])
            bad = replies[3]
            assert bad is not None
            assert bad.status == 500
            assert "thirteen is unlucky" in bad.error
            good = replies[:3] + replies[4:]
            assert [values(reply) for reply in good] == [[0.0], [22.0], [24.0], [28.0], [30.0]]
            assert w.sample("ferry_failed_total", reason="model_error") == 1
            assert w.sample("ferry_in_flight") == 0

    asyncio.run(scenario())


def test_wrong_rows_are_an_error_of_the_request_that_provokes_them(tmp_path: Path) -> None:
    def answer(inputs: object) -> list[np.ndarray]:
        out = doubled(inputs)[0]
        return [out[:-1] if 13.0 in out / 2 else out]

    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path, Script(answer)) as w:
            first = await w.blocked()
            others = [w.ask(float(n)) for n in (12, 13, 14)]
            await w.queued(3)
            w.script.release()
            replies = await w.answers([first, *others])
            assert [reply.status for reply in replies if reply] == [200, 200, 500, 200]
            assert replies[2] is not None
            assert "'y' came back as [0, 1] for a batch of 1 rows" in replies[2].error
            assert values(replies[3]) == [28.0]

    asyncio.run(scenario())


def test_a_missing_output_and_a_wrong_rank_are_errors_of_the_batch_not_of_the_instance(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            w.script.answer = lambda _: []
            (reply,) = await w.answers([w.ask(1.0)])
            assert reply is not None
            assert (reply.status, "returned 0 outputs" in reply.error) == (500, True)
            w.script.answer = lambda inputs: [inputs["x"][:, 0]]
            (reply,) = await w.answers([w.ask(1.0)])
            assert reply is not None
            assert (reply.status, "came back as [1]" in reply.error) == (500, True)

    asyncio.run(scenario())


def test_a_dying_instance_fails_its_batch_with_a_retryable_error_and_a_new_one_serves(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked()
            waiting = w.ask(5.0)
            await w.queued(1)
            w.script.deaths = 1
            w.script.release()
            lost, served = await w.answers([first, waiting])
            assert lost is not None
            assert lost.status == 503
            assert "died" in lost.error
            assert values(served) == [10.0]
            assert w.sample("ferry_failed_total", reason="instance_lost") == 1
            assert w.sample("ferry_in_flight") == 0

    asyncio.run(scenario())


def test_an_instance_that_dies_while_draining_is_replaced_until_everything_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked()
            waiting = [w.ask(float(n)) for n in range(3)]
            await w.queued(3)
            w.script.deaths = 1
            unloading = asyncio.create_task(w.registry.unload("fake"))
            await asyncio.sleep(0)
            w.script.release()
            replies = await w.answers([first, *waiting])
            await asyncio.wait_for(unloading, 20)
            assert [reply.status for reply in replies if reply] == [503, 200, 200, 200]
            assert w.script.n_open == 0

    asyncio.run(scenario())


def test_padding_joins_lengths_and_is_cut_off_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, ragged=Ragged("length", 1, 8, {"x": -1.0}, mixes=True))
        async with world(tmp_path) as w:
            first = await w.blocked_ragged()
            short, long = w.ask(1.0, 2.0, width=2), w.ask(*range(1, 9), width=8)
            await w.queued(2)
            w.script.release()
            _, a, b = await w.answers([first, short, long])
            assert (values(a), values(b)) == ([2.0, 4.0], [2.0 * n for n in range(1, 9)])
            together = [batch["x"] for batch in w.script.batches if len(batch["x"]) == 2]
            assert [array.tolist() for array in together] == [[[1, 2, -1, -1, -1, -1, -1, -1], [1, 2, 3, 4, 5, 6, 7, 8]]]

    asyncio.run(scenario())


def test_lengths_that_must_not_mix_never_do(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, ragged=Ragged("length", 1, 8, {}, mixes=False))
        async with world(tmp_path) as w:
            first = await w.blocked_ragged()
            before = len(w.script.batches)
            clients = [w.ask(*([1.0] * width), width=width) for width in (2, 3, 2, 3)]
            await w.queued(4)
            w.script.release()
            await w.answers([first, *clients])
            assert sorted(batch["x"].shape for batch in w.script.batches[before:]) == [(2, 2), (2, 3)]

    asyncio.run(scenario())
