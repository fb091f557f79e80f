"""Every accepted request gets exactly one outcome, its own: cancels, refusals, deadlines, drains, reloads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from server.backends.scripted import Script
from server.errors import NotReady
from tests.server.runtime.scripted_world import LIMIT_S, Client, doubled, publish_fake, values, world


def test_a_client_that_hangs_up_frees_the_queue_and_its_batch_mates_are_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked()
            others = [w.ask(float(n)) for n in range(4)]
            await w.queued(4)
            others[1].hang_up()
            await w.queued(3)
            w.script.release()
            replies = await w.answers([first, *others])
            assert replies[2] is None
            assert [values(reply) for reply in replies if reply] == [[0.0], [0.0], [4.0], [6.0]]
            assert len(w.script.batches[-1]["x"]) == 3
            assert w.sample("ferry_cancelled_total") == 1
            assert w.sample("ferry_in_flight") == 0

    asyncio.run(scenario())


def test_hanging_up_while_the_batch_runs_leaves_the_others_of_the_batch_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked()
            pair = [w.ask(1.0), w.ask(2.0)]
            await w.queued(2)
            w.script.wait = lambda _: w.script.block()  # the first batch closes the gate behind itself
            w.script.release()
            await w.reaches(lambda: len(w.script.batches[-1]["x"]) == 2)
            pair[0].hang_up()
            await w.reaches(lambda: w.sample("ferry_cancelled_total") == 1)
            w.script.wait = lambda _: None
            w.script.release()
            replies = await w.answers([first, *pair])
            assert replies[1] is None
            assert values(replies[2]) == [4.0]

    asyncio.run(scenario())


def test_a_cancelled_task_harms_neither_its_batch_mates_nor_the_engine(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked()
            others = [w.ask(float(n)) for n in range(3)]
            await w.queued(3)
            others[0].task.cancel()
            w.script.release()
            replies = await w.answers([first, *others[1:]])
            assert [values(reply) for reply in replies] == [[0.0], [2.0], [4.0]]
            assert values((await w.answers([w.ask(8.0)]))[0]) == [16.0]
            assert w.sample("ferry_in_flight") == 0

    asyncio.run(scenario())


def test_an_expired_timeout_parameter_is_refused_while_others_wait_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked()
            patient, hasty = w.ask(1.0), w.ask(2.0, timeout_us=50_000)
            (refused,) = await w.answers([hasty])
            assert refused is not None
            assert refused.status == 503
            assert "50 ms" in refused.error
            assert not patient.task.done()
            w.script.release()
            replies = await w.answers([first, patient])
            assert [values(reply) for reply in replies] == [[0.0], [2.0]]
            assert w.sample("ferry_refused_total", reason="deadline") == 1

    asyncio.run(scenario())


def test_a_request_that_cannot_make_it_is_refused_at_once_with_a_computed_retry_after(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, batch_s=2.0, max_rows=1)
        async with world(tmp_path, Script(doubled, wait=lambda _: None)) as w:
            first = await w.blocked()
            queued = w.ask(1.0)
            await w.queued(1)
            (refused,) = await w.answers([w.ask(2.0, timeout_us=3_000_000)])
            assert refused is not None
            assert refused.status == 503
            assert refused.headers["content-type"] == "application/json"
            # The device is free in 2 s, then come 2 s of its own work: 1 s more than it allows and 60 ms for the reply, less what has passed.
            assert 0 < int(refused.headers["retry-after-ms"]) <= 1_062
            assert refused.headers["retry-after"] in ("1", "2")
            w.script.release()
            assert [values(reply) for reply in await w.answers([first, queued])] == [[0.0], [2.0]]

    asyncio.run(scenario())


def test_a_timeout_that_the_profile_can_never_meet_is_refused_without_a_time_to_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, batch_s=0.1)
        async with world(tmp_path, Script(doubled, wait=lambda _: None)) as w:
            (refused,) = await w.answers([w.ask(2.0, timeout_us=1_000)])
            assert refused is not None
            assert refused.status == 503
            assert "retry-after" not in refused.headers
            assert not [batch for batch in w.script.batches if 2.0 in batch["x"]]

    asyncio.run(scenario())


def test_a_full_queue_refuses_and_names_its_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, max_rows=1, batch_s=1.0)
        async with world(tmp_path, Script(doubled, wait=lambda _: None)) as w:
            limit = w.registry.find("fake").limits.queue_rows
            first = await w.blocked()
            # Each is more urgent than those before it, so each is predicted to be in time: only the limit is left.
            accepted = [w.ask(1.0, timeout_us=19_000_000 - 100_000 * n) for n in range(limit)]
            await w.queued(limit)
            (refused,) = await w.answers([w.ask(1.0, timeout_us=5_000_000)])
            assert refused is not None
            assert refused.status == 503
            assert f"{limit} rows waiting" in refused.error
            assert int(refused.headers["retry-after"]) >= 1
            assert w.sample("ferry_refused_total", reason="queue_full") == 1
            w.script.release()
            replies = await w.answers([first, *accepted])
            assert [reply.status for reply in replies if reply] == [200] * (1 + len(accepted))

    asyncio.run(scenario())


def test_closing_answers_everything_that_was_accepted_and_gives_the_memory_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked()
            others = [w.ask(float(n)) for n in range(20)]
            await w.queued(20)
            closing = asyncio.create_task(w.registry.close())
            await asyncio.sleep(0)
            (late,) = await w.answers([w.ask(1.0)])
            assert late is not None
            assert late.status == 503
            w.script.release()
            replies = await w.answers([first, *others])
            await asyncio.wait_for(closing, LIMIT_S)
            assert [values(reply) for reply in replies] == [[0.0], *([2.0 * n] for n in range(20))]
            assert w.script.n_open == 0

    asyncio.run(scenario())


def test_unloading_with_requests_in_flight_answers_them_and_refuses_newcomers(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            first = await w.blocked()
            waiting = w.ask(3.0)
            await w.queued(1)
            unloading = asyncio.create_task(w.registry.unload("fake"))
            await asyncio.sleep(0)
            (late,) = await w.answers([w.ask(1.0)])
            assert late is not None
            assert late.status == 503
            w.script.release()
            assert [values(reply) for reply in await w.answers([first, waiting])] == [[0.0], [6.0]]
            await asyncio.wait_for(unloading, LIMIT_S)
            with pytest.raises(NotReady, match="not loaded"):
                w.registry.find("fake")

    asyncio.run(scenario())


@pytest.mark.parametrize("new_version", [False, True], ids=["reload", "new version"])
def test_replacing_a_version_under_load_loses_no_answer(tmp_path: Path, new_version: bool) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            clients: list[Client] = []
            stop = False

            async def load() -> None:
                while not stop:
                    clients.append(w.ask(float(len(clients))))
                    await asyncio.sleep(0.001)

            loading = asyncio.create_task(load())
            for _ in range(5):
                if new_version:
                    publish_fake(tmp_path)
                await w.registry.load("fake")
            stop = True
            await loading
            replies = await w.answers(clients)
            assert [values(reply) for reply in replies] == [[2.0 * n] for n in range(len(clients))]
            by_version = [reply.json["model_version"] for reply in replies if reply]
            assert by_version == sorted(by_version)
            total = sum(w.sample("ferry_request_seconds_count", version=str(v)) for v in range(1, 7))
            assert total == len(clients) > 5
            assert w.script.n_open == 1

    asyncio.run(scenario())


def test_a_request_whose_body_is_slow_is_answered_by_the_version_that_replaced_the_one_it_began_with(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path)
        async with world(tmp_path) as w:
            go, sent = asyncio.Event(), list[Any]()

            async def receive() -> dict[str, object]:
                await go.wait()
                body = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[4]}]}'
                return {"type": "http.request", "body": body}

            async def send(message: object) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": "/v2/models/fake/infer", "headers": []}
            task = asyncio.create_task(w.infer(scope, receive, send))
            await asyncio.sleep(0)
            publish_fake(tmp_path)
            await w.registry.load("fake")
            go.set()
            await asyncio.wait_for(task, LIMIT_S)
            assert sent[0]["status"] == 200
            assert b'"model_version":"2"' in sent[1]["body"]

    asyncio.run(scenario())


def test_a_fast_model_runs_inline_with_the_same_manners(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, batch_s=1e-5)
        script = Script(doubled, poison=lambda inputs: "unlucky" if 13.0 in inputs["x"] else None)
        async with world(tmp_path, script) as w:
            assert w.registry.find("fake").inline
            replies = await w.answers([w.ask(float(n)) for n in (12, 13, 14)])
            assert [reply.status for reply in replies if reply] == [200, 500, 200]
            w.script.deaths = 1
            lost, served = [(await w.answers([w.ask(5.0)]))[0] for _ in range(2)]
            assert lost is not None
            assert lost.status == 503
            assert values(served) == [10.0]

    asyncio.run(scenario())
