"""Steps on a real (tiny) decoder: each request gets what it gets alone, by NumPy's calculation, however the scheduler joins and cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from server.backends.base import Array, BatchError
from server.backends.decoding import Decoder, Row
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.core.types import Chunk, GenerateRequest, Iteration, ModelKey
from server.generation.asked import Asked, Asking
from server.generation.options import Finish, Sampling
from server.generation.stepper import Stepped, Stepper
from tests.decoders import TinyDecoder, write_decoder
from tests.server.generation.test_sampler import Only

TINY = TinyDecoder()
KEY = ModelKey("m", 1)
GREEDY = Sampling(temperature=0.0, ends=False)
SLOTS = 4


class Silent:
    def began(self, n_cached: int, scores: object) -> None: ...
    def token(self, token: int, logprob: object) -> None: ...
    def ended(self, why: Finish) -> None: ...
    def failed(self, error: Exception) -> None: ...


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("decoder"), TINY)


@pytest.fixture
def decoder(folder: Path) -> Iterator[Decoder]:
    made = OnnxDecoderBackend().load(folder, TINY.generation, SLOTS, threads=1)
    yield made
    made.close()


def prompt(length: int, seed: int = 0) -> Array:
    made: Array = np.random.default_rng(seed).integers(1, TINY.vocabulary, length)
    return made


@pytest.fixture(params=["when told", "goes on"], autouse=True)
def goes_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that anybody gets depends on when it was decoded."""
    monkeypatch.setattr(Scene, "goes_on", request.param == "goes on")


class Scene:
    """Plays the scheduler, and the instance that goes on after each step."""

    goes_on = False

    def __init__(self, decoder: Decoder, ends: Sequence[int] = TINY.ends) -> None:
        self.stepper = Stepper(decoder, ends, 64)
        self.n_steps = 0
        self.tokens: dict[int, list[int]] = {}

    def ask(self, number: int, ids: Array, new_tokens: int = 40, sampling: Sampling = GREEDY) -> Asking:
        self.tokens[number] = []
        payload = Asked(ids, sampling, Silent(), 1.0)
        return GenerateRequest(number, KEY, 1, len(ids), 0.0, 1.0, payload, new_tokens=new_tokens)

    def step(self, *parts: Asking | Chunk[Asked]) -> Stepped:
        self.n_steps += 1
        decode = tuple(one for one in parts if isinstance(one, GenerateRequest))
        chunks = tuple(one for one in parts if isinstance(one, Chunk))
        stepped = self.stepper.step(Iteration(self.n_steps, KEY, 0, decode, chunks, 0, 0.0))
        for got in stepped.got:
            self.tokens[got.request.id].append(got.token)
        if self.goes_on:
            self.stepper.go_on()
        return stepped


def whole(request: Asking) -> Chunk[Asked]:
    return Chunk(request, 0, request.length)


def test_each_gets_what_it_gets_alone_whoever_joins_and_leaves(decoder: Decoder) -> None:
    scene = Scene(decoder)
    a, b, c = (scene.ask(n, prompt(length, n)) for n, length in enumerate((10, 100, 150)))
    scene.step(whole(a))
    scene.step(a, Chunk(b, 0, 64))
    scene.step(a, Chunk(b, 64, 100), Chunk(c, 0, 128))
    scene.step(a, b, Chunk(c, 128, 150))
    for _ in range(5):
        scene.step(a, b, c)
    scene.stepper.release([a])
    for _ in range(5):
        scene.step(b, c)
    for request in (a, b, c):
        tokens = scene.tokens[request.id]
        assert tokens == TINY.greedy(request.payload.ids.tolist(), len(tokens))
    assert [len(scene.tokens[one]) for one in range(3)] == [9, 12, 11]


