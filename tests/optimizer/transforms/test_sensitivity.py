"""The search leaves out the noisiest layers, as few as it takes, and never more than half."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pytest

from optimizer.transforms.agreement import MOST_REQUESTS, Agreement
from optimizer.transforms.sensitivity import MOST_TRIALS, choose


class Model:
    """Layers whose noises add up; every trial is remembered."""

    def __init__(self, noises: Mapping[str, float]) -> None:
        self.noises = noises
        self.trials: list[tuple[tuple[str, ...], int]] = []

    def measure(self, layers: Sequence[str], n_most: int) -> Agreement:
        self.trials.append((tuple(layers), n_most))
        noise = sum(self.noises[name] for name in layers)
        return Agreement(1 - noise / 2, noise, 0.0)


def even(n: int, **loud: float) -> Model:
    return Model({f"l{place}": loud.get(f"l{place}", 1e-5) for place in range(n)})


def test_where_all_is_well_nothing_is_tried_further() -> None:
    model = even(10)
    choice = choose(list(model.noises), model.measure, 0.999)
    assert (choice.changed, choice.left) == (tuple(model.noises), ())
    assert model.trials == [(tuple(model.noises), MOST_REQUESTS)]
    assert choice.sentence("done", "kept") == "10 of 10 layers done, agreement with the original 0.99995"


def test_exactly_the_harmful_layers_are_left() -> None:
    model = even(10, l3=0.5, l8=0.1, l1=2.1e-4)
    choice = choose(list(model.noises), model.measure, 0.999)
    assert [one.layers for one in choice.left] == [("l3",), ("l8",)]
    assert choice.changed == ("l0", "l1", "l2", "l4", "l5", "l6", "l7", "l9")
    assert [round(one.snr_db) for one in choice.left] == [3, 10]
    assert math.isclose(choice.cosine, 1 - (2.1e-4 + 7e-5) / 2)
    assert choice.sentence("in int8", "left in float") == (
        "8 of 10 layers in int8, agreement with the original 0.99986; with all of them 0.69986; left in float, as they add the most "
        "noise: l3 (3 dB), l8 (10 dB)"
    )


def test_at_most_half_are_left_and_the_shortfall_is_said() -> None:
    model = even(7, **{f"l{n}": 0.1 for n in range(7)})
    choice = choose(list(model.noises), model.measure, 0.999)
    assert choice.n_left == 3
    assert choice.changed == ("l3", "l4", "l5", "l6"), "of equally noisy layers the earlier are left"
    assert "4 of 7 layers done, agreement with the original 0.80000 (wanted 0.999)" in choice.sentence("done", "kept")
    assert choice.data()["cosine"] == pytest.approx(0.8)


def test_a_single_layer_is_changed_whatever_comes_of_it() -> None:
    model = even(1, l0=0.5)
    choice = choose(["l0"], model.measure, 0.999)
    assert (choice.changed, choice.left, choice.cosine) == (("l0",), (), 0.75)


@pytest.mark.parametrize("n", [40, 48, 49, 1000])
def test_the_number_of_trials_is_bounded(n: int) -> None:
    model = even(n, l30=0.5)
    choice = choose(list(model.noises), model.measure, 0.99)
    assert len(model.trials) <= 1 + MOST_TRIALS + math.ceil(math.log2(MOST_TRIALS)) + 1
    assert len(model.trials) == len(set(model.trials)), "no model is made twice"
    assert [one.layers for one in choice.left] == [tuple(f"l{place}" for place in choice_group(n))]
    assert choice.cosine >= 0.99


def choice_group(n: int) -> range:
    """The group of neighbours that layer 30 is in."""
    size = -(-n // MOST_TRIALS)
    return range(30 // size * size, min(n, 30 // size * size + size))
