"""Agreement says how alike answers are, and never calls nonsense alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from optimizer.errors import StageFailed
from optimizer.transforms.agreement import Agreement, Reference, agreement, decibel, spread
from tests.models import affine, lookup, two_outputs

X = np.array([[3.0, 4.0]], dtype=np.float32)


def one(wanted: object, found: object) -> Agreement:
    return agreement([[np.asarray(wanted)]], [[np.asarray(found)]])


def test_equal_answers_agree_wholly() -> None:
    assert one(X, X) == Agreement(1.0, 0.0, 0.0)


def test_cosine_and_noise_are_what_their_names_say() -> None:
    found = one(X, np.array([[4.0, 3.0]], dtype=np.float32))
    assert (found.cosine, found.noise) == (pytest.approx(24 / 25), pytest.approx(2 / 25))
    assert found.excess > 200


def test_the_worst_output_counts_and_requests_are_averaged() -> None:
    found = agreement([[X, X], [X, X]], [[X, -X], [X, X]])
    assert (found.cosine, found.noise) == (0.0, 2.0)


@pytest.mark.parametrize(
    "found", [np.array([[np.nan, 4]], np.float32), np.array([[3, np.inf]], np.float32), X[:, :1], X.astype(np.float64)]
)
def test_what_is_not_finite_or_of_another_kind_does_not_agree(found: np.ndarray) -> None:
    assert (one(X, found).cosine, one(X, found).noise) == (0.0, 1.0)


def test_infinities_that_the_original_answers_are_left_aside() -> None:
    assert one(np.array([3.0, -np.inf], np.float32), np.array([3.0, -65504], np.float32)).cosine == 1.0


def test_whole_numbers_agree_where_they_are_equal() -> None:
    found = one(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]))
    assert (found.cosine, found.noise) == (0.75, 0.25)


def test_zeros_agree_with_zeros_only() -> None:
    zero = np.zeros(2, np.float32)
    assert (one(zero, zero).cosine, one(zero, X[0]).cosine) == (1.0, 0.0)


def test_a_spread_has_both_ends_and_no_more_than_asked() -> None:
    assert spread(range(100), 5) == [0, 25, 50, 74, 99]
    assert spread("abc", 5) == ["a", "b", "c"]


def test_decibels_can_be_written_down() -> None:
    assert (decibel(0.001), decibel(0), decibel(1)) == (pytest.approx(30), 200, 0)


def test_a_reference_compares_by_output() -> None:
    request = {"a": X, "b": X / 2}
    reference = Reference(onnx.load_from_string(two_outputs()), [request] * 3)
    assert reference.compare(onnx.load_from_string(two_outputs())).cosine == 1.0
    with pytest.raises(StageFailed, match="the changed model fails on a calibration request"):
        reference.compare(onnx.load_from_string(affine()))


def test_a_model_that_fails_on_a_request_is_named(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"the model fails on a calibration request: .*out of data bounds"):
        Reference(onnx.load_from_string(lookup()), [{"index": np.array([[9]])}])