def test_says_what_a_step_did(decoder: Decoder) -> None:
    scene = Scene(decoder)
    a, b = scene.ask(1, prompt(10)), scene.ask(2, prompt(100, 1))
    first = scene.step(whole(a), Chunk(b, 0, 64))
    assert [got.request for got in first.got] == [a]
    assert (first.n_rows, first.n_read, first.n_slots, first.n_kept) == (0, 74, 2, 74)
    second = scene.step(a, Chunk(b, 64, 100))
    assert {got.request for got in second.got} == {a, b}
    assert (second.n_rows, second.n_read, second.n_slots, second.n_kept) == (1, 36, 2, 110)


def test_an_answer_ends_at_its_length(decoder: Decoder) -> None:
    scene = Scene(decoder)
    one = scene.ask(1, prompt(10), new_tokens=2)
    assert scene.step(whole(one)).got[0].finish is None
    assert scene.step(one).got[0].finish is Finish.LENGTH


def test_an_answer_ends_at_an_id_that_ends_answers_unless_that_is_ignored(decoder: Decoder) -> None:
    tokens = TINY.greedy(prompt(10).tolist(), 3)
    for ends, finish in ((True, Finish.STOP), (False, None)):
        scene = Scene(decoder, ends=[tokens[1]])
        one = scene.ask(1, prompt(10), sampling=Sampling(temperature=0.0, ends=ends))
        assert scene.step(whole(one)).got[0].finish is (finish if tokens[0] == tokens[1] else None)
        assert scene.step(one).got[0].finish is finish


def test_the_last_token_is_the_length_even_in_the_first_step(decoder: Decoder) -> None:
    scene = Scene(decoder)
    assert scene.step(whole(scene.ask(1, prompt(5), new_tokens=1))).got[0].finish is Finish.LENGTH


@pytest.mark.parametrize("is_there", [True, False])
def test_a_known_beginning_is_not_calculated_again(decoder: Decoder, is_there: bool) -> None:
    scene = Scene(decoder)
    ids = prompt(200)
    first = scene.ask(1, ids)
    scene.step(whole(first))
    if not is_there:
        scene.stepper.release([first])
    longer = np.concatenate([ids[:150], prompt(90, 5)])
    second = scene.ask(2, longer)
    stepped = scene.step(*[first] * is_there, Chunk(second, 0, 64))
    assert stepped.known == {2: 128}
    assert stepped.n_read == 64
    scene.step(*[first] * is_there, Chunk(second, 192, 240))
    for _ in range(4):
        scene.step(*[first] * is_there, second)
    assert scene.tokens[2] == TINY.greedy(longer.tolist(), 5)
    assert scene.tokens[1] == TINY.greedy(ids.tolist(), len(scene.tokens[1]))


def test_of_a_prompt_that_is_known_the_last_token_is_calculated(decoder: Decoder) -> None:
    scene = Scene(decoder)
    for number in (1, 2):
        one = scene.ask(number, prompt(128))
        stepped = scene.step(Chunk(one, 0, 64))
        if number == 1:
            stepped = scene.step(Chunk(one, 64, 128))
        assert len(stepped.got) == 1, "the second has its first token at once"
    assert stepped.known == {2: 64}
    assert scene.tokens[1] == scene.tokens[2]


def test_known_beginnings_change_no_bit(decoder: Decoder) -> None:
    """Sampling with log probabilities shows every bit."""
    options = Sampling(seed=3, logprobs=0, ends=False)
    told: list[list[object]] = []
    for before in (None, prompt(128), prompt(200)):
        scene = Scene(decoder)
        if before is not None:
            scene.step(whole(scene.ask(9, before)))
        one = scene.ask(1, prompt(180), sampling=options)
        got = scene.step(whole(one)).got
        told.append([got, *[scene.step(one).got for _ in range(4)]])
    plain, *others = [[[(one.token, one.logprob) for one in got] for got in steps] for steps in told]  # type: ignore[attr-defined]
    assert others == [plain, plain]


