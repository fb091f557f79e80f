"""Which inputs are edges, and what is a fault at one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from optimizer.checks.edges import fails_at, judge_edge, value_edges
from server.backends.base import Array, BatchError

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


def judge(wanted: Array, found: Array) -> tuple[float | None, str | None]:
    edge = judge_edge("zeros", 0, {"y": wanted}, lambda: {"y": found}, BatchError)
    return edge.cosine, edge.fault


def test_faults() -> None:
    good = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert judge(good, good) == (1.0, None)
    assert judge(good, good[:1]) == (None, "output 'y' has shape [1, 2], not [2, 2]")
    assert judge(good, np.where(good == 4, np.nan, good)) == (None, "output 'y' is not finite where the original is")
    assert judge(np.where(good == 4, np.nan, good), good) == (1.0, None), "what PyTorch does not answer is not asked for"
    assert judge(np.array([[1]]), np.array([[2]])) == (None, None)
    assert judge_edge("zeros", 0, {"z": good}, lambda: {"y": good}, BatchError).fault == "there is no output 'z'"


def test_a_failure_is_a_fault() -> None:
    def broken() -> Mapping[str, Array]:
        raise BatchError("index out of range")

    edge = judge_edge("ids at their greatest", 8, {"y": np.ones((1, 2))}, broken, BatchError)
    assert fails_at([edge]) == (
        "ids at their greatest, 1 row of length 8: the candidate fails, where PyTorch does not: index out of range"
    )


def test_the_gate_names_the_edge() -> None:
    edge = judge_edge("zeros", 0, {"y": np.array([[1.0, 0.0]])}, lambda: {"y": np.array([[1.0, 1.0]])}, BatchError)
    reason = fails_at([edge])
    assert reason == "zeros, 1 row: cosine 0.7071 to the original's answer, at least 0.9 was asked for"
    assert fails_at([edge], least_cosine=0.7) is None
    assert edge.to_json() == {"name": "zeros", "rows": 1, "length": 0, "cosine": edge.cosine, "fault": None}
