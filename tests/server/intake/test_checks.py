"""The gates: each lets a good model through and names what is wrong with a bad one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from server.backends.base import Array, BatchError
from server.contract.manifest import Ragged
from server.contract.tensors import DataType, TensorSpec
from server.intake.checks import by_cosine, check_padding, check_rows, cosines, excess, pad_inputs, run_checked
from server.intake.errors import IntakeError
from server.intake.samples import made_up_samples
from tests.server.intake.fakes import IDS, MASK, MEAN, FakeSession, Function, doubled, masked_mean, plain_mean

RAGGED = Ragged("length", 1, 16, {"ids": 0, "mask": 0}, mixes=False)


def rows_verdict(function: Function, max_rows: int = 8) -> str:
    session = FakeSession(function)
    try:
        check = check_rows(session, session.signature, made_up_samples(session.signature, 0), max_rows, (0,))
    except IntakeError as error:
        return str(error)
    return f"{check.name} {'passed' if check.passed else 'failed'}: {check.detail}"


def nan(*values: float) -> Array:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("found", "wanted", "is_same"),
    [
        (nan(1.0), nan(1.0), True),
        (nan(1.0005), nan(1.0), True),
        (nan(1.01), nan(1.0), False),
        (nan(math.nan), nan(math.nan), True),
        (nan(math.nan), nan(1.0), False),
        (nan(1.0), nan(math.nan), False),
        (nan(math.inf), nan(math.inf), True),
        (nan(math.inf), nan(-math.inf), False),
        (nan(1.0), nan(math.inf), False),
        (nan(1.0, 2.0), nan(1.0), False),
        (nan(), nan(), True),
        (np.array([1]), np.array([1]), True),
        (np.array([1]), np.array([2]), False),
        (np.array([b"a"], object), np.array([b"a"], object), True),
    ],
)
def test_when_two_answers_are_the_same(found: Array, wanted: Array, is_same: bool) -> None:
    assert (excess(found, wanted) <= 1) is is_same


@pytest.mark.parametrize(
    ("found", "wanted", "is_alike"),
    [
        (nan(1.0, 0.0), nan(1.0, 0.0), True),
        (nan(1.0, 0.1), nan(1.0, 0.0), True),
        (nan(1.0, 0.2), nan(1.0, 0.0), False),
        (nan(0.0, 1e-5), nan(0.0, -1e-5), True),  # by the usual tolerance
        (nan(math.inf, 1.0, 0.1), nan(math.inf, 1.0, 0.0), True),
        (nan(math.nan, 1.0), nan(0.5, 1.0), False),
        (nan(1.0), nan(1.0, 1.0), False),
        (np.array([1, 2]), np.array([1, 3]), False),
    ],
)
def test_when_coarse_answers_are_alike(found: Array, wanted: Array, is_alike: bool) -> None:
    assert (by_cosine(0.99)(found[None], wanted[None]) <= 1) is is_alike


def test_the_cosine_of_each_row() -> None:
    found, wanted = nan(3, 4, 0, 0, 1, 0).reshape(3, 2), nan(4, 3, 0, 0, 0, 0).reshape(3, 2)
    assert cosines(found, wanted) == [pytest.approx(0.96), 1.0, 0.0]


def test_coarse_rows_may_share_a_batch() -> None:
    """As in int8, where the scale is taken over the whole batch."""

    def rounded(inputs: Mapping[str, Array]) -> list[Array]:
        step = np.abs(inputs["x"]).max() / 127
        return [(np.round(inputs["x"] / step) * step).astype(np.float32)]

    assert "changes when it shares a batch" in rows_verdict(rounded)
    session = FakeSession(rounded)
    samples = made_up_samples(session.signature, 0)
    assert check_rows(session, session.signature, samples, 8, (0,), by_cosine(0.99)).passed


def test_rows_that_stay_apart_pass() -> None:
    assert rows_verdict(doubled) == "rows passed: up to 8 rows; worst deviation 0 of the tolerance"
    assert rows_verdict(doubled, max_rows=1) == "rows passed: up to 1 rows; worst deviation 0 of the tolerance"


def test_a_model_that_always_answers_nan_is_consistent_at_least() -> None:
    assert rows_verdict(lambda inputs: [np.full_like(inputs["x"], np.nan)]).startswith("rows passed")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda i: [i["x"] - i["x"].mean(0)], "output 'y' of a row changes when it shares a batch of 2 ("),
        (lambda i: [np.where(len(i["x"]) > 2, np.nan, i["x"])], "output 'y' of a row changes when it shares a batch of 3 (inf"),
        (lambda i: [i["x"].sum(0, keepdims=True)], "output 'y' has shape [1, 4] for x [2, 4]: one row in must be one row out"),
        (lambda i: [np.float32(1)], "output 'y' has shape [] for x [1, 4]: one row in must be one row out"),
        (lambda i: [np.repeat(i["x"], 2, 0)], "output 'y' has shape [2, 4] for x [1, 4]"),
    ],
)
def test_rows_that_influence_each_other_are_refused(function: Function, message: str) -> None:
    assert message in rows_verdict(function)


def test_the_remedy_is_named() -> None:
    assert "is the module in eval mode?); set max_rows to 1" in rows_verdict(lambda i: [i["x"] - i["x"].mean(0)])


def test_integer_inputs_show_rows_that_influence_each_other_too() -> None:
    session = FakeSession(lambda i: [(i["ids"] * i["mask"] - i["ids"].mean(0)).sum(1, keepdims=True)], [IDS, MASK], [MEAN])
    with pytest.raises(IntakeError, match="'mean' of a row changes when it shares a batch"):
        check_rows(session, session.signature, made_up_samples(session.signature, 16), 8, (16,))


def test_a_batch_that_fails_names_the_shapes_and_the_reason() -> None:
    def picky(inputs: Mapping[str, Array]) -> list[Array]:
        if len(inputs["x"]) > 3:
            raise BatchError("too many rows for me")
        return [inputs["x"]]

    assert rows_verdict(picky) == "the model fails on x [8, 4]: too many rows for me"


def test_run_checked_returns_the_outputs() -> None:
    session = FakeSession(doubled)
    (output,) = run_checked(session, session.signature, {"x": np.ones((2, 4), np.float32)})
    assert output.tolist() == [[2] * 4] * 2


def padding_verdict(function: Function, output: TensorSpec = MEAN) -> tuple[bool, str]:
    session = FakeSession(function, [IDS, MASK], [output])
    samples = made_up_samples(session.signature, 16)
    check = check_padding(session, session.signature, samples, RAGGED)
    return check.passed, check.detail


def test_padding_that_keeps_every_answer() -> None:
    assert padding_verdict(masked_mean) == (True, "padding keeps every answer; worst deviation 0 of the tolerance")


def test_padding_that_changes_answers_forbids_to_mix_lengths() -> None:
    passed, detail = padding_verdict(plain_mean)
    assert not passed
    assert detail.startswith("padding changes answers (")
    assert detail.endswith("only equal lengths will share a batch")


def test_outputs_that_have_the_ragged_axis_are_cut_before_the_comparison() -> None:
    per_token = TensorSpec("next", DataType.INT64, ("n", "length"))
    assert padding_verdict(lambda i: [i["ids"] + 1], per_token)[0]
    assert not padding_verdict(lambda i: [i["ids"] + i["mask"].shape[1]], per_token)[0]
    unnamed = TensorSpec("next", DataType.INT64, ("n", "other"))
    assert not padding_verdict(lambda i: [i["ids"] + 1], unnamed)[0], "an axis of another name is not cut"


def test_each_input_gets_its_own_pad_value_and_others_none() -> None:
    ragged = Ragged("length", 1, 16, {"ids": 7}, mixes=False)
    extra = TensorSpec("extra", DataType.FP32, ("n", 2))
    inputs = {"ids": np.array([[1, 2]]), "mask": np.array([[1, 1]]), "extra": np.zeros((1, 2), np.float32)}
    padded = pad_inputs(inputs, [IDS, MASK, extra], ragged, 4)
    assert {name: array.tolist() for name, array in padded.items()} == {
        "ids": [[1, 2, 7, 7]], "mask": [[1, 1, 0, 0]], "extra": [[0, 0]]
    }  # fmt: skip