def test_holes_are_closed_when_nobody_comes(decoder: Decoder) -> None:
    scene = Scene(decoder)
    requests = [scene.ask(n, prompt(20 + n, n)) for n in range(4)]
    scene.step(*[whole(one) for one in requests])
    scene.stepper.release(requests[:2])
    rows = [scene.step(*requests[2:]).n_rows for _ in range(3)]
    assert rows == ([4, 3, 2] if scene.goes_on else [3, 2, 2]), "one in each step, before it decodes"
    for one in requests[2:]:
        assert scene.tokens[one.id] == TINY.greedy(one.payload.ids.tolist(), 4)


SCORED = Sampling(temperature=0.0, ends=False, logprobs=2, scores=True)


def by_numpy(ids: Array) -> tuple[list[float], list[tuple[int, ...]]]:
    """Log probabilities of all tokens but the first, and the two likeliest in their places."""
    logits = TINY.logits(ids)[:-1].astype(np.float64)
    logprobs = (
        logits
        - np.log(np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True))
        - logits.max(axis=1, keepdims=True)
    )
    likeliest = np.argsort(-logprobs, axis=1)[:, :2]
    return [float(row[token]) for row, token in zip(logprobs, ids[1:], strict=True)], [tuple(row) for row in likeliest.tolist()]


@pytest.mark.parametrize("length", [1, 2, 40, 64, 65, 129, 200])
@pytest.mark.parametrize("cut", [64, 128, 256])
def test_a_prompt_is_judged_as_numpy_judges_it_however_it_is_cut(decoder: Decoder, length: int, cut: int) -> None:
    scene = Scene(decoder)
    other, one = scene.ask(1, prompt(30, 1)), scene.ask(2, prompt(length), sampling=SCORED)
    scene.step(whole(other))
    for start in range(0, length, cut):
        stepped = scene.step(other, Chunk(one, start, min(start + cut, length)))
    (got,) = [got for got in stepped.got if got.request is one]
    wanted, likeliest = by_numpy(one.payload.ids)
    assert [score.chosen for score in got.scores] == pytest.approx(wanted, abs=2e-3)
    assert [tuple(token for token, _ in score.top) for score in got.scores] == likeliest
    assert got.token == TINY.greedy(one.payload.ids.tolist(), 1)[0]
    assert [len(got.scores) for got in scene.step(one, other).got] == [0, 0], "they are told once"
    scene.step(one, other)
    assert scene.tokens[1] == TINY.greedy(other.payload.ids.tolist(), len(scene.tokens[1]))


def test_what_is_known_of_a_prompt_is_judged_all_the_same_and_known_to_the_next(decoder: Decoder) -> None:
    scene = Scene(decoder)
    for number, sampling, n_known in ((1, GREEDY, 0), (2, SCORED, 0), (3, GREEDY, 128)):
        one = scene.ask(number, prompt(150), sampling=sampling)
        stepped = scene.step(whole(one))
        assert stepped.known.get(number, 0) == n_known
        assert len(stepped.got[0].scores) == (149 if sampling is SCORED else 0)
        scene.stepper.release([one])
    assert len({tuple(tokens) for tokens in scene.tokens.values()}) == 1


def test_a_step_that_fails_among_pieces_is_run_again_as_if_nothing_was(decoder: Decoder) -> None:
    failing = Failing(decoder)
    scene = Scene(failing)
    one = scene.ask(1, prompt(150), sampling=SCORED)
    scene.step(Chunk(one, 0, 64))
    failing.fails = "score"
    with pytest.raises(BatchError, match="planted"):
        scene.step(Chunk(one, 64, 150))
    failing.fails = ""
    (got,) = scene.step(Chunk(one, 64, 150)).got
    assert [score.chosen for score in got.scores] == pytest.approx(by_numpy(one.payload.ids)[0], abs=2e-3)


