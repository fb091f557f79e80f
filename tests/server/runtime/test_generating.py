"""Models that generate, through registry, engine, scheduler and a real (tiny) decoder: every client gets its own answer and one outcome."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import pytest

pytest.importorskip("onnx")

from server.contract.wants import Wants
from server.errors import BadRequest, InstanceLost, NotReady, Refused, TooLong
from server.generation.options import Finish, Sampling
from server.recording.file import Header, pieces, read
from server.recording.replay import first_difference
from server.recording.story import tell
from server.recording.telling import story_lines
from tests.decoders import TinyDecoder, publish_decoder, step_profile
from tests.server.runtime.generating_world import Client, generating_world, prompt

TINY = TinyDecoder()
WANTS = Wants(30.0, gap_s=30.0, slots=3)


@cache
def alone(length: int, seed: int, n_new: int) -> list[int]:
    """By NumPy's calculation."""
    return TINY.greedy(prompt(length, seed), n_new)


def test_an_answer_comes_token_by_token(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path)
        async with generating_world(tmp_path) as w:
            client = w.ask(prompt(20, 1), 12)
            await w.over(client)
            assert client.tokens == alone(20, 1, 12)
            assert (client.finish, client.n_cached) == (Finish.LENGTH, 0)
            w.check()

    asyncio.run(scenario())


def test_an_id_that_ends_answers_is_the_last_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        end = alone(20, 1, 5)[4]
        n_tokens = alone(20, 1, 5).index(end) + 1
        publish_decoder(tmp_path, tiny=replace(TINY, ends=(end,)))
        async with generating_world(tmp_path) as w:
            stops, ignores = w.ask(prompt(20, 1), 12, Sampling(temperature=0.0)), w.ask(prompt(20, 1), 12)
            await w.over(stops, ignores)
            assert (stops.finish, stops.tokens) == (Finish.STOP, alone(20, 1, 12)[:n_tokens])
            assert (ignores.finish, ignores.tokens) == (Finish.LENGTH, alone(20, 1, 12))
            w.check()

    asyncio.run(scenario())


@pytest.mark.parametrize(("seed", "instances"), [(1, 1), (2, 1), (3, 2)])
def test_random_joins_chunks_and_cancels(tmp_path: Path, seed: int, instances: int) -> None:
    """Each whole answer is the one that it gets alone, each other one a beginning of it; nobody leaks a slot."""

    async def scenario() -> None:
        rnd = random.Random(seed)
        for length, number in product((3, 64, 70, 150), range(3)):
            alone(length, number, 30)  # now, for it would hold up the event loop
        wants = replace(WANTS, slots=4)
        publish_decoder(tmp_path, wants=wants, steps=step_profile(TINY, instances=instances))
        asked: list[tuple[Client, list[int]]] = []
        async with generating_world(tmp_path) as w:

            async def one() -> None:
                await asyncio.sleep(rnd.random() * 0.3)
                length, number, n_new = rnd.choice((3, 64, 70, 150)), rnd.randrange(3), rnd.choice((1, 8, 30))
                client = w.ask(prompt(length, number), n_new)
                asked.append((client, alone(length, number, 30)[:n_new]))
                if rnd.random() < 1 / 3:
                    await asyncio.sleep(
                        rnd.choice((0.0, 0.05)) * rnd.random()
                    )  # some before their first step, whatever it takes
                    w.stop(client)
                else:
                    await w.over(client)

            await asyncio.gather(*(one() for _ in range(60)))
            for client, expected in asked:
                if client.is_stopped:
                    assert client.tokens == expected[: len(client.tokens)]
                else:
                    assert (client.tokens, client.error) == (expected, None)
            await w.reaches(lambda: w.sample("ferry_slots_used") == 0)
            w.check()
            assert w.sample("ferry_slots") == 4 * instances
            assert w.sample("ferry_cancelled_total") == sum(client.is_stopped for client, _ in asked) > 0
            assert w.sample("ferry_prefix_hits_total") > 0

    asyncio.run(scenario())


def test_everybody_is_cancelled(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path, wants=WANTS)
        async with generating_world(tmp_path) as w:
            clients = [w.ask(prompt(100, n), 100) for n in range(10)]
            await w.reaches(lambda: any(client.tokens for client in clients))
            for client in clients:
                w.stop(client)
                w.stop(client)
            await w.reaches(lambda: w.sample("ferry_slots_used") == 0)
            w.check()
            last = w.ask(prompt(20, 1), 5)
            await w.over(last)
            assert last.tokens == alone(20, 1, 5)
            assert w.sample("ferry_cancelled_total") == 10

    asyncio.run(scenario())


