"""Which inputs are edges."""

from __future__ import annotations

import numpy as np

from optimizer.checks.edges import value_edges

IDS = [{"ids": np.array([[3, 9, 4]]), "mask": np.array([[1, 1, 0]])}, {"ids": np.array([[7, 2]]), "mask": np.array([[1, 1]])}]


def test_ids_go_to_both_ends_and_masks_stay() -> None:
    edges = value_edges(IDS, {"ids": np.array([[3, 9]]), "mask": np.array([[1, 0]])})
    assert {name: given["ids"].tolist() for name, given in edges.items()} == {
        "zeros": [[0, 0]], "ids at their least": [[2, 2]], "ids at their greatest": [[9, 9]],
    }  # fmt: skip
    assert all(given["mask"].tolist() == [[1, 0]] for given in edges.values())


def test_numbers_go_to_the_samples_extremes() -> None:
    singles = [{"x": np.array([[-2.5, np.inf]], np.float32)}, {"x": np.array([[1.0, 4.0]], np.float32)}]
    edges = value_edges(singles, {"x": np.ones((1, 2), np.float32)})
    assert {name: given["x"].tolist() for name, given in edges.items()} == {
        "zeros": [[0, 0]], "numbers at their least": [[-2.5, -2.5]], "numbers at their greatest": [[4, 4]],
    }  # fmt: skip
    assert all(given["x"].dtype == np.float32 for given in edges.values())


def test_texts_and_masks_alone_have_no_such_edges() -> None:
    words = np.array([[b"a"]], dtype=object)
    assert value_edges([{"text": words, "mask": np.array([[1]])}], {"text": words, "mask": np.array([[1]])}) == {}