class Failing:
    """A decoder that fails when it is told to."""

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.fails = ""

    @property
    def slots(self) -> int:
        return self.decoder.slots

    def prefill(self, slots: Sequence[int], prompts: Sequence[Array], start: int) -> Array:
        logits = self.decoder.prefill(slots, prompts, start)
        if self.fails == "prefill":
            raise BatchError("planted")
        return logits

    def score(self, slot: int, tokens: Array, start: int) -> Array:
        logits = self.decoder.score(slot, tokens, start)
        if self.fails == "score" and start:
            raise BatchError("planted")
        return logits

    def decode(self, rows: Sequence[Row]) -> Array:
        logits = self.decoder.decode(rows)
        if self.fails == "decode":
            raise BatchError("planted")
        return np.full_like(logits, np.nan) if self.fails == "sampling" else logits

    def copy(self, source: int, target: int, n_kept: int) -> None:
        self.decoder.copy(source, target, n_kept)

    def close(self) -> None:
        self.decoder.close()


@pytest.mark.parametrize("fails", ["prefill", "decode", "sampling"])
def test_after_a_step_that_failed_each_goes_on_alone(decoder: Decoder, fails: str) -> None:
    """Sampled, so that random numbers count as well."""
    options = Sampling(seed=5, ends=False)
    told = []
    for failing in ("", fails):
        broken = Failing(decoder)
        scene = Scene(broken)
        scene.goes_on = False  # the step itself must fail; for what was decoded before it see test_going_on.py
        a, b, c = (scene.ask(n, prompt(length, n), sampling=options) for n, length in ((1, 130), (2, 20), (3, 150)))
        scene.step(whole(a), whole(b))
        broken.fails = failing
        if failing:
            with pytest.raises(BatchError):
                scene.step(a, b, Chunk(c, 0, 128))
            broken.fails = ""
            for part in (a, b, Chunk(c, 0, 128)):
                scene.step(part)
        else:
            scene.step(a, b, Chunk(c, 0, 128))
        scene.step(a, b, Chunk(c, 128, 150))
        scene.step(a, b, c)
        told.append(scene.tokens)
    assert told[0] == told[1]


def test_who_never_began_has_nothing_to_release(decoder: Decoder) -> None:
    scene = Scene(decoder)
    scene.stepper.release([scene.ask(1, prompt(3))])
    assert scene.step(whole(scene.ask(2, prompt(3)))).n_slots == 1


def test_an_answer_that_a_grammar_lets_nothing_follow_ends_there(decoder: Decoder) -> None:
    sets = [{5, 6, 7}, {8}, set(range(20, 40))]
    told = []
    for in_company in (False, True):
        scene = Scene(decoder)
        one = scene.ask(1, prompt(10), sampling=Sampling(seed=3, logprobs=2, grammar=Only(*sets)))
        others = [scene.ask(n, prompt(20, n), sampling=Sampling(seed=n, ends=False)) for n in (2, 3)] * in_company
        steps = [scene.step(whole(one), *map(whole, others)), scene.step(one, *others), scene.step(one, *others)]
        mine = [got for step in steps for got in step.got if got.request is one]
        assert [got.finish for got in mine] == [None, None, Finish.STOP]
        assert all(got.token in allowed for got, allowed in zip(mine, sets, strict=True))
        told.append([(got.token, got.logprob) for got in mine])
    assert told[0] == told[1], "to the last bit"


def test_a_grammar_that_gives_up_fails_its_own_request_alone(decoder: Decoder) -> None:
    """As when a library runs into its limits in the middle of an answer."""
    scene = Scene(decoder)
    held, other = scene.ask(1, prompt(10), sampling=Sampling(grammar=Only({5}, set(), {7}))), scene.ask(2, prompt(20))
    scene.step(whole(held), whole(other))
    with pytest.raises(BatchError, match="forbid every token"):
        scene.step(held, other)
    with pytest.raises(BatchError, match="forbid every token"):
        scene.step(held)
    scene.step(other)
    scene.stepper.release([held])
    scene.step(other)
    assert scene.tokens[2] == TINY.greedy(other.payload.ids.tolist(), 3)
