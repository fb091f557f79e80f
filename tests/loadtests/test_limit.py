from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtests.errors import MissingData
from loadtests.limit import FIXED_SIZES, MIXED_SIZES, InProcess, Placement, Setting, model_file, padded
from tests.loadtests.models import publish, sentence

SENTENCES = [sentence(1, 2, 3), sentence(9), sentence(4, 5)]
IMAGES = [{"x": np.full((1, 64), n, "f4")} for n in range(3)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    publish(tmp_path)
    return tmp_path


def test_the_highest_version_is_taken_unless_told(repository: Path) -> None:
    assert model_file(repository, "digits").parent.name == "2"
    assert model_file(repository, "digits", "1").parent.name == "1"
    with pytest.raises(MissingData, match="publish"):
        model_file(repository, "digits", "3")
    with pytest.raises(MissingData, match="nothing"):
        model_file(repository, "nothing")


def test_rows_are_padded_with_zeros_to_the_longest() -> None:
    batch = padded(SENTENCES)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [9, 0, 0], [4, 5, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert batch["input_ids"].dtype == np.int64


def test_rows_of_one_shape_are_swept_over_all_batch_sizes(repository: Path) -> None:
    model = InProcess(model_file(repository, "digits"), IMAGES, n_threads=2)
    assert not model.mixed
    sweep = model.sweep(0.001)
    assert {(one.placement, one.rows) for one in sweep.rows_per_s} == {(p, n) for p in Placement for n in FIXED_SIZES}
    assert all(rate > 0 for rate in sweep.rows_per_s.values())
    assert sweep.rows_per_s[sweep.best] == max(sweep.rows_per_s.values())


def test_rows_of_mixed_lengths_are_swept_in_whole_passes(repository: Path) -> None:
    model = InProcess(model_file(repository, "minilm"), SENTENCES, n_threads=2)
    assert model.mixed
    sweep = model.sweep(0.001)
    assert {one.rows for one in sweep.rows_per_s} == set(MIXED_SIZES)
    assert all(rate > 0 for rate in sweep.rows_per_s.values())


def test_mixed_batches_are_sorted_by_length_and_hold_every_row_once(repository: Path) -> None:
    model = InProcess(model_file(repository, "minilm"), SENTENCES, n_threads=1)
    assert [batch["input_ids"].tolist() for batch in model._batches(2)] == [[[1, 2, 3], [4, 5, 0]], [[9]]]


def test_one_thread_has_one_placement(repository: Path) -> None:
    model = InProcess(model_file(repository, "digits"), IMAGES, n_threads=1)
    assert {one.placement for one in model.settings()} == {Placement.WIDE}
    assert str(Setting(Placement.WIDE, 8)) == "1 caller x N threads, batches of 8"


def test_outputs_have_names(repository: Path) -> None:
    model = InProcess(model_file(repository, "digits"), IMAGES, n_threads=1)
    assert {name: array.tolist() for name, array in model.outputs(IMAGES[1]).items()} == {"y": [[2.0] * 64]}


def test_rows_the_model_refuses_are_one_clear_error(repository: Path) -> None:
    file = model_file(repository, "digits")
    with pytest.raises(MissingData, match="cannot run"):
        InProcess(file, SENTENCES)
    with pytest.raises(MissingData, match="no rows"):
        InProcess(file, [])
    with pytest.raises(MissingData, match="cannot run"):
        InProcess(file.with_name("other.onnx"), IMAGES)
