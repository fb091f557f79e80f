"""Sampling: each option does what it says, and no row depends on its neighbours or on a step that was run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from server.backends.base import Array, BatchError
from server.generation import sampler
from server.generation.grammars import Guide
from server.generation.options import Sampling
from server.generation.sampler import Chooser, choose

VOCABULARY = 2000
PROMPT = np.array([5, 6, 5, 7])
ENDS = (0, 1)


def logits(rows: int = 1, seed: int = 0) -> Array:
    made: Array = (np.random.default_rng(seed).standard_normal((rows, VOCABULARY)) * 3).astype(np.float32)
    return made


def of(**given: float) -> Array:
    """−20 for all but these: `t5=1.0`."""
    made = np.full((1, VOCABULARY), -20.0, np.float32)
    for name, value in given.items():
        made[0, int(name[1:])] = value
    return made


def chooser(sampling: Sampling) -> Chooser:
    return Chooser(sampling, PROMPT, ENDS)


def tokens(sampling: Sampling, row: Array, count: int) -> list[int]:
    one = chooser(sampling)
    got = []
    for _ in range(count):
        got.append(choose(row, [one])[0].token)
        one.took(got[-1])
    return got


def shares(sampling: Sampling, row: Array, count: int = 4000) -> dict[int, float]:
    """How often each token comes, when nothing is remembered of it."""
    one = chooser(sampling)
    times: Counter[int] = Counter()
    for _ in range(count):
        times[choose(row, [one])[0].token] += 1
        one._drawn = None  # the next number of the same request
    return {token: n / count for token, n in times.items()}


def test_without_temperature_the_likeliest_is_taken() -> None:
    rows = logits(3)
    plain = [chooser(Sampling(temperature=0.0, top_k=3, top_p=0.1, seed=1)) for _ in rows]
    assert [one.token for one in choose(rows, plain)] == rows.argmax(axis=1).tolist()


def test_draws_by_the_distribution() -> None:
    got = shares(Sampling(seed=1), of(t10=np.log(6), t20=np.log(3), t30=np.log(1)))
    assert [round(got[token], 1) for token in (10, 20, 30)] == [0.6, 0.3, 0.1]


def test_temperature_flattens_and_sharpens() -> None:
    row = of(t10=np.log(4), t20=0.0)
    assert shares(Sampling(seed=1, temperature=2.0), row)[10] == pytest.approx(2 / 3, abs=0.03)
    assert shares(Sampling(seed=1, temperature=0.5), row)[10] == pytest.approx(16 / 17, abs=0.02)


def test_hardly_any_temperature_is_none() -> None:
    row = logits()
    assert tokens(Sampling(temperature=1e-30, seed=1), row, 3) == [int(row.argmax())] * 3


FOUR = of(t10=np.log(0.4), t20=np.log(0.3), t30=np.log(0.2), t40=np.log(0.1))


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(top_k=2), {10, 20}),
        (Sampling(top_k=5000), {10, 20, 30, 40}),
        (Sampling(top_p=0.39), {10}),
        (Sampling(top_p=0.41), {10, 20}),
        (Sampling(top_p=0.75), {10, 20, 30}),
        (Sampling(min_p=0.5), {10, 20, 30}),
        (Sampling(min_p=0.51), {10, 20}),
        (Sampling(top_k=3, top_p=0.7), {10, 20}),
        (Sampling(top_k=2, top_p=0.99, min_p=0.9), {10}),
        (Sampling(top_p=1e-9), {10}),
    ],
)
def test_what_is_cut_off_never_comes(sampling: Sampling, kept: set[int]) -> None:
    assert {token for token, share in shares(sampling, FOUR, 600).items() if share > 0.001} == kept


def test_equals_at_the_edge_of_top_k_all_stay() -> None:
    assert set(shares(Sampling(top_k=2), of(t10=2.0, t20=1.0, t30=1.0), 300)) == {10, 20, 30}


def test_top_p_may_need_more_than_the_few_likeliest() -> None:
    flat = np.zeros((1, VOCABULARY), np.float32)
    flat[0] -= np.arange(VOCABULARY) * np.float32(1e-6)  # no two alike
    got = shares(Sampling(top_p=0.9, seed=3), flat, 3000)
    assert 1600 < max(got) < 1801


def test_bias_moves_logits() -> None:
    assert tokens(Sampling(temperature=0.0, bias={50: 100.0}), FOUR, 1) == [50]
    assert tokens(Sampling(temperature=0.0, bias={10: -100.0}), FOUR, 1) == [20]


def test_presence_counts_once_and_frequency_each_time() -> None:
    row = of(t10=3.0, t20=1.0)
    assert tokens(Sampling(temperature=0.0, presence=1.9), row, 4) == [10, 10, 10, 10]
    assert tokens(Sampling(temperature=0.0, presence=2.1), row, 4) == [10, 20, 10, 10]
    assert tokens(Sampling(temperature=0.0, frequency=0.9), row, 5) == [10, 10, 10, 20, 10]


def test_repetition_weighs_prompt_and_answer() -> None:
    assert tokens(Sampling(temperature=0.0, repetition=2.0), of(t5=3.0, t20=2.0, t30=1.6), 3) == [20, 30, 5]
    below = of(t5=-1.0, t20=-1.5)
    assert tokens(Sampling(temperature=0.0, repetition=2.0), below, 1) == [20]


def test_no_end_before_so_many_tokens() -> None:
    row = of(t0=9.0, t1=8.0, t20=1.0)
    assert tokens(Sampling(temperature=0.0, at_least=2), row, 3) == [20, 20, 0]
    assert set(tokens(Sampling(at_least=20, seed=1), row, 20)).isdisjoint(ENDS)


def test_log_probabilities_are_the_models_own() -> None:
    row = logits()
    expected = row[0].astype(np.float64) - np.log(np.exp(row[0].astype(np.float64)).sum())
    options = Sampling(temperature=0.5, bias={3: 100.0}, logprobs=3)
    token, logprob = choose(row, [chooser(options)])[0]
    assert token == 3
    assert logprob is not None
    assert logprob.chosen == pytest.approx(expected[3], abs=1e-5)
    best = np.argsort(-expected)[:3]
    assert [one for one, _ in logprob.top] == best.tolist()
    assert [value for _, value in logprob.top] == pytest.approx(expected[best], abs=1e-5)
    none_but_its_own = choose(row, [chooser(Sampling(temperature=0.0, logprobs=0))])[0].logprob
    assert none_but_its_own is not None
    assert none_but_its_own.top == ()


OPTIONS = [
    Sampling(seed=1),
    Sampling(seed=1, top_k=40),
    Sampling(seed=2, top_p=0.9, temperature=0.7),
    Sampling(seed=3, min_p=0.05),
    Sampling(temperature=0.0),
    Sampling(seed=4, repetition=1.3, presence=0.5, frequency=0.2, logprobs=2),
]


def test_a_row_gets_in_company_what_it_gets_alone() -> None:
    steps = [logits(len(OPTIONS), seed) for seed in range(20)]
    together = [chooser(one) for one in OPTIONS]
    alone = [chooser(one) for one in OPTIONS]
    for rows in steps:
        chosen = choose(rows, together)
        assert chosen == [choose(rows[n : n + 1], [one])[0] for n, one in enumerate(alone)]
        for one, other, (token, _) in zip(together, alone, chosen, strict=True):
            one.took(token)
            other.took(token)


def test_a_seed_says_it_all_and_none_differs_each_time() -> None:
    row = logits()
    assert tokens(Sampling(seed=7), row, 20) == tokens(Sampling(seed=7), row, 20)
    assert tokens(Sampling(), row, 20) != tokens(Sampling(), row, 20)


def test_a_step_that_is_run_again_chooses_the_same() -> None:
    row = logits()
    one = chooser(Sampling(seed=7))
    first = choose(row, [one])
    assert choose(row, [one]) == first


def test_every_integer_is_a_seed() -> None:
    row = logits()
    assert tokens(Sampling(seed=-1), row, 5) == tokens(Sampling(seed=2**64 - 1), row, 5) != tokens(Sampling(seed=1), row, 5)


@pytest.mark.parametrize(
    ("sampling", "reason"),
    [
        (Sampling(temperature=0.0, bias={VOCABULARY: 1.0}), "bias names an id that there is not: they go from 0 to 1999"),
        (Sampling(temperature=0.0, bias={-1: 1.0}), "bias names an id that there is not"),
        (Sampling(bias={2**70: 1.0}), "bias must map ids to numbers"),
        (Sampling(bias={3: "x"}), "bias must map ids to numbers"),  # type: ignore[dict-item]
    ],
)
def test_absurd_options_fail_this_row_alone(sampling: Sampling, reason: str) -> None:
    with pytest.raises(BatchError, match=reason):
        choose(logits(), [chooser(sampling)])


@pytest.mark.parametrize(
    ("break_it", "sampling", "reason"),
    [
        (lambda row: row.__setitem__((0, 3), np.nan), Sampling(temperature=0.0), "not numbers"),
        (lambda row: row.__setitem__((0, 3), np.inf), Sampling(), "not numbers"),
        (lambda row: row.__setitem__(slice(None), -np.inf), Sampling(), "not numbers"),
        (
            lambda row: row.__setitem__((0, slice(2, None)), -np.inf),
            Sampling(temperature=0.0, at_least=1),
            "forbid every token",
        ),
        (lambda row: row.__setitem__((0, slice(2, None)), -np.inf), Sampling(at_least=1), "forbid every token"),
    ],
)
def test_a_row_of_which_nothing_can_be_chosen_says_so(
    break_it: Callable[[Array], None], sampling: Sampling, reason: str
) -> None:
    row = logits()
    break_it(row)
    with pytest.raises(BatchError, match=reason):
        choose(row, [chooser(sampling)])


class Only:
    """A grammar that allows these tokens one after the other, each a set. Its guides note what they were told."""

    def __init__(self, *sets: set[int]) -> None:
        self.sets = sets
        self.guides: list[OnlyGuide] = []

    def guide(self) -> Guide:
        self.guides.append(OnlyGuide(self.sets))
        return self.guides[-1]


class OnlyGuide:
    def __init__(self, sets: tuple[set[int], ...]) -> None:
        self.sets = sets
        self.got: list[int] = []

    def allowed(self) -> Array:
        bits = np.zeros(VOCABULARY + 48, np.uint8)  # a library's masks have whole words
        bits[list(self.sets[len(self.got)])] = 1
        return np.packbits(bits, bitorder="little")

    def accept(self, token: int) -> None:
        self.got.append(token)

    @property
    def is_whole(self) -> bool:
        return len(self.got) == len(self.sets)


SETS = ({3, 9, 1999}, {0}, {11, 12}, set(range(500)))


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.0}, {}, {"top_k": 2}, {"top_p": 0.3}, {"min_p": 0.5}, {"temperature": 0.0, "bias": {3: -100.0, 20: 100.0}},
     {"presence": 2.0, "repetition": 100.0}],
)  # fmt: skip
def test_a_grammar_is_kept_whatever_the_rest_says(options: dict[str, Any]) -> None:
    for seed in range(20):
        one = chooser(Sampling(seed=seed, grammar=Only(*SETS), **options))
        for number, allowed in enumerate(SETS):
            assert not one.is_whole
            one.took(choose(logits(seed=seed + number), [one])[0].token)
            assert list(one._times)[-1] in allowed
        assert one.is_whole


def test_a_grammar_that_allows_all_changes_nothing() -> None:
    everything = Only(*[set(range(VOCABULARY))] * 20)
    for options in ({"temperature": 0.0}, {}, {"top_p": 0.8, "frequency": 1.0}):
        free, held = Sampling(seed=4, **options), Sampling(seed=4, grammar=everything, **options)
        assert tokens(free, logits(), 20) == tokens(held, logits(), 20)


def test_a_grammar_changes_no_neighbour_and_none_changes_it() -> None:
    samplings = [
        Sampling(seed=1),
        Sampling(seed=2, grammar=Only(*SETS)),
        Sampling(0.0),
        Sampling(0.0, grammar=Only(*SETS)),
        Sampling(seed=5),
    ]
    together, alone = [chooser(one) for one in samplings], [chooser(one) for one in samplings]
    for number in range(len(SETS)):
        rows = logits(len(samplings), number)
        kept = rows.copy()
        chosen = choose(rows, together)
        assert np.array_equal(rows, kept), "the model's logits are others' too"
        assert chosen == [choose(rows[n : n + 1], [one])[0] for n, one in enumerate(alone)]
        for one, other, (token, _) in zip(together, alone, chosen, strict=True):
            one.took(token)
            other.took(token)


def test_log_probabilities_are_the_models_own_whatever_a_grammar_allows() -> None:
    row = of(t5=4.0, t6=3.0, t9=0.0)
    free = choose(row, [chooser(Sampling(temperature=0.0, logprobs=3))])[0].logprob
    token, held = choose(row, [chooser(Sampling(temperature=0.0, logprobs=3, grammar=Only({9})))])[0]
    assert token == 9
    assert held is not None
    assert free is not None
    assert held.top == free.top
    assert held.chosen == dict(held.top)[9] < dict(held.top)[5]


def test_a_step_that_is_run_again_asks_a_grammar_the_same() -> None:
    grammar = Only(*SETS)
    one = chooser(Sampling(seed=7, grammar=grammar))
    first = choose(logits(), [one])
    assert choose(logits(), [one]) == first
    assert grammar.guides[0].got == []


def test_a_grammar_that_leaves_nothing_says_so() -> None:
    with pytest.raises(BatchError, match="grammar forbid every token"):
        choose(logits(), [chooser(Sampling(grammar=Only(set())))])


def test_where_few_are_left_only_those_are_looked_at() -> None:
    """Sorting a whole vocabulary for each row takes longer than a step."""
    values = np.full(100_000, -np.inf, np.float32)
    values[[7, 70, 700]] = [1.0, 3.0, 2.0]
    assert sampler._likeliest(values, sampler._FEW).tolist() == [70, 700, 7]
    ids, weights = sampler._kept(values - 3.0, Sampling(temperature=1.0, top_p=0.999999))
    assert ids.tolist() == [70, 700, 7]
    assert weights == pytest.approx(np.exp([0.0, -1.0, -2.0]))
