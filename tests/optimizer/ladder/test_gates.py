"""Each gate lets pass what it should, and says by how much it was failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimizer.checks.agreement import Agreement, Edge, OutputAgreement
from optimizer.checks.slices import Slice
from optimizer.ladder.gates import Gate, Gates, look, wanted_at_look


def agreement(mean: float, worst: float, size: float = 1.0) -> Agreement:
    return Agreement(10, "y", (OutputAgreement("y", 10, 0, None, mean, worst, "sample 3", 0.01, size, 0.1, 0.1),))


def test_size() -> None:
    assert Gates().size(10**12) is None
    assert Gates(max_bytes=1000).size(1000) is None
    failed = Gates(max_bytes=1_000_000).size(2_500_000)
    assert failed is not None
    assert (failed.gate, failed.reason) == (Gate.SIZE, "2.50 MB, allowed are 1.00 MB")


@pytest.mark.parametrize(
    ("gates", "found", "has_score", "reason"),
    [
        (Gates(), agreement(0.9995, 0.995), False, None),
        (Gates(), agreement(0.9985, 0.995), False, "mean cosine 0.99850 of output 'y', wanted is 0.999"),
        (Gates(), agreement(0.9995, 0.985), False, "worst cosine 0.98500 of output 'y' (sample 3), wanted is 0.99"),
        (Gates(), agreement(0.5, 0.1), True, None),
        (Gates(min_cosine=0.9), agreement(0.5, 0.1), True, "mean cosine 0.50000 of output 'y', wanted is 0.9"),
        (Gates(min_cosine=0.4), agreement(0.5, 0.1), True, None),
        (Gates(min_worst_cosine=0.05), agreement(0.9995, 0.1), False, None),
        (Gates(), agreement(1.0, 1.0, 1.2), True, "output 'y' is 1.20 times as large as the original's"),
        (Gates(), agreement(1.0, 1.0, 0.95), True, None),
    ],
)
def test_answers(gates: Gates, found: Agreement, has_score: bool, reason: str | None) -> None:
    failed = gates.answers(found, has_score)
    assert (failed and failed.reason) == reason


@pytest.mark.parametrize(
    ("n_samples", "same", "top1", "least", "reason"),
    [
        (64, 63 / 64, None, 0.98, None),
        (64, 62 / 64, None, 0.98, "the same nearest neighbour in 96.9% of 64 samples of output 'y', wanted is 98.0%"),
        (64, 62 / 64, None, 0.9, None),
        (64, 62 / 64, 1.0, 0.98, None),
        (20, 19 / 20, None, 0.98, None),
        (19, 10 / 19, None, 0.98, None),
    ],
)
@pytest.mark.parametrize("has_score", [False, True])
def test_neighbours_of_embeddings(
    n_samples: int, same: float, top1: float | None, least: float, reason: str | None, has_score: bool
) -> None:
    (one,) = agreement(1.0, 1.0).outputs
    found = Agreement(n_samples, "y", (replace(one, same_neighbour=same, same_top1=top1),))
    failed = Gates(min_same_neighbour=least).answers(found, has_score)
    assert (failed and failed.reason) == reason


def test_edges() -> None:
    whole = agreement(1.0, 1.0)
    assert Gates().edges(whole) is None
    edges = Edge("the longest input in 4 rows", "y", 0.99), Edge("zeros in 1 row", "z", 0.89)
    found = replace(whole, edges=edges)
    failed = Gates().edges(found)
    assert failed is not None
    assert (failed.gate, failed.reason) == (Gate.EDGES, "zeros in 1 row: cosine 0.89000 of output 'z', wanted is 0.9")
    assert Gates(min_edge_cosine=0.8).edges(found) is None


@pytest.mark.parametrize(
    ("gates", "slices", "has_score", "reason"),
    [
        (Gates(), [Slice("class", "3", 20, 0.9971, 0.5)], False, None),
        (Gates(), [Slice("class", "3", 20, 0.9969, 1.0)], False, "class 3 (20 samples): mean cosine 0.99690, wanted is 0.997"),
        (Gates(), [Slice("class", "3", 19, 0.9, 0.5)], False, None),
        (Gates(min_cosine=0.99), [Slice("length", "3 to 4", 30, 0.972, None)], False, None),
        (Gates(), [Slice("class", "3", 20, 0.5, 0.5)], True, None),
        (Gates(min_slice_cosine=0.8), [Slice("length", "3 to 4", 20, 0.5, None)], True, "length 3 to 4 (20 samples): mean cosine 0.50000, wanted is 0.8"),
        (Gates(max_slice_changes=5), [Slice("class", "3", 40, 1.0, 0.95), Slice("class", "4", 40, 1.0, 0.925)], True, "class 4 (40 samples): 7.5 points got another top class, allowed are 5"),
        (Gates(max_slice_changes=5), [Slice("length", "3 to 4", 40, 1.0, None)], True, None),
    ],
)  # fmt: skip
def test_slices(gates: Gates, slices: list[Slice], has_score: bool, reason: str | None) -> None:
    failed = gates.slices(replace(agreement(1.0, 1.0), slices=tuple(slices)), has_score)
    assert (failed and failed.reason) == reason


def test_score() -> None:
    assert Gates(0.5).score(0.9, 0.8951) is None
    assert Gates(0.5).score(0.9, 0.95) is None
    failed = Gates(0.5).score(0.9, 0.894)
    assert failed is not None
    assert failed.reason == "0.8940, PyTorch 0.9000: a loss of 0.60 points, allowed are 0.5"


def test_memory() -> None:
    assert Gates(max_memory_bytes=100).memory(100) is None
    failed = Gates(max_memory_bytes=100_000_000).memory(151_000_000)
    assert failed is not None
    assert failed.reason == "151 MB resident, allowed are 100 MB"


def test_look() -> None:
    mine = {"1 row": 0.9, "4 rows": 1.3}
    assert look(mine, {}) is None
    assert look(mine, {"other": {"1 row": 2.0, "4 rows": 1.4}}) is None, "not clearly slower at 4 rows"
    failed = look(mine, {"other": {"1 row": 2.0, "4 rows": 2.6}})
    assert failed is not None
    assert failed.reason == "other is at least 2.00 times as fast at every batch"
    slower = look({"1 row": 0.5, "4 rows": 0.94}, {})
    assert slower is not None
    assert slower.reason == "slower than the plain export at every batch, 0.94 times its speed at best"
    assert look({"1 row": 0.5, "4 rows": 0.94}, {}, wanted_at_look(0.5, 100)) is None, "at half the size that is no difference"
    assert look({"1 row": 0.5, "4 rows": 0.89}, {}, wanted_at_look(0.5, 100)) is not None
    assert look({"1 row": 0.5, "4 rows": 0.94}, {}, wanted_at_look(0.51, 10**6)) is not None
    other = {"other": {"1 row": 2.0, "4 rows": 2.6}}
    assert look({"1 row": 0.5, "4 rows": 0.6}, other, wanted_at_look(0.3, 10**6)) is None, "faster than anybody can ask"
    assert look(mine, other, wanted_at_look(0.3, 100)) is not None
