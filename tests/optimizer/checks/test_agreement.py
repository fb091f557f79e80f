"""Agreement over samples: averages, neighbours, slices, and the sentence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from optimizer.checks.agreement import Agreement, Answered, Kind, agree, closeness
from server.backends.base import Array


def floats(values: object) -> Array:
    return np.array(values, np.float32)


def answered(wanted: Array, found: Array, lengths: Sequence[int] = (), output: str = "y") -> list[Answered]:
    """Rows as samples."""
    return [
        Answered(f"row {n}", {output: wanted[n : n + 1]}, {output: found[n : n + 1]}, lengths[n] if lengths else 0)
        for n in range(len(wanted))
    ]


def logits(n: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)


def test_the_original_agrees_with_itself() -> None:
    found = agree(answered(logits(20), logits(20)))
    lead = found.leading
    assert (lead.cosine_mean, lead.same_top1, lead.same_neighbour, lead.n_flawed) == (pytest.approx(1), 1, 1, 0)
    assert (lead.size, lead.noise) == (1, 0)
    assert lead.kl_mean == pytest.approx(0, abs=1e-9)
    assert found.worst_slice is None
    assert found.sentence().startswith("agreement, not accuracy: over 20 rows output 'y' has cosine 1.000000")


def test_mean_and_worst_are_over_samples() -> None:
    wanted, found = floats([[1, 0], [1, 0], [1, 0], [1, 0]]), floats([[1, 0], [1, 0], [1, 0], [0, 1]])
    lead = agree(answered(wanted, found)).leading
    assert (lead.cosine_mean, lead.cosine_worst, lead.worst_at, lead.same_top1) == (0.75, 0, "row 3", 0.75)


def test_an_embedding_has_neighbours_and_no_classes() -> None:
    wanted = logits(9)
    named = agree(answered(wanted, wanted), embedding="y").leading
    assert (named.same_neighbour, named.same_top1, named.kl_mean) == (1, None, None)
    unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    assert agree(answered(unit, unit)).leading.same_top1 is None, "vectors of length 1 are taken for one"
    assert agree(answered(wanted[:2], wanted[:2])).leading.same_neighbour is None, "two samples leave no choice"


def test_the_embedding_leads_and_others_have_no_neighbours() -> None:
    one = logits(6)
    pairs = [
        Answered("", {"scores": one[n : n + 1], "vector": one[n : n + 1]}, {"scores": one[n : n + 1], "vector": one[n : n + 1]})
        for n in range(6)
    ]
    found = agree(pairs, embedding="vector")
    assert found.lead == "vector"
    assert {one.output: one.same_neighbour for one in found.outputs} == {"scores": None, "vector": 1}


def test_flawed_answers_are_counted_against_the_candidate() -> None:
    wanted = logits(8)
    found = wanted.copy()
    found[3, 1] = np.nan
    one = agree(answered(wanted, found))
    lead = one.leading
    assert (lead.n_flawed, lead.cosine_worst, lead.same_top1) == (1, 0, 7 / 8)
    assert lead.cosine_mean == pytest.approx(7 / 8)
    assert lead.flaw == "is not finite where the original is"
    assert "1 answers could not be compared" in one.sentence()


def test_a_flawed_answer_has_no_neighbour() -> None:
    wanted = floats([[1, 0], [0, 1], [0, -1], [1, 0.01]])
    found = wanted.copy()
    found[3] = np.inf
    assert agree(answered(wanted, found)).leading.same_neighbour == 0.25, "its own is not right, nor is it anybody else's"


def test_a_flawed_answer_counts_in_the_slice_of_its_class() -> None:
    wanted = floats([[5, 0]] * 6 + [[0, 5]] * 6)
    found = wanted.copy()
    found[:3] = np.nan
    pieces = {piece.name: piece for piece in agree(answered(wanted, found)).slices}
    assert (pieces["0"].n_samples, pieces["0"].same_top1, pieces["0"].cosine_mean) == (6, 0.5, 0.5)
    assert pieces["1"].same_top1 == 1


def test_an_output_of_one_number_is_measured_by_the_size_that_answers_have() -> None:
    wanted = floats([[0.001], [10.0], [-10.0]])
    lead = agree(answered(wanted, wanted + np.float32(0.5))).leading
    usual = (200 / 3) ** 0.5
    assert lead.largest_relative == pytest.approx(0.5 / usual, rel=1e-3)
    assert lead.cosine_worst == pytest.approx(1 - (0.5 / usual) ** 2 / 2, rel=1e-3)
    assert lead.same_top1 is None


def test_integers_are_equal_or_not() -> None:
    wanted = np.arange(10)[:, None]
    found = wanted.copy()
    found[0] = 7
    one = agree(answered(wanted, found))
    assert (one.leading.cosine_mean, one.leading.largest_absolute, one.leading.largest_relative) == (0.9, 7, None)


def test_slices_by_length_name_where_most_is_lost() -> None:
    wanted = logits(20)
    found = wanted.copy()
    found[10:] = -found[10:]
    lengths = [4] * 5 + [7] * 5 + [20] * 10
    one = agree(answered(wanted, found, lengths))
    by_length = {piece.name: piece for piece in one.slices if piece.by == "length"}
    assert {name: piece.n_samples for name, piece in by_length.items()} == {"3 to 4": 5, "5 to 8": 5, "17 to 32": 10}
    assert by_length["17 to 32"].cosine_mean == pytest.approx(-1)
    assert by_length["3 to 4"].same_top1 == 1
    assert one.worst_slice is not None
    assert "most is lost at " in one.sentence()


def test_slices_by_class_are_those_of_the_original() -> None:
    wanted = floats([[5, 0], [0, 5]] * 6)
    found = wanted.copy()
    found[1::2] = [[4, 1]] * 6
    one = agree(answered(wanted, found))
    assert [(piece.name, piece.n_samples, piece.same_top1) for piece in one.slices] == [("0", 6, 1), ("1", 6, 0)]
    assert one.worst_slice is one.slices[1]
    assert "most is lost at class 1 (6 samples)" in one.sentence()


def test_small_slices_are_never_the_worst() -> None:
    wanted = floats([[5, 0]] * 10 + [[0, 5]])
    found = wanted.copy()
    found[-1] = [5, 0]
    assert agree(answered(wanted, found)).worst_slice is None


def test_what_is_only_larger_has_the_same_cosine_and_another_size() -> None:
    lead = agree(answered(logits(5), 2 * logits(5))).leading
    assert (lead.cosine_worst, lead.size) == (pytest.approx(1), pytest.approx(2))


def test_batches_count_for_the_cosine_alone_and_edges_for_none_of_it() -> None:
    wanted = floats([[5, 0], [0, 5], [5, 5], [5, 1]])
    samples = answered(wanted, wanted)
    batch = Answered("a batch", {"y": wanted[:2]}, {"y": wanted[1::-1]}, kind=Kind.BATCH, edge="the longest input")
    zeros = Answered("zeros in 1 row", {"y": wanted[:1]}, {"y": floats([[3, 4]])}, kind=Kind.EDGE, edge="zeros")
    found = agree([*samples, batch, zeros])
    lead = found.leading
    assert (found.n_samples, lead.n_rows, lead.cosine_worst, lead.worst_at) == (4, 6, 0, "a batch")
    assert lead.cosine_mean == pytest.approx(4 / 6)
    assert (lead.same_top1, lead.same_neighbour) == (1, 1)
    assert [(one.place, one.cosine) for one in found.edges] == [("a batch", 0), ("zeros in 1 row", pytest.approx(0.6))]
    assert found.worst_edge is found.edges[0]


def test_too_few_rows_are_no_answer_to_any_of_them() -> None:
    one = agree([Answered("two", {"y": logits(2)}, {"y": logits(1)}), *answered(logits(3), logits(3))]).leading
    assert (one.n_flawed, one.cosine_mean, one.flaw) == (2, pytest.approx(0.6), "has another shape or type")


def test_the_classes_of_more_rows_replace_those_of_the_samples() -> None:
    few = agree(answered(floats([[5, 0], [0, 5]] * 3), floats([[5, 0], [0, 5]] * 3), [2] * 3 + [9] * 3))
    many = agree(answered(floats([[5, 0], [0, 5]] * 9), floats([[5, 0], [0, 5]] * 9)))
    both = few.with_classes_of(many)
    assert [(piece.by, piece.n_samples) for piece in both.slices] == [("length", 3), ("length", 3), ("class", 9), ("class", 9)]
    assert few.with_classes_of(agree(answered(logits(1), logits(1)))).slices == few.slices


def test_closeness_is_that_of_the_output_that_suffers_most() -> None:
    x = floats([[3, 4]])
    assert closeness([Answered("", {"a": x, "b": x}, {"a": x, "b": -x}), Answered("", {"a": x, "b": x}, {"a": x, "b": x})]) == (
        0, 2,
    )  # fmt: skip


def test_it_survives_a_file() -> None:
    edge = Answered("zeros", {"y": logits(1)}, {"y": logits(1)}, kind=Kind.EDGE, edge="zeros")
    one = agree([*answered(logits(9), logits(9, seed=2), [3] * 4 + [9] * 5), edge])
    again: Any = json.loads(json.dumps(one.to_json(), allow_nan=False))
    assert Agreement.from_json(again) == one