def test_a_text_that_ends_an_answer_ends_it_whole(tmp_path: Path) -> None:
    """Even by its last token, and from within the sink."""

    async def scenario() -> None:
        publish_decoder(tmp_path)
        async with generating_world(tmp_path) as w:
            for stop_at in (3, 8):
                client = w.ask(prompt(20, 1), 8)
                client.at_token = lambda n, one=client, at=stop_at: w.stop(one, Finish.STOP) if n == at else None  # type: ignore[misc]
                await w.reaches(lambda one=client: one.is_stopped)  # type: ignore[misc]
                assert client.tokens == alone(20, 1, stop_at)
            await w.reaches(lambda: w.sample("ferry_slots_used") == 0)
            w.check()
            assert w.sample("ferry_cancelled_total") == 0
            assert w.sample("ferry_request_seconds_count") == 2

    asyncio.run(scenario())


def test_a_known_beginning_is_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path)
        async with generating_world(tmp_path) as w:
            for n_cached in (0, 128):
                client = w.ask(prompt(150, 1), 6)
                await w.over(client)
                assert (client.tokens, client.n_cached) == (alone(150, 1, 6), n_cached)
            assert w.sample("ferry_prompt_tokens_total") == 300
            assert w.sample("ferry_known_prompt_tokens_total") == 128
            assert w.sample("ferry_generated_tokens_total") == 12
            assert w.sample("ferry_first_token_seconds_count") == 2
            assert w.sample("ferry_token_gap_seconds_count") == 10

    asyncio.run(scenario())


def test_who_samples_gets_the_same_in_company(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path, wants=WANTS)
        options = Sampling(seed=5, top_k=20, logprobs=2, ends=False)
        async with generating_world(tmp_path) as w:
            first = w.ask(prompt(30, 1), 20, options)
            await w.over(first)
            others = [w.ask(prompt(40, n), 25) for n in range(4)]
            again = w.ask(prompt(30, 1), 20, options)
            await w.over(again, *others)
            assert again.tokens == first.tokens
            w.check()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("nothing", "reason"),
    [
        (Sampling(at_least=5, bias=dict.fromkeys(range(TINY.vocabulary), float("-inf"))), "forbid every token"),
        (Sampling(bias={2**70: 1.0}), "bias must map ids to numbers"),
    ],
)
def test_an_impossible_request_fails_alone(tmp_path: Path, nothing: Sampling, reason: str) -> None:
    """At its first token, or before it has a slot."""

    async def scenario() -> None:
        publish_decoder(tmp_path, wants=WANTS)
        async with generating_world(tmp_path) as w:
            good = [w.ask(prompt(20, n), 20) for n in range(2)]
            bad = w.ask(prompt(20, 9), 20, nothing)
            await w.over(bad, *good)
            assert bad.error is not None
            assert reason in str(bad.error)
            assert [client.tokens for client in good] == [alone(20, n, 20) for n in range(2)]
            w.check()
            assert w.sample("ferry_failed_total") == 1

    asyncio.run(scenario())


def test_an_instance_that_dies_fails_its_residents_and_comes_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path, wants=WANTS)
        async with generating_world(tmp_path) as w:
            residents = [w.ask(prompt(20, n), 200) for n in range(3)]
            waits = w.ask(prompt(20, 4), 5)
            await w.reaches(lambda: all(len(client.tokens) > 2 for client in residents))
            w.backend.loaded[0].dies = True
            await w.over(*residents, waits)
            for client in residents:
                assert isinstance(client.error, InstanceLost)
                assert client.error.retryable
            assert waits.tokens == alone(20, 4, 5)
            w.check()
            assert w.model.stats.outcomes.instances_lost == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("length", "n_new", "reason"),
    [
        (
            250,
            7,
            "the prompt's 250 tokens and 7 new ones are 257, but model tiny/1 takes 256 in all; shorten the prompt, or ask",
        ),
        (300, 1, "the prompt's 300 tokens and 1 new ones are 301, but model tiny/1 takes 256 in all"),
    ],
)
def test_a_request_that_never_fits_is_told_why(tmp_path: Path, length: int, n_new: int, reason: str) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path)
        async with generating_world(tmp_path) as w:
            client = w.ask(prompt(length, 1), n_new)
            await w.over(client)
            assert isinstance(client.error, TooLong)
            assert (client.error.status, client.error.retryable) == (400, False)
            assert str(client.error).startswith(reason)
            w.check()

    asyncio.run(scenario())


