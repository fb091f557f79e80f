"""Texts between arrival and tokens: batched by one thread, cancelled, refused, drained; each gets one outcome, its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from server.backends.base import Array
from server.backends.scripted import Script
from server.contract.text import TextCost
from server.errors import BadRequest, BadText, Refused
from server.runtime.text_stage import read_ids
from tests.server.runtime.scripted_world import LIMIT_S, MODEL, Client, World, values, world
from tests.server.runtime.text_world import HeldTokenizer, body_of, publish_text, right, summed

SLOW = TextCost(0.5, 0.0, 1e-6, 1)
"""Half a second for each text, so the profile says; the tokenizer itself takes none."""


async def held(w: World, tokenizer: HeldTokenizer, text: str = "first") -> Client:
    """Hold the tokenizer with a request, and return it once it is there."""
    tokenizer.gate.clear()
    client = w.post(body_of(text))
    await w.reaches(lambda: tokenizer.calls == [[text]])
    return client


async def n_in_flight(w: World, count: int) -> None:
    await w.reaches(lambda: w.sample("ferry_in_flight") == count)


def found(reply: object) -> Sequence[float]:
    return values(reply)  # type: ignore[arg-type]


def test_texts_that_wait_share_a_batch_on_a_thread_of_its_own_and_one_wake_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            texts = [f"text {n}" for n in range(20)]
            clients = [await held(w, tokenizer), *map(w.post, map(body_of, texts))]
            await n_in_flight(w, 21)
            assert tokenizer.calls == [["first"]]
            tokenizer.gate.set()
            replies = await w.answers(clients)
            assert [found(reply) for reply in replies] == [[right(text)] for text in ("first", *texts)]
            assert tokenizer.calls == [["first"], texts]
            assert tokenizer.threads == {"fake/1: text"}
            assert w.sample("ferry_tokenize_seconds_count") == 21
            assert w.sample("ferry_in_flight") == 0

    asyncio.run(scenario())


def test_rows_of_a_request_come_back_in_order_and_their_lengths_are_what_the_scheduler_sees(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        async with world(tmp_path, Script(summed), HeldTokenizer()) as w:
            texts = ["a", "bb" * 10, "c", "dd" * 11, "eee"]
            before = len(w.script.batches)
            (reply,) = await w.answers([w.post(body_of(*texts))])
            assert found(reply) == [right(text) for text in texts]
            assert reply is not None
            assert reply.json["outputs"][0]["shape"] == [5, 1]
            ran = w.script.batches[before:]
            assert sum(len(batch["ids"]) for batch in ran) == 5
            assert sum(int(batch["mask"].sum()) for batch in ran) == sum(map(len, texts))

    asyncio.run(scenario())


def test_a_batch_is_bounded_by_the_time_that_the_profile_gives_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path, cost=TextCost(1e-3, 0.0, 1e-6, 1))
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            clients = [await held(w, tokenizer), *(w.post(body_of(f"t{n}")) for n in range(8))]
            await n_in_flight(w, 9)
            tokenizer.gate.set()
            await w.answers(clients)
            assert len(tokenizer.calls) > 2
            assert [text for call in tokenizer.calls for text in call] == ["first", *(f"t{n}" for n in range(8))]

    asyncio.run(scenario())


def test_a_client_that_hangs_up_while_its_text_waits_is_cancelled_and_its_text_is_not_tokenised(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            clients = [await held(w, tokenizer), w.post(body_of("gone", "too")), w.post(body_of("stays"))]
            await n_in_flight(w, 4)
            clients[1].hang_up()
            await w.reaches(lambda: w.sample("ferry_cancelled_total") == 2)
            tokenizer.gate.set()
            replies = await w.answers(clients)
            assert replies[1] is None
            assert found(replies[2]) == [right("stays")]
            assert tokenizer.calls == [["first"], ["stays"]]
            assert w.sample("ferry_in_flight") == 0

    asyncio.run(scenario())


def test_hanging_up_while_the_text_is_being_tokenised_leaves_the_others_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            first, other = await held(w, tokenizer), w.post(body_of("other"))
            first.hang_up()
            await w.reaches(lambda: w.sample("ferry_cancelled_total") == 1)
            tokenizer.gate.set()
            replies = await w.answers([first, other])
            assert replies[0] is None
            assert found(replies[1]) == [right("other")]
            assert all(right("first") not in batch["ids"].sum(axis=1) for batch in w.script.batches)

    asyncio.run(scenario())


def test_hanging_up_after_tokenising_takes_the_text_out_of_the_schedulers_queue(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        async with world(tmp_path, Script(summed), HeldTokenizer()) as w:
            w.script.block()
            before = len(w.script.batches)
            first = w.post(body_of("first"))
            await w.reaches(lambda: len(w.script.batches) > before)
            second, third = w.post(body_of("second")), w.post(body_of("third"))
            await w.queued(2)
            second.hang_up()
            await w.queued(1)
            w.script.release()
            replies = await w.answers([first, second, third])
            assert [reply and found(reply) for reply in replies] == [[right("first")], None, [right("third")]]

    asyncio.run(scenario())


def test_a_text_that_cannot_be_tokenised_fails_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            clients = [await held(w, tokenizer), *(w.post(body_of(text)) for text in ("good", "what?", "x" * 40, "fine"))]
            await n_in_flight(w, 5)
            tokenizer.gate.set()
            replies = await w.answers(clients)
            assert [reply.status for reply in replies if reply] == [200, 200, 400, 400, 200]
            assert replies[2] is not None
            assert replies[3] is not None
            assert replies[2].error == "model fake/1: cannot be read"
            assert "the text has 40 tokens, 1 to 32 are possible" in replies[3].error
            assert w.sample("ferry_failed_total", reason="bad_text") == 2
            assert w.sample("ferry_in_flight") == 0

    asyncio.run(scenario())


def test_a_request_fails_as_a_whole_when_one_of_its_texts_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        async with world(tmp_path, Script(summed), HeldTokenizer()) as w:
            (reply,) = await w.answers([w.post(body_of("good", "what?", "fine"))])
            assert reply is not None
            assert (reply.status, reply.error) == (400, "model fake/1: cannot be read")
            await n_in_flight(w, 0)

    asyncio.run(scenario())


def test_a_tokenizer_that_breaks_fails_its_batch_and_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        async with world(tmp_path, Script(summed), HeldTokenizer()) as w:
            (broken,) = await w.answers([w.post(body_of("oh!"))])
            assert broken is not None
            assert (broken.status, broken.error) == (400, "model fake/1: RuntimeError: the tokenizer broke")
            assert found((await w.answers([w.post(body_of("well"))]))[0]) == [right("well")]

    asyncio.run(scenario())


def test_a_text_that_cannot_be_in_time_is_refused_at_once_and_told_when_to_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path, slo_s=1.2, cost=SLOW)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed, wait=lambda _: None), tokenizer) as w:
            first = await held(w, tokenizer)
            second = w.post(body_of("second"))
            await n_in_flight(w, 2)
            late, hopeless = await w.answers([w.post(body_of("third")), w.post(body_of("fourth", timeout=100_000))])
            assert late is not None
            assert hopeless is not None
            assert (late.status, hopeless.status) == (503, 503)
            assert "1200 ms allowed" in late.error
            assert 0 < int(late.headers["retry-after-ms"]) < 1000
            assert "retry-after" not in hopeless.headers
            assert w.sample("ferry_refused_total", reason="deadline") == 2
            tokenizer.gate.set()
            await w.answers([first, second])
            assert w.sample("ferry_in_flight") == 0

    asyncio.run(scenario())


def test_a_text_that_has_become_late_while_it_waited_is_not_tokenised(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            first, hasty = await held(w, tokenizer), w.post(body_of("hasty", timeout=30_000))
            await n_in_flight(w, 2)
            await asyncio.sleep(0.04)
            tokenizer.gate.set()
            replies = await w.answers([first, hasty])
            assert [reply.status for reply in replies if reply] == [200, 503]
            assert tokenizer.calls == [["first"]]

    asyncio.run(scenario())


def test_so_many_texts_may_wait_and_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path, batch_s=1.0, max_rows=1, cost=TextCost(1e-6, 0.0, 1e-6, 1))
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed, wait=lambda _: None), tokenizer) as w:
            limit = w.registry.find(MODEL).limits.queue_rows
            first = await held(w, tokenizer)
            waiting = [w.post(body_of("t")) for _ in range(limit)]
            await n_in_flight(w, limit + 1)
            (refused,) = await w.answers([w.post(body_of("one more"))])
            assert refused is not None
            assert refused.status == 503
            assert f"{limit} rows waiting" in refused.error
            assert w.sample("ferry_refused_total", reason="queue_full") == 1
            for client in waiting:
                client.hang_up()
            await n_in_flight(w, 1)
            tokenizer.gate.set()
            assert found((await w.answers([first]))[0]) == [right("first")]

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["unload", "close", "replace"])
def test_texts_that_wait_while_the_model_goes_are_answered(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            clients = [await held(w, tokenizer), *(w.post(body_of(f"t{n}")) for n in range(5))]
            await n_in_flight(w, 6)
            old = w.registry.find(MODEL)
            going = {"unload": w.registry.unload(MODEL), "close": w.registry.close(), "replace": w.registry.load(MODEL)}
            leaving = asyncio.ensure_future(going.pop(how))
            for other in going.values():
                other.close()
            await w.reaches(lambda: not w.registry.serving or w.registry.find(MODEL) is not old)
            late: asyncio.Future[list[Array]] = asyncio.get_running_loop().create_future()
            w.engine.submit_text(old, "late", False, late)
            with pytest.raises(Refused, match="is being unloaded"):
                await late
            assert not leaving.done()
            tokenizer.gate.set()
            replies = await w.answers(clients)
            await asyncio.wait_for(leaving, LIMIT_S)
            assert [found(reply) for reply in replies] == [[right(text)] for text in ("first", "t0", "t1", "t2", "t3", "t4")]
            assert w.sample("ferry_in_flight") == 0
            if how == "replace":
                assert found((await w.answers([w.post(body_of("new"))]))[0]) == [right("new")]

    asyncio.run(scenario())


def test_a_drain_ends_when_all_that_wait_have_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            clients = [await held(w, tokenizer), w.post(body_of("gone"))]
            await n_in_flight(w, 2)
            leaving = asyncio.create_task(w.registry.unload(MODEL))
            clients[1].hang_up()
            await w.reaches(lambda: w.sample("ferry_cancelled_total") == 1)
            tokenizer.gate.set()
            await asyncio.wait_for(leaving, LIMIT_S)
            assert w.script.n_open == 0

    asyncio.run(scenario())


def test_a_model_that_takes_text_needs_a_tokenizer_library(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        async with world(tmp_path, Script(summed)) as w:
            with pytest.raises(BadRequest, match=r"needs a tokenizer library for tokenizer\.json"):
                await w.registry.load(MODEL)

    asyncio.run(scenario())


def test_ids_are_checked_against_the_models_vocabulary(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        async with world(tmp_path, Script(summed), HeldTokenizer()) as w:
            model = w.registry.find(MODEL)
            assert read_ids(model, [1, 255]).n_tokens == 2
            with pytest.raises(BadText, match="0 to 255"):
                read_ids(model, [256])

    asyncio.run(scenario())
