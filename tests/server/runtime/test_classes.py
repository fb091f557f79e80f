"""Classes of requests from the wire to the device: who goes first, within which time, and who is refused unread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.backends.scripted import Script
from server.contract.classes import Classes, ServiceClass
from server.contract.text import TextCost
from server.runtime.clock import monotonic_clock
from tests.server.runtime.scripted_world import LIMIT_S, MODEL, Client, World, doubled, publish_fake, values, world
from tests.server.runtime.text_world import HeldTokenizer, body_of, publish_text, summed

Ask = Callable[[World, float, int], Client]


def body(value: float, **parameters: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [value]}], "parameters": parameters}


def by_number(w: World, value: float, priority: int) -> Client:
    return w.post(body(value, priority=priority))


def by_name(w: World, value: float, priority: int) -> Client:
    return w.post(body(value, priority=("normal", "high", "normal", "low")[priority]))


def by_header(w: World, value: float, priority: int) -> Client:
    return w.post(body(value), headers={"x-request-priority": str(priority)})


@pytest.mark.parametrize("ask", [by_number, by_name, by_header])
def test_the_more_urgent_class_goes_first_whoever_came_first(tmp_path: Path, ask: Ask) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, max_rows=1)
        async with world(tmp_path, Script(doubled, wait=lambda _: None)) as w:
            first = [await w.blocked(), ask(w, 0.0, 1)]
            await w.queued(1)  # the one that may be formed ahead
            clients = []
            for n, priority in enumerate((3, 3, 0, 2, 1, 1)):
                clients.append(ask(w, 10.0 * priority + n, priority))
                await w.queued(n + 2)
            before = len(w.script.batches)
            w.script.release()
            await w.answers([*first, *clients])
            ran = [float(batch["x"][0, 0]) for batch in w.script.batches[before:]]
            assert ran[-6:] == [14.0, 15.0, 2.0, 23.0, 30.0, 31.0]

    asyncio.run(scenario())


PATIENT = Classes((ServiceClass("now", 1.5), ServiceClass("patient", LIMIT_S, True)), 1)


def test_a_class_is_refused_by_its_own_slo_and_told_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, slo_s=1.5, batch_s=1.0, max_rows=1, classes=PATIENT)
        async with world(tmp_path, Script(doubled, wait=lambda _: None)) as w:
            first = await w.blocked()
            patient = by_number(w, 2.0, 2)
            await w.queued(1)
            (late,) = await w.answers([by_number(w, 1.0, 1)])
            assert late is not None
            assert late.status == 503
            assert "1500 ms allowed by its SLO; send fewer requests, raise the SLO" in late.error
            (late,) = await w.answers([w.post(body(1.0, priority=2, timeout=1_700_000))])
            assert late is not None
            assert "1700 ms allowed by the request's timeout" in late.error
            w.script.release()
            assert [values(reply) for reply in await w.answers([first, patient])] == [[0.0], [4.0]]

    asyncio.run(scenario())


def test_who_is_refused_unread_is_judged_by_his_own_class(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, slo_s=3.5, batch_s=1.0, max_rows=1)
        async with world(tmp_path, Script(doubled, wait=lambda _: None)) as w:
            first = await w.blocked()
            others = [w.ask(1.0), w.ask(2.0)]
            await w.queued(2)
            model, now = w.registry.find(MODEL), monotonic_clock()
            told = [w.engine.crowded_out(model, now, priority) for priority in (0, 1, 2, 3)]
            assert [error is None for error in told] == [False, True, False, False]
            replies = await w.answers([by_number(w, 3.0, 3), w.ask(4.0), by_header(w, 5.0, 3)])
            assert [reply.status for reply in replies if reply] == [503, 503, 503]
            urgent = by_number(w, 6.0, 1)
            await w.queued(3)
            w.script.release()
            assert [values(reply) for reply in await w.answers([first, *others, urgent])] == [[0.0], [2.0], [4.0], [12.0]]

    asyncio.run(scenario())


def test_a_request_that_waited_to_be_read_has_the_time_of_its_class(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, slo_s=1.5, classes=PATIENT)
        async with world(tmp_path) as w:
            model = w.registry.find(MODEL)
            assert w.engine.late_s(model, 2.0) > 0
            assert w.engine.late_s(model, 2.0, 1) > 0
            assert w.engine.late_s(model, 2.0, 2) < 0
            now = monotonic_clock()
            assert w.engine.arrival(model, now - 2.0, 2) == now - 2.0

    asyncio.run(scenario())


def test_models_with_and_without_classes_of_their_own_are_equals_by_default(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_fake(tmp_path, "plain")
        publish_fake(tmp_path, "declared", slo_s=1.5, classes=PATIENT)
        async with world(tmp_path) as w:
            for name, urgencies in (("plain", [0, -1, 0, 1]), ("declared", [0, 0, 1])):
                model = w.registry.find(name)
                x = {"x": doubled({"x": 1})[0]}
                answers = [asyncio.get_running_loop().create_future() for _ in urgencies]
                found = [w.engine.submit(model, x, 1, 0, answer, None, None, n) for n, answer in enumerate(answers)]
                assert [request.priority for request in found] == urgencies
                for request, answer in zip(found, answers, strict=True):
                    w.engine.cancel(request)
                    assert answer.exception() is not None

    asyncio.run(scenario())


def test_texts_get_their_tokens_by_class_and_so_does_the_scheduler(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path, cost=TextCost(0.5, 0.0, 1e-6, 1), max_rows=1)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed, wait=lambda _: None), tokenizer) as w:
            tokenizer.gate.clear()
            clients = [w.post(body_of("first"))]
            await w.reaches(lambda: tokenizer.calls == [["first"]])
            for text, priority in (("low", 3), ("usual", 0), ("urgent", 1), ("urgent too", 1)):
                clients.append(w.post(body_of(text, priority=priority)))
                await w.reaches(lambda: w.sample("ferry_in_flight") == len(clients))
            tokenizer.gate.set()
            await w.answers(clients)
            assert tokenizer.calls == [["first"], ["urgent"], ["urgent too"], ["usual"], ["low"]]

    asyncio.run(scenario())


def test_an_urgent_text_is_not_refused_for_those_it_overtakes(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path, slo_s=1.2, cost=TextCost(0.5, 0.0, 1e-6, 1))
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed, wait=lambda _: None), tokenizer) as w:
            tokenizer.gate.clear()
            first = w.post(body_of("first"))
            await w.reaches(lambda: tokenizer.calls == [["first"]])
            second = w.post(body_of("second"))
            await w.reaches(lambda: w.sample("ferry_in_flight") == 2)
            (low,) = await w.answers([w.post(body_of("third", priority=3))])
            assert low is not None
            assert low.status == 503
            urgent = w.post(body_of("fourth", priority=1))
            await w.reaches(lambda: w.sample("ferry_in_flight") == 3)
            tokenizer.gate.set()
            replies = await w.answers([first, second, urgent])
            assert replies[2] is not None
            assert replies[2].status == 200

    asyncio.run(scenario())