def test_a_request_that_breaks_the_gap_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path, wants=Wants(30.0, gap_s=0.5), steps=step_profile(TINY, step_s=1.0))
        async with generating_world(tmp_path) as w:
            client = w.ask(prompt(20, 1), 5)
            await w.over(client)
            assert isinstance(client.error, TooLong)
            assert "cannot give a token each 500 ms" in str(client.error)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("timeout_s", "reason"),
    [
        (
            None,
            "take model tiny/1 2000 ms even alone, more than the 1000 ms until the first token that its SLO allows; shorten",
        ),
        (
            0.5,
            "take model tiny/1 2000 ms even alone, more than the 500 ms until the first token that the request's timeout allows",
        ),
    ],
)
def test_a_prompt_that_cannot_be_read_in_time_is_told_so(tmp_path: Path, timeout_s: float | None, reason: str) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path, wants=Wants(1.0, gap_s=30.0), steps=step_profile(TINY, step_s=1.0))
        async with generating_world(tmp_path) as w:
            client = w.ask(prompt(128, 1), 5, timeout_s=timeout_s)
            await w.over(client)
            assert isinstance(client.error, TooLong)
            assert reason in str(client.error)
            assert w.sample("ferry_refused_total") == 1

    asyncio.run(scenario())


def test_refusals_say_when_to_come_back(tmp_path: Path) -> None:
    """A first token that cannot be in time behind all that waits."""

    async def scenario() -> None:
        publish_decoder(tmp_path, wants=Wants(2.0, gap_s=30.0, slots=1), steps=step_profile(TINY, step_s=0.5))
        async with generating_world(tmp_path) as w:
            clients = [w.ask(prompt(64, n), 100) for n in range(30)]
            await w.reaches(lambda: any(client.error for client in clients))
            refused = [client.error for client in clients if client.error]
            assert all(isinstance(error, Refused) for error in refused)
            assert any((error.retry_after_s or 0) > 0 for error in refused)
            assert "would give its first token later than the 2000 ms that its SLO allows" in str(refused[0])
            for client in clients:
                w.stop(client)
            await w.reaches(lambda: w.sample("ferry_slots_used") == 0)
            w.check()

    asyncio.run(scenario())


def test_a_reload_has_no_gap_and_answers_end_where_they_began(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path, wants=WANTS)
        async with generating_world(tmp_path) as w:
            client = w.ask(prompt(20, 1), 200)
            await w.reaches(lambda: bool(client.tokens))
            publish_decoder(tmp_path, wants=WANTS)
            old = w.model
            load = asyncio.create_task(w.registry.load("tiny"))
            await w.reaches(lambda: w.model is not old)
            other = w.ask(prompt(20, 2), 5)
            too_late = w.ask(prompt(20, 3), 5, model=old)
            await w.over(client, other, too_late)
            await load
            assert client.tokens == alone(20, 1, 200)
            assert other.tokens == alone(20, 2, 5)
            assert too_late.error is not None
            assert "is being unloaded" in str(too_late.error)
            assert w.model.key.version == 2

    asyncio.run(scenario())


def test_lists_and_finders_know_both_kinds(tmp_path: Path) -> None:
    async def scenario() -> None:
        publish_decoder(tmp_path)
        async with generating_world(tmp_path) as w:
            assert w.registry.ready
            assert [model.key.name for model in w.registry.served] == ["tiny"]
            assert w.registry.serving == []
            assert w.registry.find_served("tiny") is w.model
            with pytest.raises(BadRequest, match="generates text: ask it with /v1/completions"):
                w.registry.find("tiny")
            client = w.ask(prompt(20, 1), 3)
            await w.over(client)
            told = w.model.stats.to_json()
            assert (told["inference_count"], told["execution_count"]) == (1, 3)
            await w.registry.unload("tiny")
            with pytest.raises(NotReady):
                w.registry.find_generating("tiny")

    asyncio.run(scenario())


def test_what_happened_can_be_replayed(tmp_path: Path) -> None:
    """The ring holds what the scheduler was told; it decides the same from it, and tells the story."""

    async def scenario() -> None:
        publish_decoder(tmp_path, wants=WANTS)
        async with generating_world(tmp_path) as w:
            clients = [w.ask(prompt(150, n % 2), 10) for n in range(5)]
            await w.over(*clients)
            header = Header("0", "test", 0.0, 0, 0.0)
            recording = read(b"".join(pieces(header, w.engine.ring.chunks())))
            assert first_difference(recording) is None
            lines = [list(story_lines(tell(recording, number), header)) for number in (1, 5)]
            assert lines[0][0] == "request 1: a prompt of 150 tokens and up to 10 new ones for tiny/1"
            assert any("its last token, of 10" in line for line in lines[0])
            assert any("128 tokens of its prompt were kept there" in line for line in lines[1])

    asyncio.run(scenario())
