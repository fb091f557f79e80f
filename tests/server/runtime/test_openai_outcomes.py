"""/v1/embeddings over a scripted model: refused under load, cancelled with its client, several inputs as one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from server.api.disconnects import DisconnectWatch
from server.api.openai_routes import OpenAiRoutes
from server.backends.scripted import Script
from tests.child_server import Reply
from tests.server.runtime.scripted_world import MODEL, World, world
from tests.server.runtime.text_world import HeldTokenizer, publish_text, right, summed


async def _no(*_: Any) -> None:
    raise AssertionError("not a path under /v1")


def post(w: World, gone: asyncio.Event | None = None, **fields: Any) -> asyncio.Task[Reply | None]:
    """One request for embeddings; None when nothing was answered."""
    loop = asyncio.get_running_loop()
    routes = OpenAiRoutes(w.engine, w.registry, DisconnectWatch(loop), 1 << 20, _no)
    body = json.dumps({"model": MODEL, **fields}).encode()
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    sent: list[Any] = []

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> Reply | None:
        await routes({"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": []}, receive, send)
        if not sent:
            return None
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], headers, sent[1]["body"])

    return loop.create_task(run())


def test_each_input_is_a_request_of_its_own_and_they_share_batches(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        async with world(tmp_path, Script(summed), HeldTokenizer()) as w:
            texts = [f"text {n}" for n in range(12)]
            reply = await post(w, input=texts)
            assert reply is not None
            assert [entry["embedding"] for entry in reply.json["data"]] == [[right(text)] for text in texts]
            assert w.sample("ferry_request_seconds_count") == 12
            assert w.sample("ferry_batch_rows_count") < 12

    asyncio.run(scenario())


def test_under_load_a_refusal_is_a_429_that_says_when_to_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path, slo_s=5.0, batch_s=2.0, max_rows=1)
        async with world(tmp_path, Script(summed, wait=lambda _: None), HeldTokenizer()) as w:
            w.script.block()
            before = len(w.script.batches)
            first = post(w, input="first")
            await w.reaches(lambda: len(w.script.batches) > before)
            second = post(w, input="second")
            await w.queued(1)
            refused = await post(w, input="third")
            assert refused is not None
            assert (refused.status, refused.json["error"]["code"]) == (429, "deadline")
            assert refused.headers["x-should-retry"] == "true"
            assert 0 < int(refused.headers["retry-after-ms"]) <= 2000
            w.script.release()
            assert [reply.status for reply in await asyncio.gather(first, second) if reply] == [200, 200]

    asyncio.run(scenario())


def test_more_inputs_than_could_ever_be_in_time_are_a_400_that_says_how_many_can(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path, slo_s=5.0, batch_s=1.0, max_rows=2)
        async with world(tmp_path, Script(summed, wait=lambda _: None), HeldTokenizer()) as w:
            reply = await post(w, input=["t"] * 11)
            assert reply is not None
            assert (reply.status, reply.json["error"]["code"]) == (400, "too_many_inputs")
            assert "send at most 10 at a time" in reply.json["error"]["message"]

    asyncio.run(scenario())


def test_a_client_that_hangs_up_takes_all_its_inputs_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            tokenizer.gate.clear()
            gone = asyncio.Event()
            task = post(w, gone, input=["a", "b", "c"])
            await w.reaches(lambda: len(tokenizer.calls) == 1)
            gone.set()
            assert await task is None
            assert w.sample("ferry_cancelled_total") == 3
            tokenizer.gate.set()
            assert w.sample("ferry_in_flight") == 0

    asyncio.run(scenario())


def test_one_bad_input_fails_the_request_and_the_others_are_taken_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        async with world(tmp_path, Script(summed), HeldTokenizer()) as w:
            reply = await post(w, input=["a", "what?", "c"])
            assert reply is not None
            assert (reply.status, reply.json["error"]["param"]) == (400, "input")
            await w.reaches(lambda: w.sample("ferry_in_flight") == 0)

    asyncio.run(scenario())


def test_token_ids_go_past_the_tokenizer(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_text(tmp_path)
        tokenizer = HeldTokenizer()
        async with world(tmp_path, Script(summed), tokenizer) as w:
            reply = await post(w, input=[[1, 2, 3], [9]])
            assert reply is not None
            assert [entry["embedding"] for entry in reply.json["data"]] == [[6.0], [9.0]]
            assert reply.json["usage"]["prompt_tokens"] == 4
            assert tokenizer.calls == []

    asyncio.run(scenario())
