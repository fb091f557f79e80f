from __future__ import annotations

from pathlib import Path

import numpy as np

from loadtests.limit import model_file
from loadtests.peers.servers.setup import OnnxModel, Setup, padded
from tests.loadtests.models import publish, sentence


def test_arrays_of_different_lengths_are_filled_up_with_zeros() -> None:
    found = padded([np.array([[1, 2]]), np.array([[3], [4]]), np.array([[5, 6, 7]])])
    assert found.tolist() == [[1, 2, 0], [3, 0, 0], [4, 0, 0], [5, 6, 7]]
    assert found.dtype == np.int64


def test_arrays_that_are_alike_are_only_put_together() -> None:
    images = [np.full((1, 3, 2), n, np.float32) for n in range(2)]
    np.testing.assert_array_equal(padded(images), np.concatenate(images))


def test_sentences_of_different_lengths_are_one_run_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    publish(tmp_path)
    file = str(model_file(tmp_path, "minilm"))
    model = OnnxModel(Setup(file, "127.0.0.1", 0, 4, 1.0, workers=1, threads=1, queue=0, timeout_ms=0.0, n_rows=1))
    found = model.run_many([sentence(5, 9), sentence(7), sentence(1, 2, 3)])
    assert [one["sentence"].tolist() for one in found] == [[[9]], [[7]], [[3]]]
